"""LNS-Madam: accuracy against the bits of the update and of the products.

    python experiments/lns_madam.py update-bits-digits
    python experiments/lns_madam.py update-bits-fashion --data-dir /usr/share/datasets/fashion-mnist
    python experiments/lns_madam.py product-bits
    python experiments/lns_madam.py lns-digits
    python experiments/lns_madam.py lns-wikitext --data-dir DIR --note "which text this is"

`update-bits-*`: products in float32; after every step the weights are rounded to an LNS of so many
bits (for SGD, Adam, AdamW), or live in its codes (LNS-Madam). `product-bits`: LNS-Madam with
16-bit weights, products in an LNS of so many bits and such a base factor. `lns-*`: everything at
8 bits beside float32.
"""

from runs import main

BITS = (16, 14, 12, 10, 8)
ADDITIVE = {"SGD": "sgd", "Adam": "adam", "AdamW": "adamw"}


def update_bits() -> dict[str, list[str]]:
    """Label -> flags for every rule, bit width and rounding."""
    runs = {f"{name} float32": ["--optimizer", key] for name, key in ADDITIVE.items()}
    runs["Madam float32"] = ["--optimizer", "madam"]
    for bits in BITS:
        for rounding in ("nearest", "stochastic") if bits <= 10 else ("nearest",):
            for name, key in ADDITIVE.items():
                flags = ["--optimizer", key, "--set", f"update_format=lns{bits}"]
                runs[f"{name} {bits} bits, {rounding}"] = [
                    *flags,
                    "--set",
                    f"update_rounding={rounding}",
                ]
            flags = ["--optimizer", "lns-madam", "--format", "none"]
            flags += ["--set", f"update_format=lns{bits}", "--set", f"rounding={rounding}"]
            runs[f"LNS-Madam {bits} bits, {rounding}"] = flags
    return runs


def product_bits() -> dict[str, list[str]]:
    """Label -> flags: both passes alike, then one of them at 8 bits."""
    lns = ["--optimizer", "lns-madam", "--format"]
    runs = {"float32 products": [*lns, "none"]}
    for bits in (8, 7, 6, 5, 4):
        for factor in (1, 2, 4, 8, 16, 32):
            name = f"lns{bits}_b{factor}"
            flags = [*lns, name, "--set", f"backward_format={name}"]
            runs[f"{bits} bits, base factor {factor}"] = flags
    for bits in (8, 7, 6, 5, 4):
        runs[f"{bits} bits, backward at half the base factor"] = [*lns, f"lns{bits}"]
        if bits == 8:
            continue
        runs[f"forward {bits} bits, backward 8"] = [
            *lns, f"lns{bits}", "--set", "backward_format=lns8_b4",
        ]  # fmt: skip
        runs[f"forward 8 bits, backward {bits}"] = [
            *lns, "lns8", "--set", f"backward_format=lns{bits}",
        ]  # fmt: skip
        runs[f"{bits} bits, backward stochastic"] = [
            *lns, f"lns{bits}", "--set", "backward_rounding=stochastic",
        ]  # fmt: skip
        runs[f"{bits} bits, blocks of 32"] = [
            *lns, f"lns{bits}", *block_scales(32),
        ]  # fmt: skip
        runs[f"forward {bits} bits in blocks of 32, backward 8"] = [
            *lns, f"lns{bits}", *block_scales(32), "--set", "backward_format=lns8_b4",
        ]  # fmt: skip
    return runs


def block_scales(size: int) -> list[str]:
    """Flags: a scale for every so many numbers, in all four places."""
    places = ("weight", "activation", "error", "gradient")
    return [part for place in places for part in ("--set", f"{place}_scale=block{size}")]


ALL_LNS = {
    "AdamW float32": ["--optimizer", "adamw"],
    "Madam float32": ["--optimizer", "madam"],
    "AdamW, products in LNS8": ["--optimizer", "adamw", "--format", "lns8"],
    "Madam, products in LNS8": ["--optimizer", "madam", "--format", "lns8"],
    "LNS-Madam, LNS8 and 16-bit weights": ["--optimizer", "lns-madam", "--format", "lns8"],
}
SMALL_RESNET = ["--set", "width=8", "--set", "train_examples=15000"]
EXPERIMENTS = {
    "update-bits-digits": {
        "recipe": "digits-cnn",
        "runs": update_bits(),
        "common": [],
        "seeds": [0, 1, 2],
    },
    "update-bits-fashion": {
        "recipe": "fashion-resnet18",
        "runs": {
            label: flags for label, flags in update_bits().items() if "stochastic" not in label
        },
        "common": ["--epochs", "2", "--schedule", "cosine", *SMALL_RESNET],
        "seeds": [0],
    },
    "product-bits": {
        "recipe": "digits-mlp",
        "runs": product_bits(),
        "common": [],
        "seeds": [0],
    },
    "lns-digits": {
        "recipe": "digits-cnn",
        "runs": ALL_LNS,
        "common": [],
        "seeds": [0, 1, 2],
    },
    "lns-wikitext": {
        "recipe": "wikitext2-transformer",
        "runs": {
            "LNS-Madam, LNS8 and 16-bit weights": ALL_LNS["LNS-Madam, LNS8 and 16-bit weights"]
        },
        "common": ["--epochs", "1", "--set", "train_tokens=500000"],
        "seeds": [0],
    },
}

if __name__ == "__main__":
    main(__doc__.split("\n")[0], EXPERIMENTS)

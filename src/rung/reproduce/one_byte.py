"""The arena: who trains best on how few bytes a weight, every rival's learning rate tuned."""

from dataclasses import replace

from rung.reproduce.contest import Budget, Contest, Contestant, Size
from rung.reproduce.tasks import row

_WIDE = "scale_bound=10"
# As many for each, around what is best on the four tasks.
_ADAM = (1e-3, 2e-3, 3e-3, 4e-3, 8e-3)
_MADAM = (0.01, 0.02, 0.04, 0.08, 0.16)
_LNS = (0.0144, 0.0289, 0.0577, 0.1154, 0.2308)  # the same in octaves
_LMD = (0.012, 0.02, 0.035, 0.06, 0.1)
# Where the best of these was the first or the last: five that go on beyond it.
_SHIFTED: dict[str, dict[tuple[float, ...] | None, tuple[float, ...]]] = {
    "characters": {
        _MADAM: (0.02, 0.04, 0.08, 0.16, 0.32),
        _LNS: (0.0289, 0.0577, 0.1154, 0.2308, 0.4616),
    },
    "digits-vit": {_LNS: (0.0072, 0.0144, 0.0289, 0.0577, 0.1154)},
    "tokens": {
        _ADAM: (5e-4, 1e-3, 2e-3, 3e-3, 4e-3),
        _LMD: (0.007, 0.012, 0.02, 0.035, 0.06),
    },
}

# torchao's layers of int8 weights take one type throughout; it has no convolutions.
_INT8 = Contestant(
    label="AdamW 8-bit, int8 weights",
    optimizer="adamw-int8",
    settings=("precision=float32",),
    rates=_ADAM,
)
RIVALS = (
    Contestant(label="AdamW", optimizer="adamw", rates=_ADAM),
    Contestant(label="AdamW in bf16", optimizer="adamw-bf16", rates=_ADAM),
    Contestant(label="AdamW 8-bit", optimizer="adamw-8bit", rates=_ADAM),
    Contestant(label="AdamW 8-bit, bf16 weights", optimizer="adamw-8bit-bf16", rates=_ADAM),
    _INT8,
    Contestant(label="Madam", optimizer="madam", settings=(_WIDE,), rates=_MADAM),
    *(
        Contestant(
            label=f"Madam {bits} bits",
            optimizer="bbit-madam",
            format=f"ladder{bits}",
            settings=(_WIDE,),
            rates=_MADAM,
        )
        for bits in (12, 10, 8)
    ),
    # What the small rival of ours wants besides its rate, where the recipes' own is 0.001.
    Contestant(
        label="Madam 8 bits, biases and gains at 0.004",
        optimizer="bbit-madam",
        format="ladder8",
        settings=(_WIDE, "additive_lr=0.004"),
        rates=_MADAM,
    ),
    *(
        Contestant(
            label=f"LNS-Madam {bits} bits",
            optimizer="lns-madam",
            format="none",
            settings=(f"update_format=lns{bits}", "rounding=stochastic", _WIDE),
            rates=_LNS,
        )
        for bits in (16, 12, 10, 8)
    ),
    Contestant(label="LMD", optimizer="lmd", rates=_LMD),
)
"""Every other way to train, its learning rate tuned."""
# No setting of a task's own, nor any other than the defaults: experiments/one-byte.md.
OURS = Contestant(label="signed Madam 8 bits", optimizer="signed-madam")
"""Its variants are `rung.reproduce.one_byte_why`'s."""
PLAIN = replace(OURS, label="signed Madam 8 bits, no momentum", settings=("momentum=0",))

_SMOKE = {
    "characters": (
        "width=16", "heads=2", "layers=1", "context=16", "batch_size=4", "steps_per_epoch=20",
    ),
    "tokens": (
        "width=16", "heads=2", "layers=1", "context=16", "batch_size=4", "steps_per_epoch=20",
        "eval_tokens=2000", "warmup_steps=0",
    ),
    "digits-vit": ("layers=1",),
    "cifar10": ("width=4", "train_examples=512"),
}  # fmt: skip
_CPU = {
    "characters": (
        "4 blocks of width 128, 1,000 steps of 8 windows of 64 characters",
        5,
        ("context=64", "batch_size=8", "steps_per_epoch=200", "warmup_steps=50"),
    ),
    "tokens": (
        "6 blocks of width 256, 500 steps of 8 windows of 64 of 4,096 tokens, in bfloat16",
        5,
        (
            "layers=6", "width=256", "heads=8", "context=64", "batch_size=8", "steps_per_epoch=100",
            "eval_tokens=40000", "warmup_steps=50", "final_lr_share=0", "precision=bf16",
        ),
    ),
    "digits-vit": (
        "4 blocks of width 64, 40 epochs of 45 steps with shifts",
        40,
        ("warmup_steps=90",),
    ),
    "cifar10": (
        "width 16, 2 epochs of 20,000 images, in bfloat16",
        2,
        ("width=16", "train_examples=20000", "precision=bf16"),
    ),
}  # fmt: skip
# Of the two tasks that can grow; trials of a tenth of the steps.
_FULL = {
    "tokens": Size(
        words="12 blocks of width 512, 9,155 steps of 64 windows of 512 tokens, in bfloat16",
        epochs=5,
        schedule="cosine",
        settings=(
            "layers=12", "width=512", "heads=8", "context=512", "batch_size=64",
            "steps_per_epoch=1831", "warmup_steps=450", "final_lr_share=0", "precision=bf16",
        ),
        tuning_settings=("steps_per_epoch=183", "warmup_steps=45"),
    ),
    "cifar10": Size(
        words="width 64, 30 epochs, in bfloat16",
        epochs=30,
        schedule="cosine",
        settings=("precision=bf16",),
        tuning_epochs=5,
    ),
}  # fmt: skip
# 360 test images: a run's loss moves by a fifth of itself with the seed, three say little.
_SEEDS_OF_DIGITS = (0, 1, 2, 3, 4, 5)


def sizes(name: str) -> dict[Budget, Size]:
    """How much of a task is trained, for every budget."""
    words, epochs, settings = _CPU[name]
    whole = Size(words=words, epochs=epochs, schedule="cosine", settings=settings)
    if name == "digits-vit":
        whole = replace(whole, seeds=_SEEDS_OF_DIGITS)
    return {
        "smoke": Size(
            words="a minute: says nothing",
            epochs=1,
            schedule="cosine",
            settings=_SMOKE[name],
            seeds=(0,),
        ),
        "cpu": whole,
        "full": _FULL.get(name, whole),
    }


def folder_of(name: str) -> str:
    """The folder of a task's runs, which the arena and the variants share."""
    return f"one-byte-{name}"


def _contestants(name: str) -> tuple[Contestant, ...]:
    shifted = _SHIFTED.get(name, {})
    rivals = (replace(c, rates=shifted.get(c.rates, c.rates)) for c in RIVALS)
    every = (*rivals, PLAIN, OURS)
    return tuple(c for c in every if c.label != _INT8.label) if name == "cifar10" else every


_EMBEDDED = "Embedded data."
_REMARKS = {
    "characters": _EMBEDDED,
    "tokens": "torchao's int8 weights compute in float32: its layers take no mixed types.",
    "digits-vit": _EMBEDDED,
    "cifar10": "torchao has int8 weights for linear layers alone: not among these.",
}
TITLES = {
    "characters": "characters of Python's documentation, GPT",
    "tokens": "WikiText-2 stand-in, GPT",
    "digits-vit": "scikit-learn's digits, ViT",
    "cifar10": "CIFAR-10, ResNet-18",
}

ONE_BYTE = Contest(
    name="one-byte",
    title="How few bytes a weight training takes",
    source="Ours",
    kind="arena",
    rows=tuple(
        row(
            name,
            folder=folder_of(name),
            title=title,
            contestants=_contestants(name),
            sizes=sizes(name),
            unit="loss, nats",
            factor=1.0,
            judged="loss",
            remark=_REMARKS[name],
        )
        for name, title in TITLES.items()
    ),
)

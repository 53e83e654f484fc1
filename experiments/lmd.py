"""LMD beside AdamW and Madam, under forward passes of fewer bits.

    python experiments/lmd.py tune-chars-short --jobs 2        first the four tune-*
    python experiments/lmd.py lmd-chars-short --jobs 2
    python experiments/lmd.py lmd-ablation --jobs 2

All models are small enough for two processor cores: chars-gpt with 2 blocks of width 64 that reads
8 windows of 64 characters a step, and digits-vit with 2 blocks of width 64, without augmentation.
"short" is about 700 steps, "long" about 5,000, cosine to 0. `tune-*` tries as many learning rates
for each optimizer, at seed 10; the best one, by validation loss (of digits-vit: by test loss, it
has no third part), is what the other experiments take, at seeds 0 to 2. LMD runs a second time with
the rate that it takes by itself.
"""

import json
from pathlib import Path

from runs import ROOT, main

CHARS = ["--set", "layers=2", "--set", "width=64", "--set", "context=64", "--set", "batch_size=8"]
VIT = ["--set", "layers=2", "--set", "crop_padding=0"]
BUDGETS = {
    # 140 steps an epoch, then 500: medians are looked at after each.
    "chars-short": ("chars-gpt", [*CHARS, "--set", "steps_per_epoch=140", "--epochs", "5"]),
    "chars-long": ("chars-gpt", [*CHARS, "--set", "steps_per_epoch=500", "--epochs", "10"]),
    # 45 batches an epoch.
    "vit-short": ("digits-vit", [*VIT, "--epochs", "16"]),
    "vit-long": ("digits-vit", [*VIT, "--epochs", "111"]),
}
TRIALS = {
    "AdamW": ("adamw", (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016)),
    "Madam": ("madam", (0.005, 0.01, 0.02, 0.04, 0.08, 0.16)),
    "LMD": ("lmd", (0.005, 0.01, 0.02, 0.035, 0.06, 0.1)),
}
FORMATS = {
    "float32": [],
    "MXFP6-E3M2": ["--format", "mxfp6_e3m2"],
    "MXFP6-E2M3": ["--format", "mxfp6_e2m3"],
    "MXFP4": ["--format", "mxfp4"],
}
SEEDS = [0, 1, 2]


def tuning(budget: str) -> dict:
    """Learning rates of every optimizer in float32, one seed that no other experiment has."""
    recipe, common = BUDGETS[budget]
    runs = {
        f"{name}, lr {lr}": ["--optimizer", key, "--lr", str(lr)]
        for name, (key, rates) in TRIALS.items()
        for lr in trials(budget, rates)
    }
    return {"recipe": recipe, "runs": runs, "common": common, "seeds": [10]}


def trials(budget: str, rates: tuple[float, ...]) -> tuple[float, ...]:
    """Six for a short run; for a long one, seven times the work, some around the best of those."""
    return rates[1:4] if budget == "chars-long" else rates


def tuned(budget: str) -> Path:
    """Results of the tuning that a budget's learning rates come from."""
    # Two cores have no time to tune the long runs of digits-vit.
    source = "vit-short" if budget == "vit-long" else budget
    return ROOT / "experiments" / "results" / f"tune-{source}.json"


def chosen(budget: str) -> dict[str, float]:
    """Optimizer -> learning rate of the lowest loss among its trials that finished."""
    best: dict[str, dict] = {}
    for row in json.loads(tuned(budget).read_text())["runs"]:
        name = row["label"].partition(",")[0]
        loss = row["loss"]["eval"]
        if row["status"] == "finished" and (name not in best or loss < best[name]["loss"]):
            best[name] = {"loss": loss, "lr": row["lr"]}
    return {name: found["lr"] for name, found in best.items()}


def flags(budget: str, name: str) -> list[str]:
    """Optimizer and tuned learning rate."""
    return ["--optimizer", TRIALS[name][0], "--lr", str(chosen(budget)[name])]


def comparison(budget: str) -> dict:
    """Three tuned optimizers, and LMD at its own rate, in several formats; long runs in float32."""
    recipe, common = BUDGETS[budget]
    formats = tuple(FORMATS) if budget.endswith("short") else ("float32",)
    rules = {name: flags(budget, name) for name in TRIALS}
    runs = {
        f"{rule}, {name}": [*given, *FORMATS[name]]
        for name in formats
        for rule, given in rules.items()
    }
    runs["LMD, default lr, float32"] = ["--optimizer", "lmd"]
    return {"recipe": recipe, "runs": runs, "common": common, "seeds": SEEDS}


def variants(budget: str, runs: dict[str, list[str]], optimizer: str = "LMD") -> dict:
    """Changes of one tuned optimizer."""
    recipe, common = BUDGETS[budget]
    changed = {label: [*flags(budget, optimizer), *change] for label, change in runs.items()}
    return {"recipe": recipe, "runs": changed, "common": common, "seeds": SEEDS}


def setting(*pairs: str) -> list[str]:
    return [part for pair in pairs for part in ("--set", pair)]


ABLATION = {
    "as it is": [],
    "no noise": setting("sigma=0"),
    "noise 0.2": setting("sigma=0.2"),
    "no regularizer": setting("regularization=0"),
    "exponential prior": setting("prior=exponential"),
    "regularization fixed at 0.1": setting("regularization=0.1"),
    "gradient not scaled by the weight": setting("weight_scaled=false"),
    "update by RMS": setting("update=rms"),
    "betas fixed at 0.5, 0.8": setting("beta1=0.5", "beta2=0.8"),
    "betas fixed at 0.9, 0.99": setting("beta1=0.9", "beta2=0.99"),
    "two samples a step": setting("samples=2"),
}
STORAGE = {name: setting(f"state={name}") for name in ("fp32", "bf16", "lns16", "lns12", "lns8")}
FOUR_BITS = {
    "MXFP4": ["--format", "mxfp4"],
    "no noise": ["--format", "mxfp4", *setting("sigma=0")],
    "noise as large as half a step": ["--format", "mxfp4", *setting("sigma=0.2")],
    "stochastic rounding": ["--format", "mxfp4", *setting("forward_rounding=stochastic")],
    "blocks of 16": ["--format", "mxfp4_k16"],
    "scale rule even": ["--format", "mxfp4+even"],
    "scale rule ceil": ["--format", "mxfp4+ceil"],
    "scale rule ceil, stochastic rounding": [
        "--format", "mxfp4+ceil", *setting("forward_rounding=stochastic"),
    ],
    "w+ and w- rounded apart": ["--format", "mxfp4", *setting("parts_format=mxfp4")],
}  # fmt: skip
BACKWARD = {
    "float32": ["--format", "mxfp6_e3m2"],
    **{
        f"{name}": ["--format", "mxfp6_e3m2", *setting(f"backward_format={name}")]
        for name in (
            "bf16", "mxfp8_e5m2", "mxfp8_e4m3", "mxfp8_e4m3+ceil", "mxfp6_e3m2", "mxfp6_e3m2+ceil",
            "mxfp4", "mxfp4+ceil",
        )
    },
    **{
        f"{name}, stochastic": [
            "--format", "mxfp6_e3m2",
            *setting(f"backward_format={name}", "backward_rounding=stochastic"),
        ]
        for name in ("mxfp4", "mxfp4+ceil")
    },
}  # fmt: skip
# MXFP6 and MXFP4 as in the comparison of optimizers, with scales that saturate nothing.
RULES = {
    f"{label}, scale rule {rule}": [*flag[:-1], f"{flag[-1]}+{rule}"]
    for label, flag in FORMATS.items()
    for rule in ("even", "ceil")
    if flag
}

# The long runs of digits-vit have no tuning: whether smaller rates would help LMD there.
LONG_RATES = {
    **{f"LMD, lr {lr}": ["--optimizer", "lmd", "--lr", str(lr)] for lr in (0.005, 0.01, 0.0141)},
    "AdamW, lr 0.004": ["--optimizer", "adamw", "--lr", "0.004"],
}

# What needs tuned rates is there once its tuning is: never at a recipe's default under that name.
EXPERIMENTS = {f"tune-{budget}": tuning(budget) for budget in BUDGETS if budget != "vit-long"}
EXPERIMENTS["lmd-vit-long-rates"] = {
    "recipe": BUDGETS["vit-long"][0], "runs": LONG_RATES, "common": BUDGETS["vit-long"][1],
    "seeds": [10],
}  # fmt: skip
EXPERIMENTS |= {f"lmd-{budget}": comparison(budget) for budget in BUDGETS if tuned(budget).exists()}
if tuned("chars-short").exists():
    shared = {
        k: v for k, v in FOUR_BITS.items() if not any("sigma" in f or "parts" in f for f in v)
    }
    EXPERIMENTS |= {
        "lmd-ablation": variants("chars-short", ABLATION),
        "lmd-storage": variants("chars-short", STORAGE),
        "lmd-four-bits": variants("chars-short", FOUR_BITS),
        "lmd-backward": variants("chars-short", BACKWARD),
        "lmd-rules": variants("chars-short", RULES),
        "adamw-four-bits": variants("chars-short", shared, "AdamW"),
        "adamw-backward": variants("chars-short", BACKWARD, "AdamW"),
    }

if __name__ == "__main__":
    main(__doc__, EXPERIMENTS)

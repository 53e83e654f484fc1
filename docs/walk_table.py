"""How far ln m of a weight walks under LMD when its gradient says nothing, and LMD's defaults."""

import inspect
import math
from typing import Any

import torch

from rung.optim import LMD
from rung.optim._lmd_rule import betas_of, default_lr

_STEPS = (700, 5000)
_SHARES = (1.0, 0.5, 0.25, 0.125, 0.0625)
_FIXED = ((0.5, 0.8), (0.9, 0.99))
_SHOWN = ("betas", "reach", "sigma", "prior", "regularization", "offset", "update", "samples")


def defaults() -> str:
    """Defaults of the constructor, and lr by the length of the run."""
    signature = inspect.signature(LMD).parameters
    lines = ["| argument | default |", "|---|---|"]
    lines.append(f"| `lr`, length of the run unknown | {default_lr(None):g} |")
    lines += [f"| `lr`, `total_steps={n}` | {default_lr(n):.3g} |" for n in (*_STEPS, 100_000)]
    lines += [f"| `{name}` | {signature[name].default!r} |" for name in (*_SHOWN, "additive_lr")]
    return "\n".join([*lines, ""])


def walk() -> str:
    """Stationary std of ln m where gradients are noise: momentum that follows lr, and fixed."""
    shares = " | ".join(f"{share:g}" for share in _SHARES)
    lines = [
        f"| std of ln m; share of the first lr that is left | {shares} |",
        "|---|" + "---:|" * len(_SHARES),
    ]
    for steps in _STEPS:
        first = default_lr(steps)
        betas = [following(first, share * first) for share in _SHARES]
        lines.append(row(f"first lr {first:.2g}, betas that follow lr", first, betas))
    first = default_lr(_STEPS[0])
    lines += [
        row(f"first lr {first:.2g}, betas fixed at {pair[0]:g}, {pair[1]:g}", first, [pair] * 5)
        for pair in _FIXED
    ]
    return "\n".join([*lines, ""])


def row(label: str, first: float, betas: list[tuple[float, float]]) -> str:
    """One line over the shares of lr."""
    stds = [
        walk_std(share * first, *pair, group_of(first)["regularization"])
        for share, pair in zip(_SHARES, betas, strict=True)
    ]
    return f"| {label} | " + " | ".join(f"{std:.2f}" for std in stds) + " |"


def following(first: float, lr: float) -> tuple[float, float]:
    """The betas that LMD takes by itself at a learning rate, having begun with another."""
    return betas_of({**group_of(first), "lr": lr})


def group_of(first: float) -> dict[str, Any]:
    """What LMD takes by itself at a first learning rate."""
    optimizer = LMD([torch.nn.Parameter(torch.tensor([1.0, 2.0]))], lr=first)
    return optimizer.param_groups[0]


def walk_std(lr: float, beta1: float, beta2: float, regularization: float) -> float:
    """Of x' = a x - lr sign(c), a = 1 - lr lambda, exact where h is independent normal noise.

    A sign's autocorrelation is 2/pi arcsin of c's, and c = (1 - beta1) h + beta1 v is linear.
    """
    ahead = 1 - beta1
    memory = beta1**2 * (1 - beta2) / (1 + beta2)
    variance = ahead**2 + memory
    keep = 1 - lr * regularization
    correlations, k = 0.0, 1
    while keep**k > 1e-12 and beta2**k > 1e-12:
        covariance = ahead * beta1 * (1 - beta2) * beta2 ** (k - 1) + memory * beta2**k
        correlations += keep**k * 2 / math.pi * math.asin(covariance / variance)
        k += 1
    return lr * math.sqrt((1 + 2 * correlations) / (1 - keep**2))

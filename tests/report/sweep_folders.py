"""Synthetic sweeps: a sweep.json whose numbers have realistic sizes; nothing was trained."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .run_folders import write_json

Outcome = Callable[[str, float, int | None, int], float | None]
"""From optimizer, lr, bits and seed to the final metric; None: the run diverged."""


def accuracy(optimizer: str, lr: float, bits: int | None, seed: int) -> float | None:
    """Madam keeps its accuracy at few bits, the additive rules lose it."""
    noise = np.random.default_rng([seed, round(1e6 * lr), bits or 0]).normal(0, 0.002)
    limit = {"sgd": 11.5, "adamw": 10.6}.get(optimizer, 8.5)
    lost = 0.0 if bits is None else 0.9 / (1 + math.exp(2.5 * (bits - limit + 0.8)))
    if optimizer == "sgd" and bits == 10 and seed == 1:
        return None
    peak = {"sgd": 0.05, "adamw": 0.002}.get(optimizer, 0.01)
    off = 0.012 * math.log10(lr / peak) ** 2
    return float(min(1.0, max(0.1, 0.985 - lost - off + noise)))


def write_sweep_folder(
    folder: Path,
    *,
    optimizers: Sequence[str] = ("sgd", "adamw", "lns-madam"),
    lrs: Sequence[float] | None = None,
    bits: Sequence[int] | None = (16, 14, 12, 10),
    seeds: Sequence[int] = (0, 1, 2),
    outcome: Outcome = accuracy,
    metric: str = "accuracy",
    waiting: int = 0,
) -> Path:
    """Write a sweep whose last `waiting` runs have not ended."""
    folder.mkdir(parents=True)
    default = {"sgd": 0.05, "adamw": 0.002}
    points = [
        (optimizer, lr, width, seed)
        for optimizer in optimizers
        for lr in lrs or (default.get(optimizer, 0.01),)
        for width in bits or (None,)
        for seed in seeds
    ]
    cells = [cell_of(*point, outcome(*point)) for point in points]
    for cell in cells[len(cells) - waiting :]:
        cell.update(status="unfinished", reason=None, final=None, best=None, seconds=None)
        cell.update(ms_per_step=None, weights_per_weight=None, state_per_weight=None)
    record = {
        "format_version": 1,
        "recipe": "digits-cnn",
        "command": "rung sweep digits-cnn --optimizer " + ",".join(optimizers),
        "grid": {
            "optimizer": list(optimizers),
            "lr": lrs and list(lrs),
            "bits": bits and list(bits),
            "seed": list(seeds),
            "format": None,
            "epochs": 3,
            "schedule": None,
            "data_dir": None,
            "set": {"train_examples": "64"},
        },
        "metric": {
            "name": metric,
            "split": "test",
            "higher_is_better": metric in ("accuracy", "f1"),
        },
        "cells": cells,
    }
    if waiting == len(cells):
        record["metric"] = None
    write_json(folder / "sweep.json", record)
    return folder


def cell_of(
    optimizer: str, lr: float, bits: int | None, seed: int, final: float | None
) -> dict[str, Any]:
    width = "" if bits is None else f"-{bits}bits"
    return {
        "folder": f"{optimizer}-lr{lr!r}{width}-seed{seed}",
        "optimizer": optimizer,
        "lr": lr,
        "bits": bits,
        "seed": seed,
        "format": None,
        "update_format": bits and f"lns{bits}",
        "status": "diverged" if final is None else "finished",
        "reason": "the training loss became nan at step 77" if final is None else None,
        "final": final,
        "best": final,
        "loss": {"train": 0.1, "eval": 0.2},
        "weights_per_weight": 4.0,
        "state_per_weight": 8.0,
        "ms_per_step": 7.5,
        "seconds": 21.0,
        "command": f"rung train digits-cnn --optimizer {optimizer} --lr {lr!r} --seed {seed}",
    }

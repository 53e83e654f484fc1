"""Synthetic run folders: the numbers have realistic sizes, and nothing was trained."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SMALL = (
    ("conv1.weight", "Conv2d", (16, 1, 3, 3)),
    ("conv1.bias", "Conv2d", (16,)),
    ("norm1.weight", "BatchNorm2d", (16,)),
    ("conv2.weight", "Conv2d", (32, 16, 3, 3)),
    ("conv2.bias", "Conv2d", (32,)),
    ("fc1.weight", "Linear", (96, 512)),
    ("fc1.bias", "Linear", (96,)),
    ("fc2.weight", "Linear", (10, 96)),
    ("fc2.bias", "Linear", (10,)),
)


def deep(count: int) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    return tuple((f"layers.{i}.attention.project", "Linear", (64, 64)) for i in range(count))


def write_run(
    folder: Path,
    *,
    layers: tuple[tuple[str, str, tuple[int, ...]], ...] = SMALL,
    format: str | None = "ladder8",
    optimizer: str = "bbit-madam",
    recipe: str = "digits-cnn",
    metric: str = "accuracy",
    seed: int = 0,
    lr: float = 0.01,
    final_lr: float = 0.002,
    steps: int = 600,
    evals: int = 12,
    status: str = "finished",
    final: float = 0.9911,
    bits: int = 8,
    **config: Any,
) -> Path:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    coded = [
        layer_entry(name, kind, shape, bits if format and len(shape) > 1 else None, rng)
        for name, kind, shape in layers
    ]
    records = metric_records(rng, steps, evals, lr, final_lr, metric, final, status == "diverged")
    environment = {
        "python": "3.11.9",
        "torch": "2.13.0",
        "rung": "0.1.0",
        "platform": "Linux-6.1-x86_64",
        "processor": "a made-up processor, 2 cores",
        "threads": 2,
        "commit": None,
    }
    settings = {
        "format_version": 1,
        "recipe": recipe,
        "optimizer": optimizer,
        "format": format,
        "seed": seed,
        "lr": lr,
        "epochs": evals,
        "schedule": "cosine",
        "batch_size": 32,
        "options": {"width": 1.0, "crop_padding": None},
        "data": "a fixture: 1,437 training and 360 test examples that nobody drew",
        "device": "cpu",
        "command": f"rung train {recipe} --optimizer {optimizer} --seed {seed}",
        "environment": environment,
        **config,
    }
    write_json(folder / "config.json", settings)
    if optimizer == "lmd":
        records += medians_records(layers, steps, evals)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    depth = sum(len(shape) > 1 for _, _, shape in layers)
    gammas = [layer["angle"] for layer in coded if layer["angle"] is not None]
    diagnostics = {
        "step": steps,
        "lr": final_lr,
        "depth": depth,
        "descent_bound": min((1 + math.cos(g)) ** (1 / depth) - 1 for g in gammas),
        "layers": coded,
    }
    write_json(folder / "diagnostics.json", diagnostics)
    if status != "unfinished":
        values = [r["metric"][metric] for r in records if r["kind"] == "eval"]
        write_json(folder / "summary.json", summary_of(settings, coded, values, metric, status))
    return folder


def medians_records(
    layers: tuple[tuple[str, str, tuple[int, ...]], ...], steps: int, evals: int
) -> list[dict[str, Any]]:
    rng = np.random.default_rng(7)
    records = []
    for index in range(evals + 1):
        tensors = []
        for name, kind, shape in layers:
            if len(shape) < 2:
                continue
            weights = rng.normal(0, 1, math.prod(shape))
            grown = rng.normal(0, 0.15 * math.sqrt(index) + 1e-9, (2, weights.size))
            sides = {
                side: side_entry(np.log(np.maximum(sign * weights, 0) + 0.1) + grown[place])
                for place, (side, sign) in enumerate((("positive", 1), ("negative", -1)))
            }
            tensors.append({"name": name, "kind": kind, "numel": weights.size, "m0": 0.02} | sides)
        records.append(
            {"kind": "medians", "step": steps * index // evals, "epoch": index, "tensors": tensors}
        )
    return records


def side_entry(logs: Any) -> dict[str, Any]:
    counts, edges = np.histogram(logs, bins=60)
    mean, std = float(logs.mean()), float(logs.std())
    standard = np.sort((logs - mean) / std)
    normal = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in standard])
    return {
        "low": float(edges[0]),
        "high": float(edges[-1]),
        "mean": mean,
        "std": std,
        "skewness": float((standard**3).mean()),
        "excess_kurtosis": float((standard**4).mean() - 3),
        "ks": float(np.abs(np.arange(1, logs.size + 1) / logs.size - normal).max()),
        "counts": counts.tolist(),
    }


def layer_entry(name: str, kind: str, shape: tuple[int, ...], bits: int | None, rng: Any) -> Any:
    numel = math.prod(shape)
    scale = 1 / math.sqrt(max(1, math.prod(shape[1:])))
    sizes = np.abs(rng.normal(0, scale, min(numel, 20_000)))
    zeros = 0
    if name.endswith("bias"):
        sizes[: len(sizes) // 4] = 0
        zeros = int((sizes == 0).sum())
    rungs = None
    if bits:
        spacing = 4.095 / (2**bits - 1)
        codes = np.clip(np.round(-np.log(sizes / (3 * scale)) / spacing), 0, 2**bits - 1)
        sizes = 3 * scale * np.exp(-codes * spacing)
        counts, _ = np.histogram(codes, bins=min(2**bits, 256), range=(-0.5, 2**bits - 0.5))
        rungs = {"bits": bits, "base_precision": spacing, "counts": counts.tolist()}
    counts, edges = np.histogram(np.log(sizes[sizes > 0]), bins=100)
    return {
        "name": name,
        "kind": kind,
        "shape": list(shape),
        "numel": numel,
        "format": f"ladder{bits}" if bits else "float32",
        "weight_bytes": numel * (bits > 8) + numel + 4 if bits else 4 * numel,
        "state_bytes": 2 * numel if bits else 8 * numel,
        "angle": float(rng.uniform(0.7, 1.2)) if len(shape) > 1 else None,
        "log_abs_w": {"edges": edges.tolist(), "counts": counts.tolist(), "zeros": zeros},
        "rungs": rungs,
    }


def metric_records(
    rng: Any,
    steps: int,
    evals: int,
    lr: float,
    final_lr: float,
    metric: str,
    final: float,
    diverged: bool,
) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for step in range(10, steps + 1, 10):
        done = step / steps
        loss = (2.3 * math.exp(-6 * done) + 0.02) * math.exp(rng.normal(0, 0.25))
        now = final_lr + (lr - final_lr) * (1 + math.cos(math.pi * done)) / 2
        if diverged and done > 0.8:
            loss *= 10 ** (40 * (done - 0.8))
        broken = diverged and step == steps
        records.append(
            {"kind": "train", "step": step, "epoch": 0, "loss": None if broken else loss}
            | {"lr": now, "seconds": step / 50}
        )
    for index in range(1, evals + 1):
        done = index / evals
        start = 0.1 if metric in ("accuracy", "f1") else 10 * final
        value = final - (final - start) * math.exp(-5 * done) * abs(rng.normal(1, 0.1))
        broken = diverged and index == evals
        records.append(
            {"kind": "eval", "step": steps * index // evals, "epoch": index - 1, "split": "test"}
            | {"loss": None if broken else 2.3 * math.exp(-4 * done) + 0.03}
            | {"metric": {metric: value}, "seconds": 0.1}
        )
    return records


def summary_of(
    config: dict[str, Any], layers: list[Any], values: list[float], metric: str, status: str
) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    for layer in layers:
        name = f"{layer['kind']} {'weights' if len(layer['shape']) > 1 else 'norms and biases'}"
        part = parts.setdefault(
            name, {"name": name, "numel": 0, "weight_bytes": 0, "state_bytes": 0}
        )
        for key in ("numel", "weight_bytes", "state_bytes"):
            part[key] += layer[key]
    numel, weights, state = (
        sum(layer[key] for layer in layers) for key in ("numel", "weight_bytes", "state_bytes")
    )
    higher = metric in ("accuracy", "f1")
    return {
        "format_version": 1,
        **{key: config[key] for key in ("recipe", "optimizer", "format", "seed")},
        "status": status,
        "metric": {
            "name": metric,
            "split": "test",
            "higher_is_better": higher,
            "final": values[-1] if values else None,
            "best": (max if higher else min)(values) if values else None,
        },
        "loss": {"train": 0.02, "eval": 0.03},
        "parameters": numel,
        "bytes": {
            "weights": weights,
            "state": state,
            "weights_per_weight": weights / numel,
            "state_per_weight": state / numel,
        },
        "by_part": list(parts.values()),
        "time": {"seconds": 12.3, "steps": 600, "ms_per_step": 18.4},
        "skipped_steps": 0,
        "command": config["command"],
        "environment": config["environment"],
    }


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


def edit_json(path: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text())
    change(value)
    write_json(path, value)

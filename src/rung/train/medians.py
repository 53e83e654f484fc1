"""What LMD's medians look like: histograms of their logarithms beside a normal distribution.

If weights are differences of log-normal numbers, ln w+ and ln w- over a tensor are normal.
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from rung.optim import LMD
from rung.theory import normal_fit
from rung.train.measure import Part, parts
from rung.train.session import Session

_BINS = 60
_TENSORS_OF_A_KIND = 12
# Enough for distances to the normal of 0.005; a large model must not wait for its histograms.
_VALUES = 16384


def medians_record(session: Session) -> dict[str, Any] | None:
    """A line of metrics.jsonl on all kinds of layers, or None for another optimizer than LMD.

    Of each kind of layer at most 12 tensors, evenly from first to last; of each tensor at most
    16,384 weights, evenly likewise. Logarithms are natural, of the medians m+ and m- in multiples
    of the tensor's m0.
    """
    optimizer = session.optimizer
    if not isinstance(optimizer, LMD):
        return None
    return {
        "kind": "medians",
        "step": session.counters.step,
        "epoch": session.counters.epoch,
        "tensors": [_tensor(optimizer, part) for part in _chosen(session, optimizer)],
    }


def _chosen(session: Session, optimizer: LMD) -> Iterator[Part]:
    """The parts that LMD trains, at most so many of a kind, in the order of the model."""
    kinds: dict[str, list[Part]] = {}
    found = [
        part
        for part in parts(session.model, optimizer)
        if "m0" in optimizer.state.get(part.parameter, {}) and part.parameter.numel()
    ]
    for part in found:
        kinds.setdefault(part.kind, []).append(part)
    names = {part.name for same in kinds.values() for part in spread(same, _TENSORS_OF_A_KIND)}
    return (part for part in found if part.name in names)


def spread(items: list[Any], most: int) -> list[Any]:
    """At most `most` of a list, evenly from the first to the last."""
    if len(items) <= most:
        return items
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _tensor(optimizer: LMD, part: Part) -> dict[str, Any]:
    m0 = float(optimizer.state[part.parameter]["m0"])
    positive, negative = optimizer.medians(part.parameter)
    return {
        "name": part.name,
        "kind": part.kind,
        "numel": part.parameter.numel(),
        "m0": m0,
        "positive": _histogram(positive, m0),
        "negative": _histogram(negative, m0),
    }


def _histogram(medians: Tensor, m0: float) -> dict[str, Any]:
    flat = medians.detach().flatten()
    step = -(-flat.numel() // _VALUES)
    # A median that has shrunk below all numbers has no logarithm.
    tiny = torch.finfo(torch.float32).tiny
    logs = (flat[::step].double().cpu().clamp_min(tiny) / m0).log()
    low, high = float(logs.min()), float(logs.max())
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    counts = torch.histc(logs, bins=_BINS, min=low, max=high)
    numbers = {"low": low, "high": high} | asdict(normal_fit(logs))
    rounded = {name: None if x is None else round(x, 6) for name, x in numbers.items()}
    return rounded | {"counts": [int(count) for count in counts]}

"""Measurements of a trained model: bytes by part, angles, histograms of weights and rungs."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rung.formats import LNS, Pair, Sinh, name_of
from rung.kernels.ladder import load_codes
from rung.kernels.lns import exponents
from rung.optim import split_parameters
from rung.tensor import CodedTensor, stored_bytes
from rung.tensor.roles import roles
from rung.theory import angle, descent_bound
from rung.train.int8 import dequantized, is_int8
from rung.train.session import Session, computing

_BINS = 60
_RUNG_BINS = 256


@dataclass(frozen=True, slots=True)
class Part:
    """One parameter, where it is and what it takes."""

    name: str
    """First qualified name."""
    kind: str
    """Type of the module that holds it, e.g. ``Linear``."""
    role: str
    """``weights``, ``biases`` or the attribute's own name."""
    parameter: Tensor
    """The parameter."""
    weight_bytes: int
    """Real bytes of the parameter."""
    state_bytes: int
    """Real bytes of its optimizer state, step counters included."""


def parts(model: nn.Module, optimizer: Optimizer) -> Iterator[Part]:
    """Every parameter of a model, tied ones once."""
    for role in roles(model):
        module, attribute = role.owners[0]
        ending = attribute.rpartition("_")[2]
        yield Part(
            role.name,
            type(module).__name__,
            {"weight": "weights", "bias": "biases"}.get(ending, attribute),
            role.parameter,
            stored_bytes(role.parameter),
            _tensor_bytes(optimizer.state.get(role.parameter, {})),
        )


def byte_summary(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """The fields ``parameters``, ``bytes`` and ``by_part`` of summary.json."""
    groups: dict[str, dict[str, Any]] = {}
    for part in parts(model, optimizer):
        name = f"{part.kind} {part.role}"
        group = groups.setdefault(
            name, {"name": name, "numel": 0, "weight_bytes": 0, "state_bytes": 0}
        )
        group["numel"] += part.parameter.numel()
        group["weight_bytes"] += part.weight_bytes
        group["state_bytes"] += part.state_bytes
    numel = sum(group["numel"] for group in groups.values())
    weights = sum(group["weight_bytes"] for group in groups.values())
    state = sum(group["state_bytes"] for group in groups.values())
    return {
        "parameters": numel,
        "bytes": {
            "weights": weights,
            "state": state,
            "weights_per_weight": weights / max(numel, 1),
            "state_per_weight": state / max(numel, 1),
        },
        "by_part": list(groups.values()),
    }


def diagnose(session: Session) -> dict[str, Any]:
    """Content of diagnostics.json, from one forward and backward pass on the task's fixed batch.

    The model is in evaluation mode meanwhile, so that dropout and running statistics play no part.
    The bound of Theorem 1 is over the weights that learn by multiplication, also for a run whose
    optimizer is additive, so that runs compare; L is their number.
    """
    model, optimizer, task = session.model, session.optimizer, session.task
    inputs, targets = (tensor.to(session.device) for tensor in task.probe())
    model.eval()
    optimizer.zero_grad()
    with computing(session):
        loss = task.loss(model(inputs), targets)
    loss.backward()  # type: ignore[no-untyped-call]
    # Biases and gains are no layers, whoever trains them.
    layers_of = {id(role.parameter) for role in roles(model) if role.additive_reason is None}
    multiplicative = layers_of & {id(weight) for weight in split_parameters(model).multiplicative}
    layers, angles = [], []
    for part in parts(model, optimizer):
        layer = _layer(part)
        layers.append(layer)
        if id(part.parameter) in multiplicative and layer["angle"] is not None:
            angles.append(layer["angle"])
    optimizer.zero_grad()
    return {
        "step": session.counters.step,
        "lr": session.lr,
        "depth": len(angles),
        "descent_bound": descent_bound(angles) if angles else None,
        "layers": layers,
    }


def _layer(part: Part) -> dict[str, Any]:
    parameter = part.parameter
    if isinstance(parameter, CodedTensor):
        weight, stored = parameter.decode(), name_of(parameter.format)
        rungs = _rung_histogram(parameter)
    elif is_int8(parameter):
        weight, stored, rungs = dequantized(parameter), "int8", None
    else:
        weight, stored = parameter.detach(), str(parameter.dtype).removeprefix("torch.")
        rungs = None
    return {
        "name": part.name,
        "kind": part.kind,
        "shape": list(parameter.shape),
        "numel": parameter.numel(),
        "format": stored,
        "weight_bytes": part.weight_bytes,
        "state_bytes": part.state_bytes,
        "angle": _angle(weight, parameter.grad),
        "log_abs_w": _log_histogram(weight),
        "rungs": rungs,
    }


def _angle(weight: Tensor, grad: Tensor | None) -> float | None:
    # The angle has no meaning where all weights or all gradients are 0, as for an unused word row.
    if grad is None or not bool(weight.any()) or not bool(grad.any()):
        return None
    if not bool(torch.isfinite(grad).all()):
        return None
    return angle(weight, grad)


def _log_histogram(weight: Tensor) -> dict[str, Any]:
    sizes = weight.abs().flatten().double().cpu()
    logs = sizes[sizes > 0].log()
    low, high = (float(logs.min()), float(logs.max())) if logs.numel() else (0.0, 1.0)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    counts = torch.histc(logs, bins=_BINS, min=low, max=high)
    edges = [low + (high - low) * i / _BINS for i in range(_BINS + 1)]
    return {
        "edges": edges,
        "counts": [int(count) for count in counts],
        "zeros": int((sizes == 0).sum()),
    }


def _rung_histogram(parameter: CodedTensor) -> dict[str, Any]:
    fmt = parameter.format
    if isinstance(fmt, Pair):
        # Where the differences stand on the sinh ladder that numbers are rounded to.
        share = fmt.decode_codes(parameter.codes, torch.ones((), device=parameter.device))
        codes, system = load_codes(fmt.ladder.encode(share, scale=1.0).codes), "pair"
        fmt, precision = fmt.ladder, fmt.spacing
    elif isinstance(fmt, Sinh):
        # From the lowest to the highest, zero in the middle.
        codes, system, precision = load_codes(parameter.codes), "sinh", fmt.spacing
    elif isinstance(fmt, LNS):
        # Counted from the top as on a ladder: 0 is the largest weight.
        codes = fmt.levels - 1 - exponents(parameter.codes, fmt.bits)
        system, precision = "lns", math.log(2) / fmt.base_factor
    else:
        codes = load_codes(parameter.codes)
        system, precision = "ladder", fmt.base_precision
    # A sinh ladder's last pattern stands for nothing; with it bins are alike.
    many = fmt.levels > _RUNG_BINS
    length = 1 << fmt.bits if many and isinstance(fmt, Sinh) else fmt.levels
    counts = torch.bincount(codes.flatten().cpu(), minlength=length)
    if many:
        counts = counts.view(_RUNG_BINS, -1).sum(1)
    knee = {"knee": fmt.knee} if isinstance(fmt, Sinh) else {}
    return knee | {
        "system": system,
        "bits": parameter.format.bits,
        "levels": fmt.levels,
        "base_precision": precision,
        "counts": [int(count) for count in counts],
    }


def _tensor_bytes(state: Any) -> int:
    if isinstance(state, Tensor):
        return stored_bytes(state)
    if isinstance(state, dict):
        return sum(_tensor_bytes(value) for value in state.values())
    if isinstance(state, list | tuple):
        return sum(_tensor_bytes(value) for value in state)
    return 0


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no float tensor holds NaN or infinity; codes can't."""
    return all(
        bool(torch.isfinite(_plain(tensor)).all())
        for tensor in tensors
        if not isinstance(tensor, CodedTensor) and tensor.is_floating_point()
    )


def _plain(tensor: Tensor) -> Tensor:
    """What another library's tensor stands for, which can't do everything."""
    return dequantized(tensor) if is_int8(tensor) else tensor

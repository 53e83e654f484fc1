"""Every matrix product of one forward and backward pass, with the numbers that it multiplied."""

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_leaves

from rung.nn.restore import Originals, unchanged
from rung.nn.watch import Product, Watch


@dataclasses.dataclass(frozen=True)
class AuditReport:
    """What `audit` saw; ``str()`` is a table with one line a product.

    Attributes:
        entries: Every product and lookup, in the order of computation.
    """

    entries: tuple[Product, ...]

    @property
    def float_products(self) -> tuple[Product, ...]:
        """Entries with an operand that is in no format."""
        return tuple(entry for entry in self.entries if entry.in_float)

    @property
    def complete(self) -> bool:
        """Whether every operand of every product is in a format."""
        return not self.float_products

    def __str__(self) -> str:
        floats = len(self.float_products)
        return _table(self.entries) + (
            f"\n{len(self.entries)} products and lookups: {len(self.entries) - floats} with both "
            f"operands in a format, {floats} with an operand in floating point"
        )


def audit(
    model: nn.Module,
    batch: Any,
    loss: Callable[[Any], Tensor] | None = None,
    strict: bool = False,
) -> AuditReport:
    """List every matrix product of one forward and one backward pass.

    Products are recognized below autograd, operator by operator, in any module and outside of
    modules; a tensor is in a format if a quantizer made it and nothing but moves, copies and zeros
    came after. Element-wise multiplication followed by a sum is not recognized as a product. The
    model and the batch are left as they were: weights, gradients, buffers, random number
    generators. The model runs in its own mode (training or evaluation); under `torch.no_grad` the
    forward pass is audited alone.

    Args:
        model: Any module, converted by `rung.nn.convert_` or not.
        batch: A tensor, a tuple of positional inputs, or a dict of keyword inputs.
        loss: From the model's output to a scalar. Default: the sum of the mean squares of all
            differentiable tensors in the output.
        strict: Refuse a product with an operand in floating point.

    Returns:
        The report; `print` it.

    Raises:
        ValueError: Under `strict`, a product in floating point; the text lists them. An output
            without a tensor to differentiate, or a loss that is not a scalar.
        TypeError: A batch that is none of the three.
    """
    args, kwargs = _arguments(batch)
    data = _tensors(batch)
    originals = Originals([*model.parameters(), *data])
    watch = Watch(model, data, originals)
    with unchanged(model, originals), _uncompiled(), watch:
        output = model(*args, **kwargs)
        if torch.is_grad_enabled():
            _backward(model, batch, output, loss)
    report = AuditReport(tuple(watch.products))
    if strict and not report.complete:
        raise ValueError(
            "Every matrix product must have both operands in a format; got "
            f"{len(report.float_products)} of {len(report.entries)} with one in floating point:\n"
            f"{_table(report.float_products)}\n"
            "Give their layers a format by a rule of the policy (`rung.nn.Rule`), compute products "
            "of your own by `rung.nn.functional`, or leave out `strict`."
        )
    return report


def _arguments(batch: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    if isinstance(batch, Tensor | PackedSequence):
        return (batch,), {}
    if isinstance(batch, tuple | list):
        return tuple(batch), {}
    if isinstance(batch, Mapping):
        return (), batch
    raise TypeError(
        "`batch` is a tensor, a tuple of positional inputs or a dict of keyword inputs; got "
        f"{type(batch).__name__}. Wrap any other input as `(input,)`."
    )


def _backward(
    model: nn.Module, batch: Any, output: Any, loss: Callable[[Any], Tensor] | None
) -> None:
    found = _tensors(output)
    differentiable = [x for x in found if x.requires_grad]
    if loss is not None:
        scalar = loss(output)
    elif differentiable:
        scalar = sum((x.abs().square().mean() for x in differentiable), start=torch.zeros(()))
    if (loss is None and not differentiable) or not scalar.requires_grad:
        raise ValueError(
            "The output must have a floating-point tensor that depends on a parameter; got "
            f"{type(output).__name__} with {len(found)} tensors, none of them differentiable. "
            "Unfreeze a parameter, pass `loss`, or audit the forward pass alone under "
            "torch.no_grad()."
        )
    if scalar.numel() != 1:
        raise ValueError(
            f"`loss` must return one number; got a tensor of shape {tuple(scalar.shape)}. "
            "Take its mean."
        )
    leaves = [*model.parameters(), *_tensors(batch)]
    # Not `backward()`: gradients stay as they are, and optimizers hooked to them don't step.
    torch.autograd.grad(
        scalar.sum(), [x for x in leaves if x.requires_grad and x.is_leaf], allow_unused=True
    )


def _tensors(values: Any) -> list[Tensor]:
    """All tensors in an output: nested containers, mappings and dataclasses."""
    found: list[Tensor] = []
    for leaf in tree_leaves(values):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif isinstance(leaf, Mapping):
            found += _tensors(list(leaf.values()))
        elif dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            found += _tensors([getattr(leaf, f.name) for f in dataclasses.fields(leaf)])
    return found


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Run compiled modules as the code that they were compiled from."""
    with warnings.catch_warnings(), torch.compiler.set_stance("force_eager"):
        warnings.filterwarnings("ignore", "Using `torch.compile.module.` when there are global")
        yield


def _table(entries: tuple[Product, ...]) -> str:
    header = ("module", "phase", "operator", "shapes", "formats", "result")
    rows = [header] + [
        (
            entry.module or "(model)",
            entry.phase + ("" if entry.kind == "product" else f" ({entry.kind})"),
            entry.operator.removeprefix("aten::"),
            f"{_by(entry.shapes[0])} @ {_by(entry.shapes[1])} -> {_by(entry.result_shape)}",
            " @ ".join(entry.formats),
            entry.result_format or "",
        )
        for entry in entries
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _by(shape: tuple[int, ...] | None) -> str:
    return "?" if shape is None else "x".join(map(str, shape)) or "1"

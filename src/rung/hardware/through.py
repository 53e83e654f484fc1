"""Models whose layers compute through a datapath, so that its cost in accuracy can be measured.

    from rung.hardware.datapath import Datapath
    from rung.hardware.through import through_datapath

    design = Datapath(conversion="mitchell", dropped_bits=12, zero=True)
    with through_datapath(design, "lns8+zero", model) as report:
        loss = task(model(inputs))
    print(report)

Operands are rounded to an LNS, multiplied as codes by `rung.hardware.datapath`, bit for bit, and
the integers are turned into numbers again. Gradients are those of the product of the decoded
operands, as if rounding and datapath were not there.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from rung.formats import LNS, get, name_of
from rung.hardware._through_forms import FORMS, LEFT
from rung.hardware._through_product import Element
from rung.hardware._through_report import LayerCount, Naming, Report
from rung.hardware.datapath import Datapath
from rung.nn.attention import body_of
from rung.nn.recomputation import Checkpoints

__all__ = ["LayerCount", "Report", "through_datapath"]

SCALES = ("channel", "tensor")


@contextmanager
def through_datapath(
    datapath: Datapath,
    format: LNS | str,
    model: nn.Module | None = None,
    *,
    weight_scale: str = "channel",
) -> Iterator[Report]:
    """Compute linear layers, convolutions and matrix products of a block through a datapath.

        y = s_a s_w 2^-f smallest^2 sums(codes(a), codes(w)) + bias

    Served are ``F.linear``, ``conv1d``, ``conv2d``, ``matmul``, ``mm``, ``bmm`` and ``@``, and so
    the modules that call them. Every other product (attention in one piece, three-dimensional and
    transposed convolutions, recurrent cells, einsum, addmm) stays in floating point, and the
    report names it. A model converted by `rung.nn.convert_` keeps its four quantizers, and the
    datapath multiplies what they have rounded.

    Activations have one scale a tensor. A weight that lives in codes (`rung.tensor.CodedTensor`)
    of this format, or of one whose upper bits are this format, is taken as its codes; any other is
    decoded and rounded. Biases are added in floating point. NaN and infinity become NaN of all that
    shares a scale with them. Results have the operands' dtype, under autocast that of autocast.

    The block is one thread's; blocks nest, and the innermost computes. A compiled model breaks its
    graph at every product, which runs in eager mode; with ``fullgraph=True`` that is an error.

    Args:
        datapath: The design.
        format: An LNS, or its name, of both operands. Activations of a ReLU are often exactly 0:
            ``"lns8+zero"`` with ``Datapath(zero=True)`` has a code for that, ``"lns8"`` makes them
            its smallest number.
        model: Whose modules' names the report has; None: products are named by their weight's
            shape.
        weight_scale: ``"channel"``: each output of a weight has a scale. ``"tensor"``: one.

    Yields:
        `Report`: overflows layer by layer; filled while the block runs, and kept.

    Raises:
        TypeError: A format that isn't an LNS; no Datapath.
        ValueError: Bits, base factor or zero of the format are not the datapath's; accumulators
            too narrow for one product; an unknown `weight_scale`.
        RuntimeError: A product of the block is traced (`torch.jit.trace`), or under a transform of
            `torch.func`.
    """
    fmt = _checked(datapath, format)
    if weight_scale not in SCALES:
        raise ValueError(
            f"`weight_scale` must be one of {', '.join(map(repr, SCALES))}; got {weight_scale!r}."
        )
    report, naming = Report(), Naming()
    with (
        naming.following(model),
        _Through(Element(datapath, fmt, weight_scale == "channel", report, naming)),
    ):
        yield report


def _checked(datapath: Datapath, format: LNS | str) -> LNS:
    """The format, if its codes are what the datapath reads."""
    if not isinstance(datapath, Datapath):
        raise TypeError(f"`datapath` must be a rung.hardware.datapath.Datapath; got {datapath!r}.")
    fmt = get(format) if isinstance(format, str) else format
    if not isinstance(fmt, LNS):
        raise TypeError(
            f"a datapath multiplies codes of an LNS; got {format!r}. Use 'lns8+zero', or a "
            "rung.formats.LNS."
        )
    bits = datapath.bits or (8 if fmt.bits <= 8 else 16)
    theirs = {"bits": bits, "base_factor": datapath.base_factor, "zero": datapath.zero}
    wrong = {name: value for name, value in theirs.items() if getattr(fmt, name) != value}
    if wrong:
        ours = ", ".join(f"{name}={getattr(fmt, name)}" for name in wrong)
        asked = ", ".join(f"{name}={value}" for name, value in wrong.items())
        other = LNS(bits, datapath.base_factor, datapath.zero)
        raise ValueError(
            f"a datapath must read the format's codes; got {ours} of {name_of(fmt)} and {asked} of "
            f"the datapath. Use Datapath(..., {ours}), or the format {name_of(other)!r}."
        )
    datapath.require_room(fmt.bits)
    return fmt


def _require_plain() -> None:
    transformed = torch._C._functorch.peek_interpreter_stack() is not None
    if transformed or torch._C._is_tracing():
        raise RuntimeError(
            "products compute through a datapath of tensors that have numbers; got one that "
            "torch.func transforms or a tracer records. Call the model itself in the block."
        )


class _Through(TorchFunctionMode):
    """Hands the products of a block to an element."""

    def __init__(self, element: Element) -> None:
        super().__init__()
        self.element = element
        # A compiler breaks its graph here, rather than follow the integers.
        self.compute: Callable[..., Tensor] = torch.compiler.disable(  # type: ignore[no-untyped-call]
            _compute, reason="bit-true integers"
        )
        # A checkpoint's forward pass is computed again in the backward pass: through the datapath,
        # and not counted twice.
        self.checkpoints = Checkpoints(
            lambda: _Through(
                Element(
                    element.datapath, element.format, element.per_channel, Report(), element.naming
                )
            )
        )

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            # Torch's own code, whose products are intercepted one by one.
            with self:
                return _multi_head_attention_forward(*args, **kwargs)
        form = FORMS.get(func)
        if form is None and func not in LEFT:
            return func(*args, **kwargs)
        factors = [x for x in tree_leaves((args, list(kwargs.values()))) if isinstance(x, Tensor)]
        if form is None or not _served(factors, kwargs):
            if all(factor.is_floating_point() for factor in factors):
                self.element.report.leave(LEFT.get(func, getattr(func, "__name__", str(func))))
            return func(*args, **kwargs)
        self.checkpoints.follow()
        return self.compute(form, self.element, args, _renamed(kwargs))


_multi_head_attention_forward = body_of(F.multi_head_attention_forward)


def _served(factors: list[Tensor], kwargs: dict[str, Any]) -> bool:
    """Whether all is plain real numbers, and some; results aren't written into a given tensor."""
    return kwargs.get("out") is None and all(
        factor.is_floating_point() and factor.layout == torch.strided and factor.numel()
        for factor in factors
    )


def _compute(
    form: Callable[..., Tensor], element: Element, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    _require_plain()
    return form(element, *args, **kwargs)


def _renamed(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Keywords of a form: one name for a matrix product's second factor, no `out` of None."""
    names = {"mat2": "other", "tensor2": "other"}
    return {names.get(name, name): kwargs[name] for name in kwargs if name != "out"}

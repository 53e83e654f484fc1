"""One product of a model through a datapath: operands in codes, integers, numbers, gradients."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from rung.formats import LNS, Encoded
from rung.hardware._through_report import Naming, Report
from rung.hardware.datapath import Datapath, Sums, to_float
from rung.tensor import CodedTensor


class Factor(NamedTuple):
    """An operand.

    Attributes:
        tensor: The operand.
        axis: Dimension whose every index has a scale of its own; None: one scale.
        beside: Shape in which these scales are multiplied with the results.
    """

    tensor: Tensor
    axis: int | None = None
    beside: tuple[int, ...] = ()


@dataclass(frozen=True)
class Element:
    """What computes products: a processing element, its numbers, and who counts.

    Attributes:
        datapath: The element.
        format: Of both operands.
        per_channel: Whether a weight's output channels have scales of their own.
        report: Is added to.
        naming: Whose products they are.
    """

    datapath: Datapath
    format: LNS
    per_channel: bool
    report: Report
    naming: Naming

    def product(
        self,
        name: str,
        a: Factor,
        b: Factor,
        integers: Callable[[Tensor, Tensor], Sums],
        floats: Callable[[Tensor, Tensor], Tensor],
        bias: Tensor | None = None,
    ) -> Tensor:
        """The numbers of a product, whose gradients are those of the decoded operands' product.

        Args:
            name: Of the product, where no module's is known.
            a: First operand.
            b: Second operand.
            integers: The product of codes.
            floats: The product of numbers, differentiable.
            bias: Added to the result, broadcastable.
        """
        kind = a.tensor.device.type
        wide = torch.result_type(a.tensor, b.tensor)
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else wide
        # Neither a mode around this block nor autocast may touch what follows.
        with torch._C.DisableTorchFunction(), torch.autocast(kind, enabled=False):
            x, y = (self._encoded(factor) for factor in (a, b))
            sums = integers(x.codes, y.codes)
            self._count(name, sums)
            beside = [_beside(code, factor) for code, factor in ((x, a), (y, b))]
            result = to_float(sums.values, self.datapath, self.format, *beside).to(dtype)
            if torch.is_grad_enabled() and (a.tensor.requires_grad or b.tensor.requires_grad):
                decoded = [
                    _replaced(factor.tensor, self.format.decode(code)).to(wide)
                    for code, factor in ((x, a), (y, b))
                ]
                result = _replaced(floats(*decoded).to(dtype), result)
            return result if bias is None else result + bias.to(dtype)

    def _encoded(self, factor: Factor) -> Encoded:
        tensor, axis, _ = factor
        axis = axis if self.per_channel else None
        if isinstance(tensor, CodedTensor):
            own = _own_codes(tensor, self.format, factor.axis)
            if own is not None:
                return own
            tensor = tensor.decode()
        # A group with NaN or infinity becomes NaN as a whole, so that the loss shows it.
        return self.format.encode(tensor.detach(), axis, nonfinite="propagate")

    def _count(self, name: str, sums: Sums) -> None:
        counts = sums.overflows
        some, many = int(counts.count_nonzero()), int(counts.sum())
        self.report.count(self.naming.current or name, counts.numel(), some, many)


def _beside(encoded: Encoded, factor: Factor) -> Encoded:
    if encoded.scale.numel() == 1:
        return replace(encoded, scale=encoded.scale.reshape(()))
    return replace(encoded, scale=encoded.scale.reshape(factor.beside))


def _own_codes(weight: CodedTensor, fmt: LNS, axis: int | None) -> Encoded | None:
    """Codes in which a weight lives, where they, or their upper bits, are the format's.

    None where they are not, or where a scale is no factor of whole results.
    """
    plain, fine = replace(fmt, zero=False, underflow="saturate"), weight.format
    if not isinstance(fine, LNS) or plain.shift_from(fine) is None:
        return None
    sizes = (1,) * (weight.ndim - weight.scale.ndim) + tuple(weight.scale.shape)
    if any(size != 1 and dim != axis for dim, size in enumerate(sizes)):
        return None
    codes, scale = plain.shifted(weight.codes, weight.scale, fine)
    if fmt.zero:
        # The smallest code stands for 0 here; a weight never is 0, and takes the next one.
        codes = torch.where((codes & (fmt.levels - 1)) == 0, codes + 1, codes)
    return Encoded(codes, None, scale.reshape(sizes), weight.dtype)


class _Replaced(torch.autograd.Function):
    """One tensor's value with another's gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, value: Tensor) -> Tensor:
        # An alias that is no view: what follows may write into it (ReLU(inplace=True)).
        return value.detach()

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Any, ...]:
        return grads[0], None


def _replaced(x: Tensor, value: Tensor) -> Tensor:
    if not x.requires_grad:
        return value
    replaced: Tensor = _Replaced.apply(x, value)  # type: ignore[no-untyped-call]
    return replaced

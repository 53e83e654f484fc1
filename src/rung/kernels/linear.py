"""A linear layer whose weight stays in codes: y = x W^T, and the gradient of x, grad W.

W = decode(codes) of a ladder or of an LNS without a zero. On the CPU rows are decoded inside the
product, so no float copy of the weight is ever made (`cpu.linear`); this file is the reference.

The CPU's y differs from the exact sum over the format's exact values by at most `error_bound`
times sum_i |x_i W_ij|, and does not depend on the batch or the number of threads. Sums are of
values up to 1, times the scale at the end: where they leave float32's range before that, it shows.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rung.kernels import ladder, lns
from rung.kernels.dispatch import Operation
from rung.kernels.signs import seeded_signs, unpack_signs

# Rows of x up to which decoding inside the product is the faster way.
LARGEST_BATCH = 64

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Code(NamedTuple):
    """What a code means.

    Args:
        bits: B, of a code.
        base_factor: gamma of an LNS, whose codes hold the sign; 0: a ladder.
        base_precision: eta0 of a ladder.
    """

    bits: int
    base_factor: int
    base_precision: float


def error_bound(width: int, code: Code) -> float:
    """Largest error of the CPU's y over sum_i |x_i W_ij|, for float32 x of `width` columns."""
    factors = 2 if code.bits <= 8 else 4
    # Each factor and each product of two is rounded; so is every step of a lane, four sums of
    # lanes, and the scale.
    return 2.0**-24 * (2 * factors - 1 + -(-width // 16) + 4 + 1) * 1.01


def grad_error_bound(height: int, code: Code) -> float:
    """Largest error of `linear_codes_grad` over sum_j |grad_j W_ji|, for float32 gradients."""
    factors = 2 if code.bits <= 8 else 4
    # One sum over all rows; the scale is in the gradients.
    return 2.0**-24 * (2 * factors - 1 + height + 1) * 1.01


def decode(codes: Tensor, scale: Tensor, signs: Tensor, key: Tensor, code: Code) -> Tensor:
    """The weight: the codes' shape, the scale's dtype."""
    if code.base_factor:
        grid = lns.Grid(code.bits, code.base_factor, False, False)
        return lns.decode_reference(codes, scale, grid)
    sizes = ladder.decode_magnitudes(codes, scale, code.bits, code.base_precision)
    if signs.numel():
        factors = unpack_signs(signs, 0, codes.numel(), sizes.dtype)
    else:
        factors = seeded_signs(key, 0, codes.numel(), sizes.dtype)
    return sizes * factors.reshape(sizes.shape)


def fits(codes: Tensor, scale: Tensor) -> bool:
    """Whether there are loops for codes and a scale of these shapes and dtypes."""
    one_a_row = scale.ndim == 2 and scale.shape[1] == 1 and scale.shape[0] in (1, codes.shape[0])
    return (scale.ndim == 0 or one_a_row) and scale.dtype == torch.float32 and codes.numel() > 0


def _serves(x: Tensor, codes: Tensor, scale: Tensor, *rest: Any) -> bool:
    rows = x.numel() // max(1, x.shape[-1])
    return x.dtype in _DTYPES and 0 < rows <= LARGEST_BATCH and fits(codes, scale)


def _linear(
    x: Tensor, codes: Tensor, scale: Tensor, signs: Tensor, key: Tensor, *code: Any
) -> Tensor:
    weight = decode(codes, scale, signs, key, Code(*code))
    return F.linear(x.to(weight.dtype), weight).to(x.dtype)


def _grad(
    grad: Tensor, codes: Tensor, scale: Tensor, signs: Tensor, key: Tensor, *code: Any
) -> Tensor:
    weight = decode(codes, scale, signs, key, Code(*code))
    return (grad.to(weight.dtype) @ weight).to(grad.dtype)


_ARGUMENTS = (
    "Tensor codes, Tensor scale, Tensor signs, Tensor key, "
    "int bits, int base_factor, float base_precision"
)
_LINEAR = Operation(
    "linear_codes",
    f"(Tensor x, {_ARGUMENTS}) -> Tensor",
    _linear,
    cpu="rung.kernels.cpu.linear:linear_codes",
    gpu="rung.kernels.gpu.linear:linear_codes",
    serves=_serves,
    fake=lambda x, codes, *rest: x.new_empty((*x.shape[:-1], codes.shape[0])),
)
_LINEAR_GRAD = Operation(
    "linear_codes_grad",
    f"(Tensor grad, {_ARGUMENTS}) -> Tensor",
    _grad,
    cpu="rung.kernels.cpu.linear:linear_codes_grad",
    serves=_serves,
    fake=lambda grad, codes, *rest: grad.new_empty((*grad.shape[:-1], codes.shape[1])),
)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[1:5])
    ctx.code = inputs[5:]


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    result = torch.ops.rung.linear_codes_grad(grad, *ctx.saved_tensors, *ctx.code)
    return result, *[None] * 7


torch.library.register_autograd("rung::linear_codes", _backward, setup_context=_setup)


def linear_codes(
    x: Tensor, codes: Tensor, scale: Tensor, signs: Tensor, key: Tensor, code: Code
) -> Tensor:
    """The product of x and the transposed weight.

    Args:
        x: (..., in), float32, bfloat16 or float16; float64 with a float64 scale.
        codes: (out, in), uint8 up to 8 bits, int16 above.
        scale: Value of the largest magnitude's code, broadcastable to the codes. What is neither
            one number nor one a row, shape (out, 1), is decoded as a whole first.
        signs: A ladder's: packed bits of the flat weight, or empty if they come from the key.
        key: 0-d int64.
        code: What a code means.

    Returns:
        (..., out) in x's dtype, computed in float32. The gradient of x is known to autograd.

    Raises:
        ValueError: x or the scale does not fit the codes.
    """
    _require_fit(x, codes, scale, codes.shape[-1], "in")
    # torch.func's transforms want a gradient of a kind that operators of libraries don't have.
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return _linear(x, codes, scale, signs, key, *code)
    if x.requires_grad and torch.is_grad_enabled():
        result: Tensor = torch.ops.rung.linear_codes(x, codes, scale, signs, key, *code)
        return result
    return _LINEAR(x, codes, scale, signs, key, *code)  # type: ignore[no-any-return]


def linear_codes_grad(
    grad: Tensor, codes: Tensor, scale: Tensor, signs: Tensor, key: Tensor, code: Code
) -> Tensor:
    """The gradient of `linear_codes`' x: grad, of shape (..., out), times the weight; (..., in).

    Other arguments, and errors, are those of `linear_codes`.
    """
    _require_fit(grad, codes, scale, codes.shape[0], "out")
    result: Tensor = _LINEAR_GRAD(grad, codes, scale, signs, key, *code)
    return result


def _require_fit(x: Tensor, codes: Tensor, scale: Tensor, size: int, name: str) -> None:
    if codes.ndim != 2 or x.ndim == 0 or x.shape[-1] != size:
        raise ValueError(
            f"A product with codes of shape (out, in) = {tuple(codes.shape)} takes a tensor of "
            f"shape (..., {name}); got {tuple(x.shape)}. Check which side the codes are on."
        )
    trailing = zip(reversed(scale.shape), reversed(codes.shape), strict=False)
    if scale.ndim > 2 or any(one not in (1, other) for one, other in trailing):
        raise ValueError(
            f"A scale must broadcast to codes of shape {tuple(codes.shape)}; got "
            f"{tuple(scale.shape)}. Take both from the same tensor."
        )

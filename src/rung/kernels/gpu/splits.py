"""Floats taken apart, and draws as chances."""

import triton.language as tl

from rung.kernels.gpu.chunks import bits_of, float_of
from rung.kernels.gpu.jit import Value, jit

# log2(1 + t) over t on [0, 1): minimax, wrong by less than 2.1e-6.
_C1, _C2 = tl.constexpr(1.442553162574768), tl.constexpr(-0.7182818651199341)
_C3, _C4 = tl.constexpr(0.4582705795764923), tl.constexpr(-0.2795376777648926)
_C5, _C6 = tl.constexpr(0.12345106154680252), tl.constexpr(-0.026457304134964943)
_FRACTION, _ONE, _HIDDEN = tl.constexpr(0x7FFFFF), tl.constexpr(0x3F800000), tl.constexpr(1 << 23)


@jit
def split(x: Value) -> Value:
    """Integers (m, F) of positive finite float32 x = m 2^(F - 150), 2^23 <= m < 2^24; log2(m) - 23.

    The logarithm is an approximation, within 3e-6.
    """
    bits = bits_of(x)
    small = bits < _HIDDEN  # subnormal numbers
    bits = tl.where(small, bits_of(x * 16777216.0), bits)
    fraction = bits & _FRACTION
    exponent = (bits >> 23) - tl.where(small, 24, 0)
    t = float_of(fraction | _ONE) - 1.0
    rough = tl.fma(tl.fma(tl.fma(t, _C6, _C5), t, _C4), t, _C3)
    rough = tl.fma(tl.fma(rough, t, _C2), t, _C1) * t
    return fraction | _HIDDEN, exponent, rough


@jit
def uniform(draws: Value) -> Value:
    """`draws.uniforms` of int16 draws."""
    return ((draws.to(tl.int32) & 0xFFFF).to(tl.float32) + 0.5) * 0.0000152587890625


@jit
def bfloat16_bits(x: Value) -> Value:
    """int16 bit patterns of float32 rounded to bfloat16, ties to even.

    The interpreter's own cast does not carry.
    """
    bits = bits_of(x)
    nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return tl.where(x != x, 0x7FC0, nearest).to(tl.int16)

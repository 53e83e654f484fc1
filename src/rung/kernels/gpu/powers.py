"""2^x in additions and multiplications, so that every device gives the same bits."""

import triton.language as tl

from rung.kernels.gpu.jit import Value, jit

# Minimax fit on [-1/2, 1/2], by iteratively reweighted least squares at 4,000 Chebyshev points.
_E1, _E2 = tl.constexpr(0.6931470036506653), tl.constexpr(0.24022242426872253)
_E3, _E4 = tl.constexpr(0.05550733581185341), tl.constexpr(0.009671512991189957)
_E5 = tl.constexpr(0.001326472731307149)
# Adding it rounds a float32 to an integer, which its low bits then hold.
_TO_INTEGER = tl.constexpr(1.5 * 2.0**23)


@jit
def exp2(x: Value) -> Value:
    """2^x of float32 x, |x| <= 126, within 2 units in the last place."""
    shifted = x + _TO_INTEGER
    r = x - (shifted - _TO_INTEGER)
    value = ((((r * _E5 + _E4) * r + _E3) * r + _E2) * r + _E1) * r + 1.0
    # The shift drops the bits of the constant; what remains adds to the exponent.
    bits = value.to(tl.int32, bitcast=True) + (shifted.to(tl.int32, bitcast=True) << 23)
    return bits.to(tl.float32, bitcast=True)

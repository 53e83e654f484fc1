"""What LMD's kernels compute: words and normals of elements, powers, logarithms, stored state.

The operations of `cpu.lmd_lanes` in their order, fused multiplications among them; polynomials are
the minimax fits that stand there.
"""

import triton.language as tl

from rung.kernels import lmd
from rung.kernels.gpu.chunks import bits_of, float_of, load_float, pointer, words
from rung.kernels.gpu.jit import Value, jit

_SMALLEST, _LARGEST = tl.constexpr(lmd.SMALLEST), tl.constexpr(lmd.LARGEST)
_LARGEST_H = tl.constexpr(lmd.LARGEST_H)
_LOGNORMAL, _EXPONENTIAL, _GAUSSIAN, _ = (tl.constexpr(i) for i in range(len(lmd.PRIORS)))

_FRACTION, _ONE = tl.constexpr(0x7FFFFF), tl.constexpr(0x3F800000)
# Adding it rounds a float32 to an integer, which its low bits then hold.
_TO_INTEGER = tl.constexpr(1.5 * 2.0**23)
_E1, _E2 = tl.constexpr(0.6931470036506653), tl.constexpr(0.24022242426872253)
_E3, _E4 = tl.constexpr(0.05550733581185341), tl.constexpr(0.009671512991189957)
_E5 = tl.constexpr(0.001326472731307149)

# log2 of [1, 2) about 3/2; its constant is part of `log2_scaled`'s fraction.
LOG2_MIDDLE = 0.584962785243988
_L1, _L2 = tl.constexpr(0.9617953896522522), tl.constexpr(-0.32063233852386475)
_L3, _L4 = tl.constexpr(0.14254532754421234), tl.constexpr(-0.07058960944414139)
_L5, _L6 = tl.constexpr(0.03731129691004753), tl.constexpr(-0.025123370811343193)
_L7 = tl.constexpr(0.015125341713428497)

# -2 ln(1 + f) / f
_Q0, _Q1 = tl.constexpr(-1.9999998807907104), tl.constexpr(1.0000072717666626)
_Q2, _Q3 = tl.constexpr(-0.6667011976242065), tl.constexpr(0.4993981719017029)
_Q4, _Q5 = tl.constexpr(-0.39800330996513367), tl.constexpr(0.34501662850379944)
_Q6, _Q7 = tl.constexpr(-0.3244515061378479), tl.constexpr(0.20213767886161804)
_MINUS_2_LN_2 = tl.constexpr(-1.3862943611198906)
_PER_2_19 = tl.constexpr(2.0**-19)
_ROOT_HALF_BITS = tl.constexpr(0x3F3504F3 + (19 << 23))
# cos and sin of a quarter turn's share, times sqrt(1/2); by integer 2^-16 of a turn each.
_C0, _C1 = tl.constexpr(0.7071067690849304), tl.constexpr(-3.249777558167466e-09)
_C2, _C3 = tl.constexpr(2.4885832126234407e-18), tl.constexpr(-7.460592307299443e-28)
_S0, _S1 = tl.constexpr(6.779301475035027e-05), tl.constexpr(-1.0385628853226345e-13)
_S2, _S3 = tl.constexpr(4.7721304268785575e-23), tl.constexpr(-1.0246478627586666e-32)


@jit
def limit(x: Value, low: Value, high: Value) -> Value:
    """Between low and high."""
    return tl.minimum(tl.maximum(x, low), high)


@jit
def bounded(h: Value) -> Value:
    """`lmd.bounded`."""
    return tl.where(h == h, limit(h, -_LARGEST_H, _LARGEST_H), 0.0)


@jit
def exp2(x: Value) -> Value:
    """2^x for |x| <= 126, within 3 units in the last place."""
    shifted = x + _TO_INTEGER
    r = x - (shifted - _TO_INTEGER)
    square = r * r
    high = tl.fma(tl.fma(r, _E5, _E4), square, tl.fma(r, _E3, _E2))
    value = tl.fma(high, square, tl.fma(r, _E1, 1.0))
    # The shift drops the bits of _TO_INTEGER; what remains adds to the exponent.
    return float_of(bits_of(value) + (bits_of(shifted) << 23))


@jit
def log2_scaled(x: Value, octaves: Value, fraction: Value) -> Value:
    """log2(x) + octaves + 127 + fraction - LOG2_MIDDLE of positive normal x; octaves are whole."""
    bits = bits_of(x)
    t = float_of((bits & _FRACTION) | _ONE) - 1.5
    square = t * t
    high = tl.fma(tl.fma(t, _L7, _L6), square, tl.fma(t, _L5, _L4))
    low = tl.fma(tl.fma(t, _L3, _L2), square, tl.fma(t, _L1, fraction))
    return (bits >> 23).to(tl.float32) + octaves + tl.fma(high, square * square, low)


@jit
def _radius(word: Value) -> Value:
    """sqrt(-2 ln((k + 1/2) / 2^18)), k the upper 18 bits."""
    odd = (((word >> 13) & 0x7FFFF) | 1).to(tl.float32)  # (k + 1/2) 2
    k = (bits_of(odd) - _ROOT_HALF_BITS) >> 23
    f = tl.fma(float_of(bits_of(odd) - (k << 23)), _PER_2_19, -1.0)
    square = f * f
    high = tl.fma(tl.fma(f, _Q7, _Q6), square, tl.fma(f, _Q5, _Q4))
    low = tl.fma(tl.fma(f, _Q3, _Q2), square, tl.fma(f, _Q1, _Q0))
    log = tl.fma(high, square * square, low) * f
    return tl.sqrt_rn(tl.fma(k.to(tl.float32), _MINUS_2_LN_2, log))


@jit
def normals(word: Value) -> Value:
    """The pair of a word each, int32; within `normal.ERROR`."""
    r = _radius(word)
    t = ((word & 0x3FFC) - 8190).to(tl.float32)
    z = t * t
    cos = tl.fma(tl.fma(tl.fma(z, _C3, _C2), z, _C1), z, _C0)
    sin = tl.fma(tl.fma(tl.fma(z, _S3, _S2), z, _S1), z, _S0) * t
    pos = bits_of(r * (cos - sin)) ^ (word << 31)
    neg = bits_of(r * (cos + sin)) ^ ((word << 30) & -2147483648)
    return float_of(pos), float_of(neg)


@jit
def words_of(
    key: Value, element: Value, sample: Value, step: Value, PURPOSE: tl.constexpr,
    ALIGNED: tl.constexpr, CHUNK: tl.constexpr,
) -> Value:  # fmt: skip
    """A word each of the elements from `element` on, int32; ALIGNED if that is a multiple of 4."""
    high = sample << 32
    if ALIGNED:
        found = words(key, (element >> 2) + tl.arange(0, CHUNK // 4) + high, step, PURPOSE)
        found = found.to(tl.int32, bitcast=True)
    else:
        # Each makes the four words of its block and takes one.
        own = element + tl.arange(0, CHUNK)
        every = words(key, (own >> 2) + high, step, PURPOSE).to(tl.int32, bitcast=True)
        every = tl.reshape(every, [CHUNK, 4])
        mine = tl.arange(0, 4)[None, :] == (own & 3)[:, None]
        found = tl.sum(tl.where(mine, every, 0), 1)
    return found


@jit
def regularizer(
    m: Value, factor: Value, shift: Value, octaves: Value, fraction: Value, PRIOR: tl.constexpr
) -> Value:
    """`lmd.regularizer`; of the lognormal prior over ln 2."""
    if PRIOR == _LOGNORMAL:
        r = log2_scaled(limit(m, _SMALLEST, _LARGEST), octaves, fraction)
    elif PRIOR == _EXPONENTIAL:
        r = limit(m * factor, _SMALLEST, _LARGEST) - shift
    elif PRIOR == _GAUSSIAN:
        ratio = limit(m * factor, _SMALLEST, _LARGEST)
        r = tl.minimum(ratio * ratio, _LARGEST) - shift
    else:
        r = m * 0.0 + 1.0
    return r


@jit
def read(
    address: Value, first: Value, i: Value, mask: Value, NARROW: tl.constexpr, EVEN: tl.constexpr
) -> Value:
    """float32 of a tensor's chunk, which is bfloat16 if NARROW."""
    if NARROW:
        x = load_float(pointer(address, first, tl.int16, 2, EVEN), i, mask, True)
    else:
        x = load_float(pointer(address, first, tl.float32, 4, EVEN), i, mask, False)
    return x


@jit
def write(
    address: Value, first: Value, i: Value, mask: Value, x: Value, draws: Value,
    NARROW: tl.constexpr, EVEN: tl.constexpr,
) -> Value:  # fmt: skip
    """Store a chunk; as bfloat16 rounded by draws in [0, 2^16). What is stored then, as float32."""
    if NARROW:
        # Adding 16 random bits carries into the kept part with the odds of the dropped fraction.
        kept = (bits_of(x) + draws) >> 16
        tl.store(pointer(address, first, tl.int16, 2, EVEN) + i, kept.to(tl.int16), mask)
        x = float_of(kept << 16)
    else:
        tl.store(pointer(address, first, tl.float32, 4, EVEN) + i, x, mask)
    return x

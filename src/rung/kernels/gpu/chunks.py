"""What a program does to find its chunk, and the random numbers and signs of one."""

import triton.language as tl

from rung.kernels import philox
from rung.kernels.gpu.jit import Value, jit

_SIGN = tl.constexpr(philox.PURPOSE_SIGN)
_MASK = tl.constexpr(0xFFFFFFFF)
_ROUNDS = tl.constexpr(10)


@jit
def find(
    places: Value, owners: Value, COLUMNS: tl.constexpr, EVEN: tl.constexpr, CHUNK: tl.constexpr
) -> Value:
    """(row, its address in the table, first element, elements left) of this program."""
    row = tl.load(owners + tl.program_id(0)).to(tl.int64)
    at = places + row * COLUMNS
    first = (tl.program_id(0) - tl.load(at)) * CHUNK
    left = tl.minimum(tl.load(at + 1) - first, CHUNK).to(tl.int32)
    if EVEN:  # then whole vectors are inside or not
        left = tl.multiple_of(left, 16)
    return row, at, first, left


@jit
def pointer(
    address: Value,
    first: Value,
    dtype: tl.constexpr,
    SIZE: tl.constexpr,
    EVEN: tl.constexpr,
) -> Value:
    """To element `first` of a tensor of SIZE bytes each."""
    p = (address + first * SIZE).to(tl.pointer_type(dtype))
    if EVEN:
        p = tl.multiple_of(p, 16)
    return p


@jit
def float_of(bits: Value) -> Value:
    """The float32 of an int32 bit pattern."""
    return bits.to(tl.float32, bitcast=True)


@jit
def bits_of(x: Value) -> Value:
    """The int32 bit pattern of a float32."""
    return x.to(tl.int32, bitcast=True)


@jit
def signed(x: Value, negative: Value) -> Value:
    """float32 with the other sign where `negative`: a difference from 0 would lose that of 0."""
    return float_of(tl.where(negative, bits_of(x) ^ -2147483648, bits_of(x)))


@jit
def load_float(p: Value, i: Value, mask: Value, NARROW: tl.constexpr) -> Value:
    """float32, of bfloat16's bit patterns (int16) if NARROW."""
    if NARROW:
        x = float_of(tl.load(p + i, mask, other=0).to(tl.int32) << 16)
    else:
        x = tl.load(p + i, mask, other=0.0)
    return x


@jit
def words(key: Value, block: Value, step: Value, PURPOSE: tl.constexpr) -> Value:
    """Four words each of blocks of Philox (int64, flat), in order: uint32."""
    zero = (block * 0).to(tl.uint32)
    low, high = (block & _MASK).to(tl.uint32), ((block >> 32) & _MASK).to(tl.uint32)
    third, fourth = zero + (step & _MASK).to(tl.uint32), zero + PURPOSE
    k0, k1 = zero + (key & _MASK).to(tl.uint32), zero + ((key >> 32) & _MASK).to(tl.uint32)
    a, b, c, d = tl.random.philox_impl(low, high, third, fourth, k0, k1, _ROUNDS)
    return tl.interleave(tl.interleave(a, c), tl.interleave(b, d))


@jit
def halves(
    key: Value, first: Value, step: Value, PURPOSE: tl.constexpr, CHUNK: tl.constexpr
) -> Value:
    """`moment.random_halves` of elements first ... (a multiple of 128), two of int32."""
    every = words(key, first // 128 + tl.arange(0, CHUNK // 128), step, PURPOSE).to(
        tl.int32, bitcast=True
    )
    lanes = (tl.arange(0, 32) << 11)[None, :]
    low, high = (every & 0xFFFF)[:, None] ^ lanes, ((every >> 16) & 0xFFFF)[:, None] ^ lanes
    return tl.reshape(low, [CHUNK]), tl.reshape(high, [CHUNK])


@jit
def seeded_signs(key: Value, block: Value, CHUNK: tl.constexpr) -> Value:
    """Bits of a key's signs, int32 (CHUNK,): 1 is negative; 128 of each block of Philox."""
    every = words(key, block, tl.zeros([], tl.int64), _SIGN)
    bits = (every[:, None] >> tl.arange(0, 32)[None, :].to(tl.uint32)) & 1
    return tl.reshape(bits, [CHUNK]).to(tl.int32)


@jit
def packed_signs(packed: Value, left: Value, CHUNK: tl.constexpr) -> Value:
    """Bits of a chunk's elements in packed signs, int32."""
    j = tl.arange(0, CHUNK // 8)
    every = tl.load(packed + j, 8 * j < left, other=0).to(tl.int32)
    return tl.reshape((every[:, None] >> tl.arange(0, 8)[None, :]) & 1, [CHUNK])

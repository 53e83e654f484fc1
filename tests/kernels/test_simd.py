"""Vectors of sixteen lanes against numpy, bit for bit."""

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError

from rung.kernels.cpu import simd
from rung.kernels.cpu.memory_lanes import (
    load,
    pointer,
    prefetch,
    read,
    read_bits,
    store,
    stream,
    write,
)
from rung.kernels.cpu.simd import (
    any_lane,
    bits_of,
    bits_of_mask,
    float_of,
    floor,
    fma,
    lanes,
    look_up,
    mask_of_bits,
    round_even,
    select,
    shift_right,
    splat,
    sqrt,
    sum_lanes,
    to_float,
    to_int,
)

# Without numba's cache on disk, which does not notice a change of `simd`.
njit = numba.njit(error_model="numpy")
STORED = [np.uint8, np.int8, np.uint16, np.int16, np.int32, np.float32]
ODD = [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 1e-42, -1e-42, 3e38, -3e38, np.inf, -np.inf, np.nan]


def floats(count=160, seed=0):
    draw = np.random.default_rng(seed)
    values = (draw.standard_normal(count) * np.exp(4 * draw.standard_normal(count))).astype("f4")
    values[: len(ODD)] = ODD
    return draw.permutation(values)


def integers(count=160, seed=0):
    draw = np.random.default_rng(seed)
    values = draw.integers(-(2**31), 2**31, count).astype(np.int32)
    values[:6] = [0, 1, -1, 2**31 - 1, -(2**31), 2**24 + 1]
    return draw.permutation(values)


def numbers(dtype, count, seed=0):
    if dtype == np.float32:
        return floats(count, seed)
    span = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(span.min, span.max, count, dtype, endpoint=True)


def assert_same_bits(ours, theirs):
    """Equal to the last bit; NaN equals NaN."""
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    both_nan = (ours != ours) & (theirs != theirs)
    view = f"i{ours.dtype.itemsize}"
    assert ((ours.view(view) == theirs.view(view)) | both_nan).all()


@njit
def copy_at(source, i, target, j):
    store(target, j, load(source, i))


@njit
def copy_to(source, target):
    like_source, like_target = source[0], target[0]
    write(target.ctypes.data, like_target, read(source.ctypes.data, like_source))


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("place", [0, 1, 7, 16, 21])  # 21 is the last of an array of 37
def test_sixteen_numbers_are_loaded_and_stored_at_any_place_and_no_others(dtype, place):
    source = numbers(dtype, 37)
    wide = np.float32 if dtype == np.float32 else np.int32
    widened = np.full(37, 77, wide)
    copy_at(source, place, widened, 37 - 16 - place)
    expected = np.full(37, 77, wide)
    expected[21 - place : 37 - place] = source[place : place + 16]
    assert_same_bits(widened, expected)
    back = np.zeros(37, dtype)
    copy_at(widened, 21 - place, back, place)
    assert_same_bits(back[place : place + 16], source[place : place + 16])
    assert not back[:place].any()
    assert not back[place + 16 :].any()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_a_store_drops_the_bits_that_there_is_no_room_for(dtype):
    source, target = integers(16), np.zeros(16, dtype)
    copy_at(source, 0, target, 0)
    assert_same_bits(target, source.astype(dtype))


@pytest.mark.parametrize("dtype", STORED)
def test_addresses_are_read_and_written_alike(dtype):
    source = numbers(dtype, 16)
    wide = np.float32 if dtype == np.float32 else np.int32
    widened, back = np.zeros(16, wide), np.zeros(16, dtype)
    copy_to(source, widened)
    copy_to(widened, back)
    assert_same_bits(widened, source.astype(wide))
    assert_same_bits(back, source)


@njit
def fill_streams(start, whole, integers_too):
    array = numba.carray(pointer(start, np.float32(0)), 32)
    prefetch(start)
    prefetch(np.int64(1))  # asks for what is not there and must not mind
    stream(array, 16, splat(np.float32(2.5)))
    other = numba.carray(pointer(whole, np.int32(0)), 16)
    stream(other, 0, lanes() + splat(np.int32(integers_too)))


def aligned(count, dtype):
    room = np.zeros(count + 16, dtype)
    first = -room.ctypes.data % 64 // room.itemsize
    return room[first : first + count]


def test_streams_write_past_the_caches():
    values, whole = aligned(32, np.float32), aligned(16, np.int32)
    fill_streams(values.ctypes.data, whole.ctypes.data, 5)
    assert values.tolist() == [0.0] * 16 + [2.5] * 16
    assert whole.tolist() == list(range(5, 21))


@njit
def float_operations(x, y, out):
    n = x.size
    for i in range(0, n, 16):
        a, b = load(x, i), load(y, i)
        store(out, i, a + b)
        store(out, n + i, a - b)
        store(out, 2 * n + i, a * b)
        store(out, 3 * n + i, a / b)
        store(out, 4 * n + i, sqrt(a))
        store(out, 5 * n + i, floor(a))
        store(out, 6 * n + i, round_even(a))
        store(out, 7 * n + i, select(a < b, a, b))


def test_float_operations_round_as_numpys_do():
    x, y = floats(160, 1), floats(160, 2)
    out = np.zeros((8, 160), np.float32)
    float_operations(x, y, out.reshape(-1))
    with np.errstate(all="ignore"):
        expected = [x + y, x - y, x * y, x / y, np.sqrt(x), np.floor(x), np.rint(x)]
    for ours, theirs in zip(out, [*expected, np.where(x < y, x, y)], strict=True):
        assert_same_bits(ours, theirs)


@njit
def fused(x, y, z, out):
    for i in range(0, x.size, 16):
        store(out, i, fma(load(x, i), load(y, i), load(z, i)))


def test_a_fused_product_is_rounded_once():
    draw = np.random.default_rng(0)
    x, y = (draw.uniform(1, 2, 1600).astype("f4") for _ in range(2))
    z, out = -draw.uniform(0.5, 4, 1600).astype("f4"), np.zeros(1600, np.float32)
    fused(x, y, z, out)
    # Product and sum have at most 50 bits here: float64's are exact.
    assert_same_bits(out, (x.astype("f8") * y + z).astype("f4"))
    assert (out != x * y + z).any()


@njit
def integer_operations(x, y, counts, out):
    n = x.size
    for i in range(0, n, 16):
        a, b, c = load(x, i), load(y, i), load(counts, i)
        store(out, i, a + b)
        store(out, n + i, a - b)
        store(out, 2 * n + i, a * b)
        store(out, 3 * n + i, a & b)
        store(out, 4 * n + i, a | b)
        store(out, 5 * n + i, a ^ b)
        store(out, 6 * n + i, a << c)
        store(out, 7 * n + i, a >> c)
        store(out, 8 * n + i, shift_right(a, c))
        store(out, 9 * n + i, select(a > b, a, b))


def test_integer_operations_wrap_and_shift_as_numpys_do():
    x, y = integers(160, 1), integers(160, 2)
    counts = np.arange(160, dtype=np.int32) % 32
    out = np.zeros((10, 160), np.int32)
    integer_operations(x, y, counts, out.reshape(-1))
    with np.errstate(all="ignore"):
        expected = [x + y, x - y, x * y, x & y, x | y, x ^ y, x << counts, x >> counts]
    logical = (x.view(np.uint32) >> counts.view(np.uint32)).view(np.int32)
    for ours, theirs in zip(out, [*expected, logical, np.maximum(x, y)], strict=True):
        assert_same_bits(ours, theirs)


@njit
def comparisons(x, y, out):
    for i in range(0, x.size, 16):
        a, b = load(x, i), load(y, i)
        at = i // 16 * 7
        out[at] = bits_of_mask(a < b)
        out[at + 1] = bits_of_mask(a <= b)
        out[at + 2] = bits_of_mask(a > b)
        out[at + 3] = bits_of_mask(a >= b)
        out[at + 4] = bits_of_mask(a == b)
        out[at + 5] = bits_of_mask((a < b) & (a == a))
        out[at + 6] = bits_of_mask((a < b) | (a == b))


@pytest.mark.parametrize("make", [floats, integers])
def test_comparisons_are_false_for_nan_and_give_one_bit_a_lane(make):
    x, y = make(160, 1), make(160, 2)
    y[::3] = x[::3]
    out = np.zeros((10, 7), np.uint16)
    comparisons(x, y, out.reshape(-1))
    expected = [x < y, x <= y, x > y, x >= y, x == y, (x < y) & (x == x), (x < y) | (x == y)]
    for ours, theirs in zip(out.T, expected, strict=True):
        assert np.array_equal(np.ascontiguousarray(ours).view(np.uint8), pack(theirs))


def pack(truths):
    return np.packbits(truths, bitorder="little")


@njit
def conversions(x, n, out_ints, out_floats):
    for i in range(0, x.size, 16):
        store(out_ints, i, bits_of(load(x, i)))
        store(out_floats, i, float_of(load(n, i)))
        store(out_floats, x.size + i, to_float(load(n, i)))


def test_bit_patterns_and_integers_as_floats():
    x, n = floats(), integers()
    ints, values = np.zeros(160, np.int32), np.zeros((2, 160), np.float32)
    conversions(x, n, ints, values.reshape(-1))
    assert_same_bits(ints, x.view(np.int32))
    assert_same_bits(values[0].view(np.int32), n)
    assert_same_bits(values[1], n.astype(np.float32))


@njit
def truncate(x, out):
    store(out, 0, to_int(load(x, 0)))


def test_floats_become_integers_towards_zero():
    x = np.array([0.9, -0.9, 1.5, -1.5, 2.0**30, -(2.0**31), 1e-40, -0.0] * 2, np.float32)
    out = np.ones(16, np.int32)
    truncate(x, out)
    assert_same_bits(out, x.astype(np.int32))


@njit
def reductions(x):
    a = load(x, 0)
    return sum_lanes(a), any_lane(a > splat(np.float32(2))), any_lane(a < splat(np.float32(-99)))


def test_sums_go_by_halves_and_any_lane_counts():
    for lane in range(16):
        x = np.random.default_rng(lane).uniform(-1, 1, 16).astype("f4")
        x[lane] = 3.0
        halves = x.copy()
        while halves.size > 1:
            halves = halves[: halves.size // 2] + halves[halves.size // 2 :]
        assert reductions(x) == (halves[0], True, False)


def choose(table, index, out):
    store(out, 0, look_up(load(table, 0), load(index, 0)))


@pytest.mark.parametrize("instruction", ["the processor's", "LLVM's only"])
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_a_table_is_looked_up_by_the_low_four_bits(dtype, instruction, monkeypatch):
    if instruction == "LLVM's only":
        monkeypatch.setattr(simd, "_HAS_PERMUTE", False)
    compiled, table = njit(choose), numbers(dtype, 16)
    for index in (np.arange(16), np.arange(15, -1, -1), np.arange(16) * 37 - 290, integers(16)):
        out = np.zeros(16, dtype)
        compiled(table, index.astype(np.int32), out)
        assert_same_bits(out, table[index & 15])


@njit
def spread(words, out, back):
    one, zero = splat(np.int32(1)), splat(np.int32(0))
    for i in range(words.size):
        mask = mask_of_bits(words[i])
        store(out, 16 * i, select(mask, one, zero))
        back[i] = bits_of_mask(mask)


@njit
def spread_bytes(address, count, out):
    for i in range(count):
        mask = read_bits(address + i)
        store(out, 16 * i, select(mask, splat(np.int32(1)), splat(np.int32(0))))


def test_bits_are_truth_values_the_lowest_first_and_back():
    words = np.arange(0, 2**16, 7, dtype=np.uint16)
    out, back = np.zeros((words.size, 16), np.int32), np.zeros_like(words)
    spread(words, out.reshape(-1), back)
    assert np.array_equal(out, words[:, None] >> np.arange(16) & 1)
    assert np.array_equal(back, words)


def test_bits_are_read_from_any_byte():
    stored = np.random.default_rng(0).integers(0, 256, 20, np.uint8)
    out = np.zeros((19, 16), np.int32)
    spread_bytes(stored.ctypes.data, 19, out.reshape(-1))
    bits = np.unpackbits(stored, bitorder="little")
    for i in range(19):
        assert np.array_equal(out[i], bits[8 * i : 8 * i + 16])


@pytest.mark.parametrize("value", [np.float64(1), np.int64(1)], ids=["float64", "int64"])
def test_other_widths_are_refused_when_compiling(value):
    @njit
    def fill(value):
        return splat(value)

    with pytest.raises(TypingError, match="splat"):
        fill(value)

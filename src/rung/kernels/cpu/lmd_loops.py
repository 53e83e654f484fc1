"""The loops of LMD over lists of tensors, compiled by numba: `cpu.lmd`.

Sixty-four elements at a time: their random words are made, then four times sixteen elements go
through one of the modes of `lmd_steps`, in one pass over memory.
"""

from typing import Any

import numpy as np
from numba import types

from rung.kernels.cpu.arrays import array_at
from rung.kernels.cpu.chunk_loops import copy_bytes
from rung.kernels.cpu.jit import called, jit, lane, overload
from rung.kernels.cpu.lane_control import Variable, loop, when
from rung.kernels.cpu.lane_operands import choose
from rung.kernels.cpu.lmd_lanes import log2_numbers
from rung.kernels.cpu.lmd_steps import (
    APART,
    add_gradients,
    draw,
    make_factors,
    move,
    put_point,
    squares,
)
from rung.kernels.cpu.memory_lanes import prefetch, write
from rung.kernels.cpu.moment_lanes import size_of
from rung.kernels.cpu.philox_noise import KEYS, eight_blocks, key_schedule
from rung.kernels.cpu.simd import splat
from rung.kernels.philox import PURPOSE_NORMAL, PURPOSE_ROUND

# What `walk` does, told by the type of its `mode`.
MODES = {
    "sample": np.int8(0), "point": np.int16(0), "accumulate": np.int32(0), "squares": np.uint8(0),
    "update": np.uint16(0),
}  # fmt: skip
# Columns of the numbers, a row a tensor.
(
    RATE, BETA1, REST1, BETA2, REST2, SIGMA, FACTOR, SHIFT, DECAY, POINT_FACTOR, INVERSE, CLIP,
    SHARE,
) = range(13)  # fmt: skip
COLUMNS = 13
GROUP = 64  # elements

_f32, _i32, _u64 = np.float32, np.int32, np.uint64
_NORMAL, _ROUND = _i32(PURPOSE_NORMAL), _i32(PURPOSE_ROUND)
_AHEAD = 2048  # bytes
# Parts of a thread's scratch memory: offsets in bytes.
NOISE_KEYS, ROUND_KEYS, WORDS = 0, KEYS, 2 * KEYS
DRAWS, FACTORS = WORDS + 384, WORDS + 768
TAIL = FACTORS + 2 * APART
SCRATCH = TAIL + 8 * 4 * GROUP


@called
def _fill(target: Any, keys: Any, first: Any, high: Any, step: Any, purpose: Any) -> None:
    """Words of 64 elements from `first` on, and up to three before."""
    block = (first >> _u64(2)) + (high << _u64(32))
    for k in loop(0, choose((first & _u64(3)) != 0, 3, 2)):
        x, y = eight_blocks(keys, block + _u64(8 * k), step, purpose)
        write(target + 128 * k, _i32(0), x)
        write(target + 128 * k + 64, _i32(0), y)


def group(
    mode: Any, a: Any, factors: Any, draws: Any, numbers: Any, like: Any, prior: Any, flags: Any,
    past: Any,
) -> Any:  # fmt: skip
    """One mode on sixteen elements; a float64, which only "squares" has a use for."""
    raise NotImplementedError  # numba's alone


@overload(group)
def _group(
    mode: Any, a: Any, factors: Any, draws: Any, numbers: Any, like: Any, prior: Any, flags: Any,
    past: Any,
) -> Any:  # fmt: skip
    def sample(
        mode: Any, a: Any, factors: Any, draws: Any, numbers: Any, like: Any, prior: Any,
        flags: Any, past: Any,
    ) -> Any:  # fmt: skip
        draw(a, factors, like, flags[0], past)
        return 0.0

    def point(
        mode: Any, a: Any, factors: Any, draws: Any, numbers: Any, like: Any, prior: Any,
        flags: Any, past: Any,
    ) -> Any:  # fmt: skip
        put_point(a, numbers[0][9], like, past)
        return 0.0

    def accumulate(
        mode: Any, a: Any, factors: Any, draws: Any, numbers: Any, like: Any, prior: Any,
        flags: Any, past: Any,
    ) -> Any:  # fmt: skip
        add_gradients(a, factors, numbers[1], like, flags[0])
        return 0.0

    def sums(
        mode: Any, a: Any, factors: Any, draws: Any, numbers: Any, like: Any, prior: Any,
        flags: Any, past: Any,
    ) -> Any:  # fmt: skip
        n = numbers[0]
        return squares(a, factors, n[1], n[2], like, flags[0], flags[1])

    def update(
        mode: Any, a: Any, factors: Any, draws: Any, numbers: Any, like: Any, prior: Any,
        flags: Any, past: Any,
    ) -> Any:  # fmt: skip
        move(a, factors, draws, numbers[0], like, prior, flags[0], flags[1], flags[2], past)
        return 0.0

    kinds = (types.int8, types.int16, types.int32, types.uint8, types.uint16)
    return dict(zip(kinds, (sample, point, accumulate, sums, update), strict=True))[mode]


@lane
def _moved(a: Any, count: Any, like: Any) -> Any:
    """Addresses `count` elements further on; those of tensors that are not there mean nothing."""
    wide, own = 4 * count, size_of(like) * count
    return (
        a[0] + wide, a[1] + wide, a[2] + wide, a[3] + wide, a[4] + own, a[5] + own, a[6] + own,
        a[7] + own,
    )  # fmt: skip


@lane
def _numbers(row: Any) -> Any:
    """What the modes take, the numbers that don't change inside a tensor."""
    octaves, fraction = log2_numbers(np.log2(row[FACTOR]))
    return (
        _f32(row[RATE]), _f32(row[BETA1]), _f32(row[REST1]), _f32(row[BETA2]), _f32(row[REST2]),
        _f32(row[SIGMA]), _f32(row[FACTOR]), _f32(row[SHIFT]), _f32(row[DECAY]),
        _f32(row[POINT_FACTOR]), row[INVERSE], row[CLIP], octaves, fraction,
    ), _f32(row[SHARE])  # fmt: skip


@called
def _run(
    mode: Any, a: Any, count: Any, first: Any, name: Any, row: Any, like: Any, prior: Any,
    flags: Any, past: Any, sums_at: Any, scratch: Any,
) -> None:  # fmt: skip
    """Whole groups: `count` elements, of which the first is `first` of its parameter."""
    numbers, step = _numbers(row), _i32(np.uint32(name[2]))
    lead = np.int64(first & _u64(3))
    words, draws = scratch + WORDS + 4 * lead, scratch + DRAWS + 4 * lead
    factors = scratch + FACTORS
    for i in loop(0, count, GROUP):
        own = first + _u64(i)
        if flags[0] is not None:
            _fill(scratch + WORDS, scratch + NOISE_KEYS, own, name[3], step, _NORMAL)
            for j in loop(0, 4 * GROUP, 64):
                make_factors(factors + j, words + j, numbers[0][5])
        if flags[3] is not None:
            _fill(scratch + DRAWS, scratch + ROUND_KEYS, own, _u64(0), step, _ROUND)
        total = Variable(np.float64(0))
        for j in loop(0, GROUP, 16):
            here = _moved(a, i + j, like)
            for place in here:
                prefetch(place + _AHEAD)
            total.now = total.now + group(
                mode, here, factors + 4 * j, draws + 4 * j, numbers, like, prior, flags, past
            )
        with when(sums_at != 0):
            array_at(sums_at, np.float64(0), count)[i // GROUP] = total.now


@lane
def _tail(
    mode: Any, a: Any, count: Any, first: Any, name: Any, row: Any, like: Any, prior: Any,
    flags: Any, sums_at: Any, scratch: Any,
) -> None:  # fmt: skip
    """Less than a group, by way of copies that have room for one."""
    room, size, length = scratch + TAIL, size_of(like), np.int64(GROUP)
    for place in loop(room, room + 8 * 4 * GROUP, 64):
        write(place, _i32(0), splat(_i32(0)))  # adds nothing to a sum of squares
    own = tuple(room + 4 * GROUP * k for k in range(8))
    bytes_of = tuple((4 if k < 4 else size) * count for k in range(8))
    for k in range(8):
        with when(a[k] != 0):
            copy_bytes(own[k], a[k], bytes_of[k])
    _run(mode, own, length, first, name, row, like, prior, flags, np.int64(0), sums_at, scratch)
    for k in (0, *range(2, 8)):  # the gradient is the caller's
        with when(a[k] != 0):
            copy_bytes(a[k], own[k], bytes_of[k])


@jit
def walk(
    mode: Any, addresses: Any, sizes: Any, firsts: Any, names: Any, numbers: Any, like: Any,
    prior: Any, flags: Any, begin: Any, end: Any, sums: Any, streams: Any, scratch: Any,
) -> None:  # fmt: skip
    """One mode over groups begin ... end - 1 of a list of tensors.

    Args:
        mode: Of `MODES`.
        addresses: int64 (tensors, 8): weight, gradient, h+, h-, m+, m-, v+, v-; 0: not there.
        sizes: int64 elements of each.
        firsts: int64, the list's number of each tensor's first group, and of all groups.
        names: uint64 (tensors, 5): key, first element, step, sample, key of the rounding.
        numbers: float64 (tensors, COLUMNS).
        like: A float32 or, for states in bfloat16, a uint16.
        prior: Of `lmd_steps.PRIORS`.
        flags: None for no, else 1: there is noise; h is given; directions are by rms; states are
            rounded.
        begin: First group.
        end: One after the last.
        sums: float64, one for each group of the list, for "squares"; else empty.
        streams: Whether weights are written past the caches, int64.
        scratch: Address of `SCRATCH` bytes.
    """
    for t in range(sizes.size):
        low, high = max(begin, firsts[t]) - firsts[t], min(end, firsts[t + 1]) - firsts[t]
        if low < high:
            own = sums.ctypes.data + 8 * firsts[t] if sums.size else 0
            _tensor(
                mode, addresses[t], sizes[t], low, high, names[t], numbers[t], like, prior, flags,
                own, streams, scratch,
            )  # fmt: skip


@lane
def _tensor(
    mode: Any, addresses: Any, size: Any, low: Any, high: Any, name: Any, row: Any, like: Any,
    prior: Any, flags: Any, sums_at: Any, streams: Any, scratch: Any,
) -> None:  # fmt: skip
    """Groups low ... high - 1 of a tensor."""
    key_schedule(scratch + NOISE_KEYS, name[0])
    key_schedule(scratch + ROUND_KEYS, name[4])
    a, full = tuple(addresses[k] for k in range(8)), size // GROUP
    whole = min(high, full)
    with when(low < whole):
        here = _moved(a, low * GROUP, like)
        past = choose(here[0] % 64 == 0, streams, np.int64(0))
        sums = choose(sums_at != 0, sums_at + 8 * low, 0)
        _run(
            mode, here, (whole - low) * GROUP, name[1] + _u64(low * GROUP), name, row, like, prior,
            flags, past, sums, scratch,
        )  # fmt: skip
    with when(high > full):
        done = full * GROUP
        moved = _moved(a, done, like)
        there = tuple(choose(a[k] != 0, moved[k], 0) for k in range(8))
        sums = choose(sums_at != 0, sums_at + 8 * full, 0)
        _tail(
            mode, there, size - done, name[1] + _u64(done), name, row, like, prior, flags, sums,
            scratch,
        )  # fmt: skip

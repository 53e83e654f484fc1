"""The loop of the steps that move codes, compiled by numba: `cpu.coded_madam`.

One pass: 32 elements' gradients, moments and codes are read, moved and written before the next 32,
and lines of memory are asked for ahead of their turn. What stages over whole chunks cost is the
processor waiting for memory in one of them and for arithmetic in the next.
"""

from typing import Any

import numpy as np

from rung.kernels.cpu.chunk_loops import CHUNK, copy_bytes, fill_words
from rung.kernels.cpu.half_lanes import (
    add_within,
    any_bit,
    first_integers,
    first_truths,
    larger,
    last_integers,
    last_truths,
    lower_halves,
    read_halves,
    smaller,
    splat_halves,
    subtract_within,
    upper_halves,
    write_halves,
)
from rung.kernels.cpu.jit import jit, lane
from rung.kernels.cpu.lane_control import Variable, loop, when
from rung.kernels.cpu.lane_operands import choose
from rung.kernels.cpu.memory_lanes import prefetch, read_bits, write
from rung.kernels.cpu.moment_lanes import advance, bounded, read_gradients, size_of
from rung.kernels.cpu.momentum_lanes import bytes_of, carry
from rung.kernels.cpu.philox_noise import (
    KEYS,
    ROOM,
    SHARED,
    first_numbers,
    key_schedule,
    last_numbers,
    shared_halves,
)
from rung.kernels.cpu.simd import bits_of, float_of, select, splat, to_float, to_int
from rung.kernels.philox import PURPOSE_MOMENT, PURPOSE_MOMENTUM, PURPOSE_SIGN

_f32, _i32, _u64 = np.float32, np.int32, np.uint64
_MOMENT, _MOMENTUM, _SIGN = _i32(PURPOSE_MOMENT), _i32(PURPOSE_MOMENTUM), _u64(PURPOSE_SIGN)
# Adding it rounds to an integer, which the lower half of the float's bits then holds.
_TO_INTEGER = _f32(1.5 * 2**23)
_PARTS = _f32(2.0**16)  # of a rung, in which stochastic moves are counted
_TOP_BIT = _i32(0x8000)
_AHEAD = 2048  # bytes

# Columns of `places` and of `numbers`, a row per tensor.
CODES, GRAD, MOMENT, MOMENTUM, SIGNS, KEY, COUNT, STEP, LAST = range(9)
BETA, REST, SCALE, INVERSE, FACTOR, REACH, DECAY, NORMAL, CLIP, CARRY, CARRY_REST = range(11)
# Parts of a thread's scratch memory: offsets in bytes.
SCHEDULE, NOISE, CARRY_NOISE, DRAWN_SIGNS = 0, KEYS, KEYS + ROOM, KEYS + 2 * ROOM
TAIL = DRAWN_SIGNS + CHUNK // 8
_COPIES = 512  # bytes
SCRATCH = TAIL + _COPIES


@lane
def _rungs(ratio: Any, negative: Any, numbers: Any) -> Any:
    """`rung_moves.rungs_down` of sixteen weights."""
    factor, reach, decay = numbers
    x = bits_of(bounded(ratio * splat(factor), reach))
    x = select(negative, x ^ splat(_i32(-(2**31))), x)
    return float_of(x) + splat(decay)


@lane
def _whole(x: Any, y: Any, noise: Any, stochastic: Any) -> Any:
    """`rung_moves.whole_rungs` of 32 moves, counted in 2^-16ths of a rung if `stochastic`."""
    if stochastic is None:
        magic = splat(_TO_INTEGER)
        return lower_halves(bits_of(x + magic), bits_of(y + magic))
    return upper_halves(to_int(x) + first_numbers(noise), to_int(y) + last_numbers(noise))


@lane
def _towards(ratio: Any, k: Any, numbers: Any) -> Any:
    """`rung_moves.rungs_towards` of sixteen weights, whose decay is that of one rung."""
    factor, reach, decay = numbers
    return bounded(ratio * splat(factor), reach) + to_float(k) * splat(decay)


@lane
def _move_free(
    place: Any, like: Any, ratios: Any, noise: Any, stochastic: Any, numbers: Any, last: Any
) -> None:
    """Move 32 codes of a sinh ladder, k + last / 2."""
    # Codes up to 65,534: with the top bit turned over int16's lowest number stands for 0.
    flip = splat_halves(_TOP_BIT)
    code = read_halves(place, like) ^ flip
    k = add_within(code, splat_halves(_TOP_BIT - (last >> 1)))
    x = _towards(ratios[0], first_integers(k), numbers)
    y = _towards(ratios[1], last_integers(k), numbers)
    moved = subtract_within(code, _whole(x, y, noise, stochastic))
    write_halves(place, like, smaller(moved, splat_halves(last ^ _TOP_BIT)) ^ flip)


@lane
def _move(
    place: Any, like: Any, kinds: Any, ratios: Any, signs: Any, noise: Any, stochastic: Any,
    numbers: Any, last: Any,
) -> None:  # fmt: skip
    """Move 32 codes.

    A ladder's grow as weights shrink; LNS codes (`signed`) shrink with them, below a sign bit; a
    sinh ladder's (`free` too) are signed numbers.
    """
    signed, free = kinds
    if free is not None:
        _move_free(place, like, ratios, noise, stochastic, numbers, last)
    else:
        _move_sizes(place, like, signed, ratios, signs, noise, stochastic, numbers, last)


@lane
def _move_sizes(
    place: Any, like: Any, signed: Any, ratios: Any, signs: Any, noise: Any, stochastic: Any,
    numbers: Any, last: Any,
) -> None:  # fmt: skip
    """Move 32 codes whose signs stay."""
    code = read_halves(place, like)
    if signed is None:
        x = _rungs(ratios[0], read_bits(signs), numbers)
        y = _rungs(ratios[1], read_bits(signs + 2), numbers)
        # Codes up to 65,535: with the top bit turned over int16's lowest number stands for 0.
        flip = splat_halves(_TOP_BIT)
        moved = add_within(code ^ flip, _whole(x, y, noise, stochastic))
        write_halves(place, like, smaller(moved, splat_halves(last ^ _TOP_BIT)) ^ flip)
    else:
        bit = code & splat_halves(last + _i32(1))
        negative = any_bit(bit)
        x = _rungs(ratios[0], first_truths(negative), numbers)
        y = _rungs(ratios[1], last_truths(negative), numbers)
        largest = splat_halves(last)
        moved = subtract_within(code & largest, _whole(x, y, noise, stochastic))
        moved = larger(smaller(moved, largest), splat_halves(_i32(0)))
        write_halves(place, like, moved | bit)


@lane
def _moves(numbers: Any, stochastic: Any) -> Any:
    """Factor, reach and decay in the unit that `_whole` counts in."""
    factor, reach, decay = numbers[FACTOR], numbers[REACH], numbers[DECAY]
    if stochastic is None:
        return factor, reach, decay
    return factor * _PARTS, reach * _PARTS, decay * _PARTS


@lane
def _part(
    codes: Any, grad: Any, v: Any, m: Any, signs: Any, n: Any, first: Any, step: Any, numbers: Any,
    last: Any, likes: Any, modes: Any, tables: Any, scratch: Any,
) -> None:  # fmt: skip
    """A multiple of 32 elements, of which the first is `first` of its tensor."""
    like, grad_like, moment_like, carry_like = likes
    stochastic, noisy = modes[2:]
    size, grad_size, moment_size = size_of(like), size_of(grad_like), size_of(moment_like)
    beta, rest = numbers[BETA], numbers[REST]
    scales, moves = (numbers[SCALE], numbers[INVERSE]), _moves(numbers, stochastic)
    carried = numbers[NORMAL], numbers[CLIP], numbers[CARRY], numbers[CARRY_REST]
    noise = scratch + NOISE
    for block in loop(first // SHARED, (first + n + (SHARED - 1)) // SHARED):
        place = block * SHARED - first
        if noisy is not None:
            shared_halves(noise, scratch + SCHEDULE, block * SHARED, step, _MOMENT)
            if carry_like is not None:
                other = scratch + CARRY_NOISE
                shared_halves(other, scratch + SCHEDULE, block * SHARED, step, _MOMENTUM)
        for i in loop(max(place, 0), min(place + SHARED, n), 32):
            own = noise + (i - place) // 8
            prefetch(grad + grad_size * i + _AHEAD)
            prefetch(grad + grad_size * i + _AHEAD + 64)
            prefetch(v + moment_size * i + _AHEAD)
            prefetch(codes + size * i + _AHEAD)
            g = read_gradients(grad + grad_size * i, grad_like)
            r = advance(g, v + moment_size * i, moment_like, own, beta, rest, scales, tables)
            r = carry(
                r, m + bytes_of(i, carry_like), carry_like, own + (CARRY_NOISE - NOISE), carried
            )
            _move(
                codes + size * i, like, modes[:2], r, signs + i // 8, own + ROOM // 2, stochastic,
                moves, last,
            )  # fmt: skip


@lane
def _chunk(
    first: Any, n: Any, place: Any, numbers: Any, likes: Any, modes: Any, tables: Any, scratch: Any
) -> None:
    """Elements first ... first + n - 1 of a tensor, at most `CHUNK`."""
    size, grad_size, moment_size = size_of(likes[0]), size_of(likes[1]), size_of(likes[2])
    signs = Variable(place[SIGNS] + first // 8)
    if modes[0] is None:
        with when(place[SIGNS] == 0):
            signs.now, block = scratch + DRAWN_SIGNS, _u64(first // 128)
            fill_words(signs.now, (n + 127) // 128, _u64(place[KEY]), block, _u64(0), _SIGN)
    codes, grad = place[CODES] + size * first, place[GRAD] + grad_size * first
    v, step, last = place[MOMENT] + moment_size * first, _i32(place[STEP]), _i32(place[LAST])
    m = place[MOMENTUM] + bytes_of(first, likes[3])
    full = n & np.int64(-32)
    # What is left goes through copies that have room for 32.
    room, rest = scratch + TAIL, n - full
    copies = (
        (room, codes + size * full, size * rest),
        (room + 192, v + moment_size * full, moment_size * rest),
        (room + 320, m + bytes_of(full, likes[3]), bytes_of(rest, likes[3])),
        (room + 64, grad + grad_size * full, grad_size * rest),
        (room + 448, signs.now + full // 8, (rest + 7) // 8),
    )
    # One loop for both, since a second copy of it would take as long again to compile.
    for part in loop(0, choose(rest > 0, 2, 1)):
        tail = part > 0
        with when(tail):
            # Momenta that share a byte with what isn't there stay 0.
            for i in range(0, _COPIES, 64):
                write(room + i, _f32(0), splat(_f32(0)))
            for copy in copies if modes[0] is None else copies[:4]:
                copy_bytes(*copy)
        _part(
            choose(tail, room, codes), choose(tail, room + 64, grad), choose(tail, room + 192, v),
            choose(tail, room + 320, m), choose(tail, room + 448, signs.now),
            choose(tail, 32, full), choose(tail, first + full, first), step, numbers, last, likes,
            modes, tables, scratch,
        )  # fmt: skip
    for target, source, count in copies[:3]:
        copy_bytes(source, target, count)


@jit
def step(
    places: Any, numbers: Any, chunks: Any, likes: Any, modes: Any, tables: Any, scratch: Any,
    begin: Any, end: Any,
) -> None:  # fmt: skip
    """Move codes and moments of a list of tensors: their chunks begin ... end - 1.

    Args:
        places: int64, a row per tensor: addresses of codes, gradient, moment, momentum and packed
            signs (0 where they are drawn or in the codes), key, elements, step, largest code.
        numbers: float32, a row per tensor: beta, 1 - beta, the moment's scale and 1 / its new one;
            factor, reach and decay of `rung_moves.moves`; u per ratio and clip of
            `momentum.normals`, momentum, 1 - momentum.
        chunks: int64, number of chunks before each tensor, and in all.
        likes: Numbers whose types tell the storage: uint8 or uint16 codes; gradients in float32 or,
            as uint16, bfloat16; moments in float32, bfloat16 or, as uint8, log codes; momenta in
            float32, bfloat16 or, as uint8, 8-bit floats, as int8, two 4-bit floats each, or None.
        modes: None for no, else an integer: codes hold the sign; the sign is free; moves are
            rounded stochastically; random numbers are needed at all.
        tables: Address; see `moment_lanes.advance`.
        scratch: Address of `SCRATCH` bytes.
        begin: First chunk.
        end: Behind the last.
    """
    row, ready = 0, -1
    for chunk in range(begin, end):
        while chunk >= chunks[row + 1]:
            row += 1
        if modes[3] is not None:  # noqa: SIM102  # numba leaves out what this alone guards
            if row != ready:
                key_schedule(scratch + SCHEDULE, places[row, KEY])
                ready = row
        first = (chunk - chunks[row]) * CHUNK
        n = min(CHUNK, places[row, COUNT] - first)
        _chunk(first, n, places[row], numbers[row], likes, modes, tables, scratch)

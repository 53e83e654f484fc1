"""The loop of the steps that move codes, compiled by numba: `cpu.coded_madam`.

One pass: sixteen elements' gradient, moment and code are read, moved and written before the next
sixteen, and lines of memory are asked for ahead of their turn. What stages over whole chunks cost
is the processor waiting for memory in one of them and for arithmetic in the next.
"""

from typing import Any

import numpy as np

from rung.kernels.cpu.chunk_loops import CHUNK, copy_bytes, fill_words
from rung.kernels.cpu.jit import jit, lane
from rung.kernels.cpu.moment_lanes import advance, bounded, read_gradient, size_of
from rung.kernels.cpu.philox_noise import (
    KEYS,
    ROOM,
    SHARED,
    key_schedule,
    own_halves,
    shared_halves,
)
from rung.kernels.cpu.simd import (
    bits_of,
    float_of,
    prefetch,
    read,
    read_bits,
    select,
    splat,
    to_int,
    write,
)
from rung.kernels.philox import PURPOSE_MOMENT, PURPOSE_SIGN

_f32, _i32, _u64 = np.float32, np.int32, np.uint64
_MOMENT, _SIGN = _i32(PURPOSE_MOMENT), _u64(PURPOSE_SIGN)
_TO_INTEGER = _f32(1.5 * 2**23)  # adding it rounds to an integer, which its low bits then hold
_PARTS = _f32(2.0**16)  # of a rung, in which stochastic moves are counted
_AHEAD = 2048  # bytes

# Columns of `places` and of `numbers`, a row per tensor.
CODES, GRAD, MOMENT, SIGNS, KEY, COUNT, STEP, LAST = range(8)
BETA, REST, SCALE, INVERSE, FACTOR, REACH, DECAY = range(7)
# Parts of a thread's scratch memory: offsets in bytes.
SCHEDULE, NOISE, DRAWN_SIGNS = 0, KEYS, KEYS + ROOM
TAIL = DRAWN_SIGNS + CHUNK // 8
SCRATCH = TAIL + 256


@lane
def _rungs(ratio: Any, negative: Any, factor: Any, reach: Any, decay: Any) -> Any:
    """`coded_madam.rungs_down` of sixteen weights."""
    x = bits_of(bounded(ratio * splat(factor), reach))
    x = select(negative, x ^ splat(_i32(-(2**31))), x)
    return float_of(x) + splat(decay)


@lane
def _whole(x: Any, noise: Any, stochastic: Any) -> Any:
    """`coded_madam.whole_rungs` of sixteen moves; `noise` is read if `stochastic`."""
    if stochastic is None:
        return bits_of(x + splat(_TO_INTEGER)) - bits_of(splat(_TO_INTEGER))
    return (to_int(x * splat(_PARTS)) + own_halves(noise)) >> splat(_i32(16))


@lane
def _within(code: Any, last: Any) -> Any:
    code = select(code > splat(_i32(0)), code, splat(_i32(0)))
    return select(code < last, code, last)


@lane
def _move(
    place: Any, like: Any, signed: Any, ratio: Any, signs: Any, noise: Any, stochastic: Any,
    numbers: Any, last: Any,
) -> None:  # fmt: skip
    """Move sixteen codes.

    A ladder's grow as weights shrink; LNS codes (`signed`) shrink with them, below a sign bit.
    """
    code, largest = read(place, like), splat(last)
    factor, reach, decay = numbers
    if signed is None:
        x = _rungs(ratio, read_bits(signs), factor, reach, decay)
        write(place, like, _within(code + _whole(x, noise, stochastic), largest))
    else:
        bit = code & (largest + splat(_i32(1)))
        x = _rungs(ratio, bit > splat(_i32(0)), factor, reach, decay)
        code = _within((code & largest) - _whole(x, noise, stochastic), largest)
        write(place, like, code | bit)


@jit
def _part(
    codes: Any, grad: Any, v: Any, signs: Any, n: Any, first: Any, step: Any, numbers: Any,
    last: Any, likes: Any, modes: Any, tables: Any, scratch: Any,
) -> None:  # fmt: skip
    """A multiple of sixteen elements, of which the first is `first` of its tensor."""
    like, grad_like, moment_like = likes
    signed, stochastic, noisy = modes
    size, grad_size, moment_size = size_of(like), size_of(grad_like), size_of(moment_like)
    beta, rest = numbers[BETA], numbers[REST]
    scales = (numbers[SCALE], numbers[INVERSE])
    moves = (numbers[FACTOR], numbers[REACH], numbers[DECAY])
    noise = scratch + NOISE
    begin = 0
    while begin < n:
        place = (first + begin) % SHARED
        end = min(n, begin + SHARED - place)
        if noisy is not None:
            shared_halves(noise, scratch + SCHEDULE, first + begin - place, step, _MOMENT)
        for i in range(begin, end, 16):
            own = noise + (place + i - begin) // 4
            prefetch(grad + grad_size * i + _AHEAD)
            prefetch(v + moment_size * i + _AHEAD)
            prefetch(codes + size * i + _AHEAD)
            g = read_gradient(grad + grad_size * i, grad_like)
            r = advance(g, v + moment_size * i, moment_like, own, beta, rest, scales, tables)
            _move(
                codes + size * i, like, signed, r, signs + i // 8, own + ROOM // 2, stochastic,
                moves, last,
            )  # fmt: skip
        begin = end


@jit
def _chunk(
    first: Any, n: Any, place: Any, numbers: Any, likes: Any, modes: Any, tables: Any, scratch: Any
) -> None:
    """Elements first ... first + n - 1 of a tensor, at most `CHUNK`."""
    size, grad_size, moment_size = size_of(likes[0]), size_of(likes[1]), size_of(likes[2])
    signs = place[SIGNS] + first // 8
    if modes[0] is None and place[SIGNS] == 0:
        signs = scratch + DRAWN_SIGNS
        block = _u64(first // 128)
        fill_words(signs, (n + 127) // 128, _u64(place[KEY]), block, _u64(0), _SIGN)
    codes, grad = place[CODES] + size * first, place[GRAD] + grad_size * first
    v, step, last = place[MOMENT] + moment_size * first, _i32(place[STEP]), _i32(place[LAST])
    full = n - n % 16
    _part(codes, grad, v, signs, full, first, step, numbers, last, likes, modes, tables, scratch)
    if full == n:
        return
    # What is left goes through copies that have room for sixteen.
    codes, grad, v = codes + size * full, grad + grad_size * full, v + moment_size * full
    signs, first, rest = signs + full // 8, first + full, n - full
    room = scratch + TAIL
    given, moved, sign = room + 64, room + 128, room + 192
    copy_bytes(room, codes, size * rest)
    copy_bytes(given, grad, grad_size * rest)
    copy_bytes(moved, v, moment_size * rest)
    if modes[0] is None:
        copy_bytes(sign, signs, (rest + 7) // 8)
    _part(
        room,
        given,
        moved,
        sign,
        np.int64(16),
        first,
        step,
        numbers,
        last,
        likes,
        modes,
        tables,
        scratch,
    )
    copy_bytes(codes, room, size * rest)
    copy_bytes(v, moved, moment_size * rest)


@jit
def step(
    places: Any, numbers: Any, chunks: Any, likes: Any, modes: Any, tables: Any, scratch: Any,
    begin: Any, end: Any,
) -> None:  # fmt: skip
    """Move codes and moments of a list of tensors: their chunks begin ... end - 1.

    Args:
        places: int64, a row per tensor: addresses of codes, gradient, moment and packed signs (0
            where they are drawn or in the codes), key, elements, step, largest code.
        numbers: float32, a row per tensor: beta, 1 - beta, the moment's scale and 1 / its new one;
            factor, reach and decay of `coded_madam.moves`.
        chunks: int64, number of chunks before each tensor, and in all.
        likes: Numbers whose types tell the storage: uint8 or uint16 codes; gradients in float32 or,
            as uint16, bfloat16; moments in float32, bfloat16 or, as uint8, log codes.
        modes: None for no, else an integer: codes hold the sign; moves are rounded stochastically;
            random numbers are needed at all.
        tables: Address; see `moment_lanes.advance`.
        scratch: Address of `SCRATCH` bytes.
        begin: First chunk.
        end: Behind the last.
    """
    row, ready = 0, -1
    for chunk in range(begin, end):
        while chunk >= chunks[row + 1]:
            row += 1
        if modes[2] is not None:  # noqa: SIM102  # numba leaves out what this alone guards
            if row != ready:
                key_schedule(scratch + SCHEDULE, places[row, KEY])
                ready = row
        first = (chunk - chunks[row]) * CHUNK
        n = min(CHUNK, places[row, COUNT] - first)
        _chunk(first, n, places[row], numbers[row], likes, modes, tables, scratch)

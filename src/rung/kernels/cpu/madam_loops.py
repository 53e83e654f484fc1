"""The loop of Madam's step on float32 weights, compiled by numba: `cpu.madam`.

One pass over memory, as in `coded_madam_loops`.
"""

from typing import Any

import numpy as np

from rung.kernels.cpu.chunk_loops import CHUNK, copy_bytes
from rung.kernels.cpu.jit import jit, lane
from rung.kernels.cpu.lane_control import loop, when
from rung.kernels.cpu.lane_operands import choose
from rung.kernels.cpu.lmd_lanes import exp2
from rung.kernels.cpu.memory_lanes import prefetch, read, write
from rung.kernels.cpu.moment_lanes import advance, limited, read_gradients, size_of
from rung.kernels.cpu.philox_noise import KEYS, ROOM, SHARED, key_schedule, shared_halves
from rung.kernels.cpu.simd import bits_of, float_of, splat
from rung.kernels.philox import PURPOSE_MOMENT

_f32, _i32 = np.float32, np.int32
_MOMENT = _i32(PURPOSE_MOMENT)
_LARGEST = _f32(125.0)  # octaves that a weight may move in a step
_AHEAD = 2048  # bytes

# Columns of `places` and of `numbers`, a row per tensor.
WEIGHT, GRAD, MOMENT, KEY, COUNT, STEP = range(6)
BETA, REST, SCALE, INVERSE, FACTOR, CLIP, DECAY, OCTAVES, BOUND = range(9)
# Parts of a thread's scratch memory: offsets in bytes.
SCHEDULE, NOISE, TAIL = 0, KEYS, KEYS + ROOM
SCRATCH = TAIL + 384


@lane
def _move(weight: Any, ratio: Any, numbers: Any) -> None:
    """Move sixteen weights; octaves are the change of log2|W| per unit of the update."""
    factor, clip, decay, octaves, bound = numbers
    w = read(weight, _f32(0))
    u = limited(ratio * splat(factor), clip)
    u = float_of(bits_of(u) ^ (bits_of(w) & splat(_i32(-(2**31)))))
    x = limited((u + splat(decay)) * splat(octaves), _LARGEST)
    write(weight, _f32(0), limited(w * exp2(x), bound))


@lane
def _part(
    weight: Any, grad: Any, v: Any, n: Any, first: Any, step: Any, numbers: Any, likes: Any,
    noisy: Any, tables: Any, scratch: Any,
) -> None:  # fmt: skip
    """A multiple of 32 elements, of which the first is `first` of its tensor."""
    grad_like, moment_like = likes
    grad_size, moment_size = size_of(grad_like), size_of(moment_like)
    beta, rest = numbers[BETA], numbers[REST]
    scales = (numbers[SCALE], numbers[INVERSE])
    moves = (
        numbers[FACTOR], numbers[CLIP], numbers[DECAY], numbers[OCTAVES], numbers[BOUND]
    )  # fmt: skip
    noise = scratch + NOISE
    for block in loop(first // SHARED, (first + n + (SHARED - 1)) // SHARED):
        place = block * SHARED - first
        if noisy is not None:
            shared_halves(noise, scratch + SCHEDULE, block * SHARED, step, _MOMENT)
        for i in loop(max(place, 0), min(place + SHARED, n), 32):
            own = noise + (i - place) // 8
            for line in range(_AHEAD, _AHEAD + 128, 64):
                prefetch(grad + grad_size * i + line)
                prefetch(v + moment_size * i + line)
                prefetch(weight + 4 * i + line)
            g = read_gradients(grad + grad_size * i, grad_like)
            r = advance(g, v + moment_size * i, moment_like, own, beta, rest, scales, tables)
            _move(weight + 4 * i, r[0], moves)
            _move(weight + 4 * i + 64, r[1], moves)


@lane
def _chunk(
    first: Any, n: Any, place: Any, numbers: Any, likes: Any, noisy: Any, tables: Any, scratch: Any
) -> None:
    """Elements first ... first + n - 1 of a tensor, at most `CHUNK`."""
    grad_size, moment_size = size_of(likes[0]), size_of(likes[1])
    weight, grad = place[WEIGHT] + 4 * first, place[GRAD] + grad_size * first
    v, step = place[MOMENT] + moment_size * first, _i32(place[STEP])
    full = n & np.int64(-32)
    # What is left goes through copies that have room for 32.
    room, rest = scratch + TAIL, n - full
    given, moved = room + 128, room + 256
    copies = (
        (room, weight + 4 * full, 4 * rest),
        (given, grad + grad_size * full, grad_size * rest),
        (moved, v + moment_size * full, moment_size * rest),
    )
    # One loop for both, since a second copy of it would take as long again to compile.
    for part in loop(0, choose(rest > 0, 2, 1)):
        tail = part > 0
        with when(tail):
            for copy in copies:
                copy_bytes(*copy)
        _part(
            choose(tail, room, weight), choose(tail, given, grad), choose(tail, moved, v),
            choose(tail, 32, full), choose(tail, first + full, first), step, numbers, likes,
            noisy, tables, scratch,
        )  # fmt: skip
    for target, source, count in (copies[0], copies[2]):
        copy_bytes(source, target, count)


@jit
def step(
    places: Any, numbers: Any, chunks: Any, likes: Any, modes: Any, tables: Any, scratch: Any,
    begin: Any, end: Any,
) -> None:  # fmt: skip
    """Move weights and moments of a list of tensors: their chunks begin ... end - 1.

    Args:
        places: int64, a row per tensor: addresses of weight, gradient and moment, key, elements,
            step.
        numbers: float32, a row per tensor: beta, 1 - beta, the moment's scale and 1 / its new one;
            factor of the normalised gradient, clip, weight decay, -lr in octaves, largest weight.
        chunks: int64, number of chunks before each tensor, and in all.
        likes: Numbers whose types tell the storage: gradients in float32 or, as uint16, bfloat16;
            moments in float32, bfloat16 or, as uint8, log codes.
        modes: None for no, else an integer: random numbers are needed.
        tables: Address; see `moment_lanes.advance`.
        scratch: Address of `SCRATCH` bytes.
        begin: First chunk.
        end: Behind the last.
    """
    row, ready, noisy = 0, -1, modes[0]
    for chunk in range(begin, end):
        while chunk >= chunks[row + 1]:
            row += 1
        if noisy is not None:  # noqa: SIM102  # numba leaves out what this alone guards
            if row != ready:
                key_schedule(scratch + SCHEDULE, places[row, KEY])
                ready = row
        first = (chunk - chunks[row]) * CHUNK
        n = min(CHUNK, places[row, COUNT] - first)
        _chunk(first, n, places[row], numbers[row], likes, noisy, tables, scratch)

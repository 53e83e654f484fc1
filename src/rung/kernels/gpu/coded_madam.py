"""`coded_madam` on a GPU: one launch for all tensors of a kind, one pass over memory."""

import torch
import triton.language as tl
from torch import Tensor

from rung.kernels.coded_madam import LADDER, LNS, SINH, last_code
from rung.kernels.gpu import lists, momenta, moments
from rung.kernels.gpu.chunks import (
    find,
    load_float,
    packed_signs,
    pointer,
    seeded_signs,
)
from rung.kernels.gpu.jit import EXACT, Value, jit, on
from rung.kernels.momentum import normals
from rung.kernels.rung_moves import moves

PACKED, SEEDED, IN_CODES, FREE = range(4)
_PACKED, _IN_CODES, _FREE = tl.constexpr(PACKED), tl.constexpr(IN_CODES), tl.constexpr(FREE)
_COLUMNS, _NUMBERS, _NONE = tl.constexpr(10), tl.constexpr(12), tl.constexpr(momenta.NONE)
# Adding it rounds a float32 to an integer, ties to even; its bits then hold that.
_TO_INTEGER, _INTEGER = tl.constexpr(1.5 * 2.0**23), tl.constexpr(0x4B400000)


@jit
def _rungs(wanted: Value, draws: Value, STOCHASTIC: tl.constexpr) -> Value:
    """`rung_moves.whole_rungs`."""
    if STOCHASTIC:
        moved = ((wanted * 65536.0).to(tl.int32) + draws) >> 16
    else:
        moved = (wanted + _TO_INTEGER).to(tl.int32, bitcast=True) - _INTEGER
    return moved


@jit
def _step(
    places: Value, owners: Value, numbers: Value, log8: Value, WIDE: tl.constexpr,
    NARROW: tl.constexpr, KIND: tl.constexpr, CARRIED: tl.constexpr, SIGNS: tl.constexpr,
    STOCHASTIC: tl.constexpr, EVEN: tl.constexpr, CHUNK: tl.constexpr,
) -> None:  # fmt: skip
    """A chunk; WIDE codes have two bytes, NARROW gradients are bfloat16."""
    _, at, first, left = find(places, owners, _COLUMNS, EVEN, CHUNK)
    i = tl.arange(0, CHUNK)
    mask, last = i < left, tl.load(at + 7).to(tl.int32)
    own = numbers + tl.load(at + 9) * _NUMBERS
    key = tl.load(tl.load(at + 6).to(tl.pointer_type(tl.int64)))
    draws, move_draws = i, i
    if STOCHASTIC or KIND > 0:
        draws, move_draws = moments.noise(key, first, tl.load(own + 7), CHUNK)
    if NARROW:
        g = load_float(pointer(tl.load(at + 3), first, tl.int16, 2, EVEN), i, mask, True)
    else:
        g = load_float(pointer(tl.load(at + 3), first, tl.float32, 4, EVEN), i, mask, False)
    v = moments.advance(tl.load(at + 4), first, i, mask, g, draws, own, log8, KIND, EVEN)
    ratio = moments.ratio(g, v)
    if CARRIED != _NONE:
        ratio = momenta.carry(
            tl.load(at + 8), first, i, mask, ratio, key, tl.load(own + 7), tl.load(own + 8),
            tl.load(own + 9), tl.load(own + 10), tl.load(own + 11), CARRIED, EVEN, CHUNK,
        )  # fmt: skip
    if WIDE:
        p = pointer(tl.load(at + 2), first, tl.int16, 2, EVEN)
        code = tl.load(p + i, mask, other=0).to(tl.int32) & 0xFFFF
    else:
        p = pointer(tl.load(at + 2), first, tl.uint8, 1, EVEN)
        code = tl.load(p + i, mask, other=0).to(tl.int32)
    if SIGNS == _IN_CODES:
        bit = (code & (last + 1)) != 0
    elif SIGNS == _FREE:
        bit = mask & False  # u goes down whatever the weight
    elif SIGNS == _PACKED:
        bytes_ = pointer(tl.load(at + 5), first // 8, tl.uint8, 1, False)
        bit = packed_signs(bytes_, left, CHUNK) != 0
    else:
        blocks = first // 128 + tl.arange(0, CHUNK // 128)
        bit = seeded_signs(key, blocks, CHUNK) != 0
    reach = tl.load(own + 5)
    u = tl.minimum(tl.maximum(ratio * tl.load(own + 4), -reach), reach)
    decay = tl.load(own + 6)
    if SIGNS == _FREE:  # a number of rungs, and the decay of one
        decay = (code - last // 2).to(tl.float32) * decay
    moved = _rungs(tl.where(bit, -u, u) + decay, move_draws, STOCHASTIC)
    if SIGNS == _IN_CODES:
        e = code & last
        new = code - e + tl.minimum(tl.maximum(e - moved, 0), last)
    elif SIGNS == _FREE:
        new = tl.minimum(tl.maximum(code - moved, 0), last)
    else:
        new = tl.minimum(tl.maximum(code + moved, 0), last)
    tl.store(p + i, new.to(tl.int16 if WIDE else tl.uint8), mask)


def step(
    codes: list[Tensor],
    stored: list[Tensor],
    scales: list[Tensor],
    carried: list[Tensor],
    grads: list[Tensor],
    signs: list[Tensor],
    keys: list[Tensor],
    steps: Tensor,
    numbers: Tensor,
    rungs: Tensor,
    bits: list[int],
    system: int,
    stochastic: bool,
    maximize: bool,
) -> None:
    """`coded_madam.reference`: the same codes and moments. Nothing is waited for."""
    device, grads = codes[0].device, lists.dense(grads)
    tops = [last_code(b, system) // 2 if system == SINH else 1 for b in bits]
    table = _numbers(tops, steps, numbers, rungs, bool(carried), maximize, device)
    if scales:
        moments.rescale(stored, scales, grads, table)
    kinds, rows = [], []
    nothing: list[Tensor | None] = [None] * len(codes)
    parts = zip(codes, grads, stored, carried or nothing, signs, keys, bits, strict=True)
    for index, (c, g, v, m, s, k, b) in enumerate(parts):
        if system == LADDER:
            from_where = PACKED if s.numel() else SEEDED
        else:
            from_where = IN_CODES if system == LNS else FREE
        kinds.append(
            (
                c.dtype != torch.uint8, g.dtype == torch.bfloat16, moments.KINDS[v.dtype],
                momenta.kind_of(m), from_where, stochastic,
                lists.even(*(t for t in (c, g, v, m) if t is not None)),
            )
        )  # fmt: skip
        addresses = [t.data_ptr() for t in (c, g, v, s, k)]
        address = 0 if m is None else m.data_ptr()
        rows.append((*addresses, last_code(b, system), address, index))
    with on(device):
        for kind, members in lists.by(kinds).items():
            counts = [codes[i].numel() for i in members]
            part = lists.table_of(counts, [rows[i] for i in members], device)
            if part.chunks:
                _step[(part.chunks,)](
                    part.places, part.owners, table, moments.tables(device), *kind, lists.CHUNK,
                    **EXACT,
                )  # fmt: skip


def _numbers(
    tops: list[int], steps: Tensor, numbers: Tensor, rungs: Tensor, carried: bool, maximize: bool,
    device: torch.device,
) -> Tensor:  # fmt: skip
    """beta, 1 - beta, two for log codes, factor, reach, decay, step, four of momenta: float32.

    Decays are divided by `tops`. Shape (count, 12).
    """
    if len({steps.device, numbers.device, rungs.device}) > 1:
        steps, numbers, rungs = (lists.send(t, device) for t in (steps, numbers, rungs))
    factor, reach, decay = moves(steps, numbers, rungs, carried)
    normal, clip = normals(steps, numbers)
    one = torch.ones((), device=numbers.device)
    if len(set(tops)) > 1:
        decay = decay / lists.send(torch.tensor(tops, dtype=torch.float32), decay.device)
    elif tops[0] > 1:
        # By a tensor: torch would multiply by a number's reciprocal, which rounds twice.
        decay = decay / torch.full((), float(tops[0]), device=decay.device)
    return lists.columns(
        len(tops), device, numbers[0], 1 - numbers[0], one, one, -factor if maximize else factor,
        reach, decay, steps, normal, clip, numbers[3], 1 - numbers[3],
    )  # fmt: skip

"""`madam` on a GPU: float32 weights, one launch for all tensors of a kind."""

import math

import torch
import triton.language as tl
from torch import Tensor

from rung.kernels.gpu import lists, moments
from rung.kernels.gpu.chunks import find, load_float, pointer
from rung.kernels.gpu.jit import EXACT, Value, jit, on
from rung.kernels.gpu.powers import exp2
from rung.kernels.madam import factors

_COLUMNS, _NUMBERS = tl.constexpr(8), tl.constexpr(10)
# Octaves that a weight may move in a step: 2^x stays a normal number.
_LARGEST = tl.constexpr(125.0)


@jit
def _step(
    places: Value, owners: Value, numbers: Value, log8: Value, NARROW: tl.constexpr,
    KIND: tl.constexpr, EVEN: tl.constexpr, CHUNK: tl.constexpr,
) -> None:  # fmt: skip
    """A chunk; NARROW gradients are bfloat16."""
    _, at, first, left = find(places, owners, _COLUMNS, EVEN, CHUNK)
    i = tl.arange(0, CHUNK)
    mask, own = i < left, numbers + tl.load(at + 7) * _NUMBERS
    draws = i
    if KIND > 0:
        key = tl.load(tl.load(at + 6).to(tl.pointer_type(tl.int64)))
        draws, _ = moments.noise(key, first, tl.load(own + 9), CHUNK)
    if NARROW:
        g = load_float(pointer(tl.load(at + 3), first, tl.int16, 2, EVEN), i, mask, True)
    else:
        g = load_float(pointer(tl.load(at + 3), first, tl.float32, 4, EVEN), i, mask, False)
    v = moments.advance(tl.load(at + 4), first, i, mask, g, draws, own, log8, KIND, EVEN)
    p = pointer(tl.load(at + 2), first, tl.float32, 4, EVEN)
    w = tl.load(p + i, mask, other=0.0)
    clip = tl.load(own + 5)
    u = tl.minimum(tl.maximum(moments.ratio(g, v) * tl.load(own + 4), -clip), clip)
    octaves = (tl.where(w < 0, -u, u) + tl.load(own + 6)) * tl.load(own + 7)
    octaves = tl.minimum(tl.maximum(octaves, -_LARGEST), _LARGEST)
    # A step of lr 0 must not even clamp.
    bound = tl.load(tl.load(at + 5).to(tl.pointer_type(tl.float32)))
    bound = tl.where(tl.load(own + 8) != 0, bound, float("inf"))
    tl.store(p + i, tl.minimum(tl.maximum(w * exp2(octaves), -bound), bound), mask)


def step(
    weights: list[Tensor],
    stored: list[Tensor],
    scales: list[Tensor],
    grads: list[Tensor],
    bounds: list[Tensor],
    keys: list[Tensor],
    steps: Tensor,
    numbers: Tensor,
    maximize: bool,
) -> None:
    """`madam.reference`, within `madam.ULPS`; moments to the last bit. Nothing is waited for."""
    device, grads, flat = weights[0].device, lists.dense(grads), lists.dense(weights)
    bounds = [bound.to(device, torch.float32) for bound in bounds]
    table = _numbers(len(flat), steps, numbers, maximize, device)
    if scales:
        moments.rescale(stored, scales, grads, table)
    every_key = [key.data_ptr() for key in keys] or [0] * len(flat)
    kinds = [(g.dtype == torch.bfloat16, moments.KINDS[v.dtype], lists.even(w, g, v))
             for w, g, v in zip(flat, grads, stored, strict=True)]  # fmt: skip
    parts = zip(flat, grads, stored, bounds, strict=True)
    rows = [(*(t.data_ptr() for t in part), every_key[i], i) for i, part in enumerate(parts)]
    with on(device):
        for kind, members in lists.by(kinds).items():
            counts = [flat[i].numel() for i in members]
            part = lists.table_of(counts, [rows[i] for i in members], device)
            if part.chunks:
                _step[(part.chunks,)](
                    part.places, part.owners, table, moments.tables(device), *kind, lists.CHUNK,
                    **EXACT,
                )  # fmt: skip
    for given, moved in zip(weights, flat, strict=True):
        if moved.data_ptr() != given.data_ptr():
            given.copy_(moved)


def _numbers(
    count: int, steps: Tensor, numbers: Tensor, maximize: bool, device: torch.device
) -> Tensor:
    """beta, 1 - beta, two for log codes, factor, clip, decay, octaves, lr, step; (count, 10)."""
    if steps.device != numbers.device:
        steps, numbers = lists.send(steps, device), lists.send(numbers, device)
    beta, clip, decay, lr = numbers.unbind()
    factor, one = factors(steps, numbers), torch.ones((), device=numbers.device)
    return lists.columns(
        count, device, beta, 1 - beta, one, one, -factor if maximize else factor, clip, decay,
        -lr / math.log(2), lr, steps,
    )  # fmt: skip

"""The steps of weights in codes: Madam on ladders, LNS codes, sinh ladders, pairs of ladders."""

import torch
from torch import Tensor

from rung.kernels import fits, inverse_root, ladder, lns, moment, momentum, pair, sinh
from rung.kernels.dispatch import Operation
from rung.kernels.madam import new_scale, read_moment, write_moment
from rung.kernels.moment import random_halves
from rung.kernels.rung_moves import (
    Draws,
    bbit_madam_update,
    lns_madam_update,
    moves,
    pair_draws,
    pair_madam_update,
    rungs_down,
    rungs_towards,
    signed_madam_update,
)
from rung.kernels.signs import seeded_signs, unpack_signs

# Elements per slice on the CPU: temporaries of a slice stay in the cache, and no float tensor of
# the weight's size ever exists.
_SLICE = 2**17
# What codes are: magnitudes with signs beside them, exponents under a sign bit, signed rungs, two
# ladders whose difference counts.
LADDER, LNS, SINH, PAIR = range(4)


def reference(
    codes: list[Tensor],
    moments: list[Tensor],
    scales: list[Tensor],
    momenta: list[Tensor],
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
    """One step on lists of tensors in codes, in place.

    Args:
        codes: Stored codes of each tensor, contiguous.
        moments: v of the same shapes: float32, bfloat16, or uint8 log codes.
        scales: The log codes' scales, 0-d; no items for other storages.
        momenta: m of the same shapes: float32, bfloat16 or, as uint8, 8-bit floats; or flat int8,
            two 4-bit floats each; no items where weights move by the gradient itself.
        grads: g, finite.
        signs: Packed signs; empty tensors where they are drawn from the key or in the codes.
        keys: 0-d int64.
        steps: t, shape (n,).
        numbers: beta, clip, weight decay, momentum; float64.
        rungs: Rungs per update of each tensor, float64.
        bits: B of each tensor's format.
        system: `LADDER`, `LNS`, `SINH` or `PAIR`.
        stochastic: How moves are rounded.
        maximize: Ascend.
    """
    factor, reach, decay = moves(steps, numbers, rungs, bool(momenta))
    normal, clip = momentum.normals(steps, numbers)
    if maximize:
        factor = -factor
    for i, grad in enumerate(grads):
        flat = grad.reshape(-1)
        if not flat.numel():
            continue
        scale = new_scale(moments[i], scales[i], flat, numbers) if scales else None
        length = _SLICE if flat.device.type == "cpu" else flat.numel()
        for start in range(0, flat.numel(), length):
            part = slice(start, min(start + length, flat.numel()))
            stored = moments[i].view(-1)[part]
            old = read_moment(stored, scales[i] if scales else None)
            time, g = steps[i].to(torch.int64), flat[part].to(torch.float32)
            new = next_moment(g, old, numbers)
            draws = random_halves(keys[i], start, g.numel(), time)[1] if stochastic else None
            target = codes[i].view(-1)[part]
            ratio = g * inverse_root.unscaled(new)
            if momenta:
                carried = momentum.part(momenta[i], start, part.stop)
                old = momentum.read(carried, g.numel())
                ratio = momentum.next_momentum(ratio, old, normal[i], clip, numbers)
                momentum.write(carried, ratio, keys[i], start, time)
            bounds = (factor[i], reach[i], decay[i])
            if system == PAIR:
                both = pair_draws(draws, keys[i], start, time)
                _move_pair(target, ratio, *bounds, bits[i], both)
            elif system == SINH:
                k, top = ladder.load_codes(target), sinh.top_of(bits[i])
                wanted = rungs_towards(k - top, ratio, *bounds, top)
                _move(target, wanted, bits[i], system, draws)
            else:
                sign = _signs(target, signs[i], keys[i], start, bits[i], system)
                _move(target, rungs_down(sign, ratio, *bounds), bits[i], system, draws)
            write_moment(stored, new, scale, keys[i], start, time)
        if scale is not None:
            scales[i].copy_(scale)


def next_moment(grad: Tensor, old: Tensor, numbers: Tensor) -> Tensor:
    """V <- beta v + (1 - beta) g^2, in float32's own steps."""
    rest = (1 - numbers[0]).to(torch.float32)
    return old * numbers[0].to(torch.float32) + (grad * grad) * rest


def _signs(
    codes: Tensor, packed: Tensor, key: Tensor, start: int, bits: int, system: int
) -> Tensor:
    if system == LNS:
        return 1 - 2 * lns.is_negative(codes, bits).to(torch.float32)
    if packed.numel():
        return unpack_signs(packed, start, codes.numel(), torch.float32)
    return seeded_signs(key, start, codes.numel(), torch.float32)


def _move(stored: Tensor, wanted: Tensor, bits: int, system: int, draws: Tensor | None) -> None:
    if system == LNS:
        e = lns.exponents(stored, bits)
        moved = lns_madam_update(e, wanted, last_code(bits, LNS), draws)
        # e is in the low bits and stays in its range: the sign above it is not touched.
        stored.copy_(stored + (moved - e).to(stored.dtype))
        return
    update = bbit_madam_update if system == LADDER else signed_madam_update
    moved = update(ladder.load_codes(stored), wanted, last_code(bits, system), draws)
    stored.copy_(ladder.store_codes(moved, bits))


def _move_pair(
    stored: Tensor,
    ratio: Tensor,
    factor: Tensor,
    reach: Tensor,
    decay: Tensor,
    bits: int,
    draws: Draws,
) -> None:
    codes, top = ladder.load_codes(stored), sinh.top_of(bits // 2)
    plus, minus = pair.split(codes, bits)
    down = rungs_towards(plus, ratio, factor, reach, decay, top)
    up = rungs_towards(minus, -ratio, factor, reach, decay, top)
    stored.copy_(ladder.store_codes(pair_madam_update(codes, down, up, bits, draws), bits))


def last_code(bits: int, system: int) -> int:
    """The largest code, or of an LNS the largest exponent; a pair's ladders have two such."""
    return {LADDER: (1 << bits) - 1, LNS: (1 << (bits - 1)) - 1, SINH: (1 << bits) - 2}[system]


def _serves(
    codes: list[Tensor],
    moments: list[Tensor],
    scales: list[Tensor],
    momenta: list[Tensor],
    grads: list[Tensor],
    signs: list[Tensor],
    keys: list[Tensor],
    *others: object,
) -> bool:
    if others[4] == PAIR:  # `system`: no loop or kernel moves two codes
        return False
    packed = zip(codes, signs, strict=True)
    return (
        fits.alike(codes, moments, grads)
        and (not momenta or _carries(codes, momenta))
        and fits.on(codes[0].device, scales, signs, keys)
        and all(s.numel() in (0, (c.numel() + 7) // 8) and s.is_contiguous() for c, s in packed)
        and all(v.dtype in moment.STORAGES for v in moments)
        and all(t.is_contiguous() for t in (*codes, *moments, *momenta))
    )


def _carries(codes: list[Tensor], momenta: list[Tensor]) -> bool:
    if any(m.dtype not in (*moment.STORAGES, torch.int8) for m in momenta):
        return False
    if momenta[0].dtype != torch.int8:
        return fits.alike(codes, momenta)
    pairs = zip(codes, momenta, strict=True)
    whole = all(m.shape == (momentum.packed(c.numel()),) for c, m in pairs)
    return whole and fits.on(codes[0].device, momenta)


step = Operation(
    "coded_madam_step",
    "(Tensor(a!)[] codes, Tensor(b!)[] moments, Tensor(c!)[] scales, "
    "Tensor(d!)[] momenta, Tensor[] grads, Tensor[] signs, Tensor[] keys, Tensor steps, "
    "Tensor numbers, Tensor rungs, int[] bits, int system, bool stochastic, bool maximize) -> ()",
    reference,
    cpu="rung.kernels.cpu.coded_madam:step",
    gpu="rung.kernels.gpu.coded_madam:step",
    serves=_serves,
)

"""The steps of weights that live in codes: Madam on ladders, LNS codes and sinh ladders.

Integers come out of floats here, so the floats' arithmetic is part of the definition: each
operation is one of float32's, in this order, and every implementation gives the same codes. The
normalised gradient is within 2^-20 of the formula's, see `inverse_root`.
"""

import torch
from torch import Tensor

from rung.kernels import fits, inverse_root, ladder, lns, moment, sinh
from rung.kernels.dispatch import Operation
from rung.kernels.madam import Scalar, new_scale, read_moment, write_moment
from rung.kernels.moment import random_halves
from rung.kernels.signs import seeded_signs, unpack_signs

# Elements per slice on the CPU: temporaries of a slice stay in the cache, and no float tensor of
# the weight's size ever exists.
_SLICE = 2**17
# What codes are: magnitudes with signs beside them, exponents under a sign bit, signed rungs.
LADDER, LNS, SINH = range(3)
# Rungs that a weight may move in a step; half the longest format's.
FURTHEST = 2.0**15 - 1


def moves(steps: Tensor, numbers: Tensor, rungs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What turns a step's normalised gradients into rungs: three of float32, shape (n,).

    The order of the products is part of the definition; each is rounded once, from float64.

    Args:
        steps: t of each tensor, shape (n,).
        numbers: beta, clip, weight decay; float64.
        rungs: Rungs per update of each tensor, float64.

    Returns:
        (factor, reach, decay): rungs per `inverse_root.unscaled` gradient, clip in rungs, weight
        decay in rungs.
    """
    correction = (1 - numbers[0] ** steps.to(torch.float64)).sqrt()
    factor = inverse_root.FACTOR * correction * rungs
    decay = (numbers[2] * rungs).clamp(max=FURTHEST / 2)
    reach = torch.minimum(numbers[1] * rungs, FURTHEST - decay)
    # An infinite factor would make NaN of gradients that are zero; loops take 2^16 times as much.
    factor = factor.clamp(max=2.0**111)
    return factor.to(torch.float32), reach.to(torch.float32), decay.to(torch.float32)


def whole_rungs(rungs: Tensor, draws: Tensor | None) -> Tensor:
    """Round moves to whole rungs.

    Args:
        rungs: Wanted moves, float32, at most `FURTHEST` in magnitude.
        draws: None rounds to nearest, ties to even. Integers k in [0, 2^16), int32, round up with
            the odds of the fraction: a move counts 2^-16ths of a rung, cut off towards zero, and
            k of them are added before the rest is dropped.

    Returns:
        int32 moves.
    """
    if draws is None:
        return torch.round(rungs).to(torch.int32)
    return ((rungs * 2.0**16).to(torch.int32) + draws) >> 16


def rungs_down(
    signs: Tensor, ratio: Tensor, factor: Scalar, reach: Scalar, decay: Scalar
) -> Tensor:
    """Rungs by which magnitudes shrink: (sign(W) u + weight_decay) * rungs_per_update.

    Args:
        signs: sign(W), +1 or -1, float32.
        ratio: Gradient times `inverse_root.unscaled` of its moment.
        factor: As of `moves`, like the next two.
        reach: Clip, in rungs.
        decay: Weight decay, in rungs.
    """
    x = ratio * factor
    # NaN, of a gradient that nobody has looked at, moves as far as anything may.
    x = torch.where(x < reach, x, reach)
    return torch.where(x > -reach, x, -reach) * signs + decay


def bbit_madam_update(codes: Tensor, wanted: Tensor, last: int, draws: Tensor | None) -> Tensor:
    """Move codes by whole rungs (Bernstein et al. 2020, section 4.1).

        k <- clamp(k + round(lr / eta0 * (sign(W) * u + weight_decay)), 0, 2^B - 1)

    A weight shrinks (k grows) where sign(W) = sign(g).

    Args:
        codes: k, int32 in [0, last], shape (n,).
        wanted: lr / eta0 * (sign(W) * u + weight_decay), float32, of `rungs_down`.
        last: 2^B - 1.
        draws: As in `whole_rungs`.

    Returns:
        New codes, int32.
    """
    return (codes + whole_rungs(wanted, draws)).clamp(0, last)


def lns_madam_update(exponent: Tensor, wanted: Tensor, last: int, draws: Tensor | None) -> Tensor:
    """Move exponents by integers (Zhao et al. 2022).

        e <- clamp(e - round(gamma * lr * (sign(W) * u + weight_decay)), 0, 2^(B-1) - 1)

    Args:
        exponent: e, int32 in [0, last], shape (n,).
        wanted: gamma * lr * (sign(W) * u + weight_decay), float32, of `rungs_down`.
        last: 2^(B-1) - 1.
        draws: As in `whole_rungs`.

    Returns:
        New exponents, int32.
    """
    return (exponent - whole_rungs(wanted, draws)).clamp(0, last)


def signed_madam_update(codes: Tensor, wanted: Tensor, last: int, draws: Tensor | None) -> Tensor:
    """Move codes of a sinh ladder by whole rungs; the sign of a weight is free.

        k <- clamp(k - round(lr / h * u + pull * k), -K, K),   code = k + K

    Args:
        codes: k + K, int32 in [0, last], shape (n,).
        wanted: lr / h * u + pull * k, float32, of `rungs_towards`.
        last: 2 K = 2^B - 2.
        draws: As in `whole_rungs`.

    Returns:
        New codes, int32.
    """
    return (codes - whole_rungs(wanted, draws)).clamp(0, last)


def rungs_towards(
    k: Tensor, ratio: Tensor, factor: Scalar, reach: Scalar, decay: Scalar, top: int
) -> Tensor:
    """Rungs by which signed weights go down: u * rungs_per_update + pull * k.

    Args:
        k: Signed rungs, int32.
        ratio: Gradient times `inverse_root.unscaled` of its moment.
        factor: As of `moves`, like the next two.
        reach: Clip, in rungs.
        decay: Weight decay of the top rung, in rungs; pull is `decay` / `top`.
        top: K.
    """
    one = torch.ones((), device=ratio.device)
    # By a tensor: a GPU would multiply by a number's reciprocal, which rounds twice.
    pull = decay / torch.full((), float(top), device=ratio.device)
    return rungs_down(one, ratio, factor, reach, k.to(torch.float32) * pull)


def reference(
    codes: list[Tensor],
    moments: list[Tensor],
    scales: list[Tensor],
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
        grads: g, finite.
        signs: Packed signs; empty tensors where they are drawn from the key or in the codes.
        keys: 0-d int64.
        steps: t, shape (n,).
        numbers: beta, clip, weight decay; float64.
        rungs: Rungs per update of each tensor, float64.
        bits: B of each tensor's format.
        system: `LADDER`, `LNS` or `SINH`.
        stochastic: How moves are rounded.
        maximize: Ascend.
    """
    factor, reach, decay = moves(steps, numbers, rungs)
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
            if system == SINH:
                k, top = ladder.load_codes(target), sinh.top_of(bits[i])
                wanted = rungs_towards(k - top, ratio, factor[i], reach[i], decay[i], top)
            else:
                sign = _signs(target, signs[i], keys[i], start, bits[i], system)
                wanted = rungs_down(sign, ratio, factor[i], reach[i], decay[i])
            _move(target, wanted, bits[i], system, draws)
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


def last_code(bits: int, system: int) -> int:
    """The largest code, or of an LNS the largest exponent."""
    return {LADDER: (1 << bits) - 1, LNS: (1 << (bits - 1)) - 1, SINH: (1 << bits) - 2}[system]


def _serves(
    codes: list[Tensor],
    moments: list[Tensor],
    scales: list[Tensor],
    grads: list[Tensor],
    signs: list[Tensor],
    keys: list[Tensor],
    *others: object,
) -> bool:
    packed = zip(codes, signs, strict=True)
    return (
        fits.alike(codes, moments, grads)
        and fits.on(codes[0].device, scales, signs, keys)
        and all(s.numel() in (0, (c.numel() + 7) // 8) and s.is_contiguous() for c, s in packed)
        and all(v.dtype in moment.STORAGES for v in moments)
        and all(t.is_contiguous() for t in (*codes, *moments))
    )


step = Operation(
    "coded_madam_step",
    "(Tensor(a!)[] codes, Tensor(b!)[] moments, Tensor(c!)[] scales, Tensor[] grads, "
    "Tensor[] signs, Tensor[] keys, Tensor steps, Tensor numbers, Tensor rungs, int[] bits, "
    "int system, bool stochastic, bool maximize) -> ()",
    reference,
    cpu="rung.kernels.cpu.coded_madam:step",
    gpu="rung.kernels.gpu.coded_madam:step",
    serves=_serves,
)

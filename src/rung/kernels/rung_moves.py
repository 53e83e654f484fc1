"""By how many rungs weights in codes move: Madam on ladders, LNS codes, sinh ladders, pairs.

Integers come out of floats here, so the floats' arithmetic is part of the definition: each
operation is one of float32's, in this order, and every implementation gives the same codes. The
normalised gradient is within 2^-20 of the formula's, see `inverse_root`.
"""

import torch
from torch import Tensor

from rung.kernels import inverse_root, pair
from rung.kernels.madam import Scalar
from rung.kernels.moment import random_halves
from rung.kernels.philox import PURPOSE_PAIR

Draws = tuple[Tensor | None, Tensor | None]
"""Random numbers of the two ladders of a pair, each as in `whole_rungs`."""

# Rungs that a weight may move in a step; half the longest format's.
FURTHEST = 2.0**15 - 1


def moves(
    steps: Tensor, numbers: Tensor, rungs: Tensor, carried: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """What turns a step's normalised gradients into rungs: three of float32, shape (n,).

    The order of the products is part of the definition; each is rounded once, from float64.

    Args:
        steps: t of each tensor, shape (n,).
        numbers: beta, clip, weight decay, momentum; float64.
        rungs: Rungs per update of each tensor, float64.
        carried: Weights move by their `momentum`, m / (1 - momentum^t).

    Returns:
        (factor, reach, decay): rungs per `inverse_root.unscaled` gradient, or per m; clip in rungs;
        weight decay in rungs.
    """
    steps = steps.to(torch.float64)
    if carried:
        factor = rungs / (1 - numbers[3] ** steps)
    else:
        factor = inverse_root.FACTOR * (1 - numbers[0] ** steps).sqrt() * rungs
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
        ratio: Gradient times `inverse_root.unscaled` of its moment, or a momentum.
        factor: As of `moves`, like the next two.
        reach: Clip, in rungs.
        decay: Weight decay, in rungs.

    Returns:
        float32, of the shape of `ratio`.
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

    Source: ours, after Bernstein et al. 2020, arXiv:2006.14560, under the mirror map of Ghai,
    Hazan, Singer 2020, arXiv:1902.01903.
    """
    return (codes - whole_rungs(wanted, draws)).clamp(0, last)


def pair_draws(draws: Tensor | None, key: Tensor, start: int, step: Tensor) -> Draws:
    """Those of a step for the upper code, and as many others for the lower one; or none."""
    if draws is None:
        return None, None
    return draws, random_halves(key, start, draws.numel(), step, PURPOSE_PAIR)[1]


def pair_madam_update(codes: Tensor, down: Tensor, up: Tensor, bits: int, draws: Draws) -> Tensor:
    """Move both ladders of a pair by whole rungs, each as a sinh ladder's codes.

        k+ <- clamp(k+ - round( lr / h * u + pull * k+), -K, K)
        k- <- clamp(k- - round(-lr / h * u + pull * k-), -K, K)

    Args:
        codes: Of `rung.kernels.pair`, int32, shape (n,).
        down: What k+ is wanted to fall by, float32, of `rungs_towards`.
        up: What k- is wanted to fall by.
        bits: B, of both codes together.
        draws: Of `pair_draws`.

    Returns:
        New codes, int32.

    Source: as of `signed_madam_update`, whose step this is on k- = -k+ while nothing rounds.
    """
    top = (1 << (bits // 2 - 1)) - 1
    plus, minus = (
        signed_madam_update(k + top, wanted, 2 * top, draw) - top
        for k, wanted, draw in zip(pair.split(codes, bits), (down, up), draws, strict=True)
    )
    return pair.join(plus, minus, bits)


def rungs_towards(
    k: Tensor, ratio: Tensor, factor: Scalar, reach: Scalar, decay: Scalar, top: int
) -> Tensor:
    """Rungs by which signed weights go down: u * rungs_per_update + pull * k.

    Args:
        k: Signed rungs, int32, shape (n,).
        ratio: Gradient times `inverse_root.unscaled` of its moment, or a momentum; float32, (n,).
        factor: As of `moves`, like the next two.
        reach: Clip, in rungs.
        decay: Weight decay of the top rung, in rungs; pull is `decay` / `top`.
        top: K.

    Returns:
        float32, shape (n,).
    """
    one = torch.ones((), device=ratio.device)
    # By a tensor: a GPU would multiply by a number's reciprocal, which rounds twice.
    pull = decay / torch.full((), float(top), device=ratio.device)
    return rungs_down(one, ratio, factor, reach, k.to(torch.float32) * pull)

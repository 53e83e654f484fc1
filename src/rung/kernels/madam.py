"""Madam's step on lists of float weights, and what every Madam's step shares.

The reference is Bernstein et al. 2020's formula in the weights' precision. On the CPU `cpu.madam`
does float32 weights in one pass, within `ULPS` of it.
"""

import torch
from torch import Tensor

from rung.kernels import fits, inverse_root, moment
from rung.kernels.dispatch import Operation

Scalar = float | Tensor
Step = int | Tensor
# Largest difference of a new float32 weight between implementations, in units in the last place,
# if the step moves it by less than a factor e^(1/2) and g^2 (1 - beta) is a normal number. Under
# |g| = 3e-18 it isn't: the CPU's u then falls with |g|, where the definition's stays about 1.
ULPS = 4


def bias_correction(beta: Scalar, step: Step) -> Scalar:
    """1 - beta^t; in float64 also on a device, where float32 would lose 5e-5 at t = 1."""
    return 1 - beta ** (step.to(torch.float64) if isinstance(step, Tensor) else step)


def normalized_gradient(
    grad: Tensor, exp_avg_sq: Tensor, step: Step, beta: Scalar, clip: Scalar
) -> tuple[Tensor, Tensor]:
    """Second moment and clipped, normalised gradient (Algorithm 1, lines 2 and 3).

        v <- beta v + (1 - beta) g^2,   u = clamp(g / sqrt(v / (1 - beta^t)), -clip, +clip)

    u is 0 where g is 0, also when v is 0. The bias correction 1 - beta^t is not in the paper's
    pseudocode; without it the first updates would be sqrt(1 / (1 - beta)) = 32 times too large.

    Args:
        grad: g, any shape, float32 or float64.
        exp_avg_sq: v, same shape and dtype.
        step: t, from 1.
        beta: In [0, 1).
        clip: Largest |u|.

    Returns:
        (v, u), new tensors.
    """
    exp_avg_sq = exp_avg_sq * beta + (grad * grad) * (1 - beta)
    typical = (exp_avg_sq / bias_correction(beta, step)).sqrt()
    update = torch.where(typical > 0, grad / typical, 0.0).clamp(-clip, clip)  # type: ignore[arg-type]
    return exp_avg_sq, update


def madam_update(
    weight: Tensor,
    grad: Tensor,
    exp_avg_sq: Tensor,
    max_weight: Tensor,
    step: Step,
    lr: Scalar,
    beta: Scalar,
    clip: Scalar,
    weight_decay: Scalar,
) -> tuple[Tensor, Tensor]:
    """Madam on one tensor (Bernstein et al. 2020, Algorithm 1 and equation 5).

        W <- clamp(W * exp(-lr (sign(W) * u + weight_decay)), -W_max, +W_max)

    With u of `normalized_gradient`. Decoupled weight decay is ours (0 in the paper).

    Args:
        weight: W, any shape, float32 or float64.
        grad: g.
        exp_avg_sq: v.
        max_weight: W_max (the paper's sigma*), 0-d.
        step: t, from 1.
        lr: eta, typical change of ln|W|.
        beta: Averaging constant of v.
        clip: eta*/eta.
        weight_decay: lambda.

    Returns:
        (W, v), new tensors.
    """
    exp_avg_sq, update = normalized_gradient(grad, exp_avg_sq, step, beta, clip)
    moved = weight * torch.exp(-lr * (weight.sign() * update + weight_decay))
    return moved.clamp(-max_weight, max_weight), exp_avg_sq


def factors(steps: Tensor, numbers: Tensor) -> Tensor:
    """What `inverse_root.unscaled` and the bias correction leave out of u; float32, (n,).

    Args:
        steps: t of each tensor, shape (n,).
        numbers: float64, begins with beta.
    """
    correction = (1 - numbers[0] ** steps.to(torch.float64)).sqrt()
    return (inverse_root.FACTOR * correction).to(torch.float32)


def read_moment(stored: Tensor, scale: Tensor | None) -> Tensor:
    """Stored moments as float32 (float64 stays)."""
    if scale is not None:
        return moment.decode_log8(stored, scale)
    return stored if stored.dtype == torch.float64 else stored.to(torch.float32)


def write_moment(
    stored: Tensor, values: Tensor, scale: Tensor | None, key: Tensor, start: int, step: Step
) -> None:
    """Write flat moments back in their storage; narrow ones rounded stochastically."""
    if scale is not None:
        values = moment.round_log8(values.to(torch.float32), scale, key, start, step)
    elif stored.dtype == torch.bfloat16:
        values = moment.round_bfloat16(values.to(torch.float32), key, start, step)
    stored.copy_(values)


def new_scale(stored: Tensor, scale: Tensor, grad: Tensor, numbers: Tensor) -> Tensor:
    """Scale of a step's new log codes; `grad` is not empty."""
    beta, rest = numbers[0].to(torch.float32), (1 - numbers[0]).to(torch.float32)
    largest = grad.abs().amax().to(torch.float32)
    return moment.next_log8_scale(stored.amax(), scale, largest, beta, rest)


def reference(
    weights: list[Tensor],
    moments: list[Tensor],
    scales: list[Tensor],
    grads: list[Tensor],
    bounds: list[Tensor],
    keys: list[Tensor],
    steps: Tensor,
    numbers: Tensor,
    maximize: bool,
) -> None:
    """One step of Madam, in place.

    Args:
        weights: W of each tensor, in any floating dtype.
        moments: v of the same shapes: float32 (float64 for float64 weights), bfloat16, or uint8 log
            codes.
        scales: The log codes' scales, 0-d; no items for other storages.
        grads: g, finite.
        bounds: W_max, 0-d.
        keys: 0-d int64 for the rounding of moments; no items for float moments.
        steps: t, shape (n,).
        numbers: beta, clip, weight decay, lr; float64.
        maximize: Ascend.
    """
    beta, clip, decay, lr = numbers.unbind()
    for i, (weight, stored, grad) in enumerate(zip(weights, moments, grads, strict=True)):
        if not weight.numel():
            continue
        dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        g = -grad.to(dtype) if maximize else grad.to(dtype)
        scale = new_scale(stored, scales[i], g, numbers) if scales else None
        old = read_moment(stored, scales[i] if scales else None)
        moved, new = madam_update(
            weight.to(dtype), g, old, bounds[i], steps[i], lr, beta, clip, decay
        )
        # A step of lr 0 must not even clamp.
        weight.copy_(torch.where(lr != 0, moved.to(dtype), weight))
        key = keys[i] if keys else steps
        flat = stored.view(-1)
        write_moment(flat, new.to(dtype).reshape(-1), scale, key, 0, steps[i].to(torch.int64))
        if scale is not None:
            scales[i].copy_(scale)


def _serves(
    weights: list[Tensor],
    moments: list[Tensor],
    scales: list[Tensor],
    grads: list[Tensor],
    bounds: list[Tensor],
    keys: list[Tensor],
    *others: object,
) -> bool:
    return (
        fits.alike(weights, moments, grads)
        and fits.on(weights[0].device, scales, bounds, keys)
        and all(w.dtype == torch.float32 and 0 not in w.stride() for w in weights)
        and all(v.dtype in moment.STORAGES and v.is_contiguous() for v in moments)
    )


step = Operation(
    "madam_step",
    "(Tensor(a!)[] weights, Tensor(b!)[] moments, Tensor(c!)[] scales, Tensor[] grads, "
    "Tensor[] bounds, Tensor[] keys, Tensor steps, Tensor numbers, bool maximize) -> ()",
    reference,
    cpu="rung.kernels.cpu.madam:step",
    gpu="rung.kernels.gpu.madam:step",
    serves=_serves,
)

"""LMD on the CPU: one pass over a float32 tensor; elsewhere the definitions in `lmd`.

The same arguments and semantics as the functions of these names in `lmd`. A pass draws the noise
again instead of storing it, and keeps each chunk's intermediate values in the first cache level.
Against `lmd` in float32, results differ by roundings of the logarithm, the exponential and the
draws.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rung.kernels import lmd
from rung.kernels.lmd import Noise, Settings
from rung.kernels.normal import check_range

# Draws reach 6.8 standard deviations and the kernels' exponential takes up to 87; the mean's factor
# e^(sigma^2 / 2) is a float32 up to here.
_LARGEST_SIGMA = 12.0
_NOTHING = np.empty(0, np.float32)


def usable(*tensors: Tensor) -> bool:
    """Whether these are plain, flat, contiguous float32 tensors on the CPU, outside any tracing."""
    # Tensors of torch.func's transforms call themselves plain and have no memory to read.
    if torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    return all(map(_plain, tensors))


def _plain(t: Tensor) -> bool:
    kind = type(t) in (Tensor, torch.nn.Parameter) and t.dtype == torch.float32
    return kind and t.device.type == "cpu" and t.ndim == 1 and t.is_contiguous()


def sample_into(weight: Tensor, m_pos: Tensor, m_neg: Tensor, sigma: float, noise: Noise) -> None:
    """`lmd.sample_into`."""
    if not _fast(noise, sigma, weight, m_pos, m_neg):
        lmd.sample_into(weight, m_pos, m_neg, sigma, noise)
        return
    arrays = _arrays(weight, m_pos, m_neg)
    _kernels()["sample_into"](*arrays, np.float32(sigma), *_names(noise, weight.numel()))


def point_into(weight: Tensor, m_pos: Tensor, m_neg: Tensor, sigma: float, evaluate: str) -> None:
    """`lmd.point_into`."""
    tensors = (weight, m_pos, m_neg)
    if sigma > _LARGEST_SIGMA or not usable(*tensors):
        lmd.point_into(*tensors, sigma, evaluate)
        return
    _check_lengths(*tensors)
    factor = np.float32(lmd.point_factor(sigma, evaluate))
    _kernels()["point_into"](*_arrays(*tensors), factor)


def accumulate_into(
    h_pos: Tensor,
    h_neg: Tensor,
    grad: Tensor,
    m_pos: Tensor,
    m_neg: Tensor,
    sigma: float,
    noise: Noise,
    samples: int = 1,
) -> None:
    """`lmd.accumulate_into`."""
    tensors = (h_pos, h_neg, grad, m_pos, m_neg)
    if not _fast(noise, sigma, *tensors):
        lmd.accumulate_into(*tensors, sigma, noise, samples)
        return
    names = _names(noise, grad.numel())
    _kernels()["accumulate_into"](
        *_arrays(*tensors), np.float32(sigma), *names, np.float32(1 / samples)
    )


def update(
    weight: Tensor,
    grad: Tensor,
    m_pos: Tensor,
    m_neg: Tensor,
    v_pos: Tensor,
    v_neg: Tensor,
    settings: Settings,
    noise: Noise,
    evaluate: str = "mean",
) -> None:
    """`lmd.update`."""
    tensors = (weight, grad, m_pos, m_neg, v_pos, v_neg)
    if not _fast(noise, settings.sigma, *tensors):
        lmd.update(*tensors, settings, noise, evaluate)
        return
    names = _names(noise, weight.numel())
    _run(_arrays(*tensors), (_NOTHING, _NOTHING), False, names, settings, evaluate)


def update_from(
    weight: Tensor,
    h_pos: Tensor,
    h_neg: Tensor,
    m_pos: Tensor,
    m_neg: Tensor,
    v_pos: Tensor,
    v_neg: Tensor,
    settings: Settings,
    evaluate: str = "mean",
) -> None:
    """`lmd.update_from`."""
    tensors = (weight, m_pos, m_neg, v_pos, v_neg)
    if settings.sigma > _LARGEST_SIGMA or not usable(*tensors, h_pos, h_neg):
        lmd.update_from(weight, h_pos, h_neg, *tensors[1:], settings, evaluate)
        return
    _check_lengths(*tensors, h_pos, h_neg)
    first, *others = _arrays(*tensors)
    names = (np.uint64(0),) * 4
    _run((first, _NOTHING, *others), _arrays(h_pos, h_neg), True, names, settings, evaluate)


def _run(
    arrays: tuple[Any, ...],
    given: tuple[Any, ...],
    is_given: bool,
    names: tuple[Any, ...],
    settings: Settings,
    evaluate: str,
) -> None:
    weight, by_rms = arrays[0], lmd.by_rms(settings)
    factor, shift = lmd.regularizer_numbers(settings)
    beta1, beta2 = settings.beta1, settings.beta2
    _kernels()["update"](
        *arrays,
        *given,
        is_given,
        np.empty_like(weight) if by_rms else _NOTHING,
        by_rms,
        np.float64(settings.clip),
        np.float32(settings.sigma),
        *names,
        tuple(map(np.float32, (beta1, 1 - beta1, beta2, 1 - beta2))),
        np.float32(settings.lr),
        np.float32(settings.lr * settings.regularization),
        lmd.PRIORS.index(settings.prior),
        np.float32(factor),
        np.float32(shift),
        np.float32(lmd.point_factor(settings.sigma, evaluate)),
    )


def _fast(noise: Noise, sigma: float, *tensors: Tensor) -> bool:
    if not (usable(*tensors) and type(noise.key) is Tensor and noise.key.device.type == "cpu"):
        return False
    if isinstance(noise.step, Tensor) or sigma > _LARGEST_SIGMA:
        return False
    _check_lengths(*tensors)
    return True


def _check_lengths(*tensors: Tensor) -> None:
    # The loops trust the lengths: a shorter tensor would be written past its end.
    lengths = {t.numel() for t in tensors}
    if len(lengths) > 1:
        raise ValueError(f"all tensors must be of one length; got {sorted(lengths)}. Flatten each.")


def _names(noise: Noise, count: int) -> tuple[Any, ...]:
    """Key, start, step and sample as the kernels take them."""
    assert not isinstance(noise.step, Tensor)
    check_range(noise.start, count, noise.sample, noise.step)
    numbers = (int(noise.key) & (2**64 - 1), noise.start, noise.step, noise.sample)
    return tuple(map(np.uint64, numbers))


def _arrays(*tensors: Tensor) -> tuple[Any, ...]:
    return tuple(t.detach().numpy() for t in tensors)


@functools.cache
def _kernels() -> dict[str, Callable[..., None]]:
    """The numba kernels, compiled on first use or loaded from numba's disk cache."""
    from rung.kernels.cpu import lmd_loops

    return {
        "sample_into": lmd_loops.sample_into,
        "point_into": lmd_loops.point_into,
        "accumulate_into": lmd_loops.accumulate_into,
        "update": lmd_loops.update,
    }

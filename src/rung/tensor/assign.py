"""Assigning to a weight that lives in codes: what ``weight.copy_(source)`` does."""

import torch
from torch import Tensor

from rung.formats.scaling import require_finite, require_positive
from rung.tensor._parts import allowed_scale, encode_parts, has_knee
from rung.tensor.coded import CodedTensor


def assign_(target: CodedTensor, source: Tensor) -> None:
    """Take over another weight in place.

    Codes of the same format are copied as they are, with scale, signs and key. Anything else is
    rounded to the target's format, in which a zero becomes the smallest positive value, or stays
    zero on a sinh ladder or a pair of ladders. The scale stays if the source fits under it; it
    becomes the source's largest magnitude where that is larger, or where over 1 % of the source
    would fall off the bottom of a ladder or an LNS for no other reason than a scale too large. The
    other two have no bottom, and room above its weights is what they grow into.

    Raises:
        ValueError: Shapes differ; the source holds NaN or infinity; its signs are not those of the
            target's seed.
    """
    if source.shape != target.shape:
        raise ValueError(
            f"The source must have shape {tuple(target.shape)}; got {tuple(source.shape)}. "
            "Assign a weight of the same layer."
        )
    if isinstance(source, CodedTensor):
        if _same_kind(target, source):
            for name, part in target.to_parts().items():
                part.copy_(getattr(source, name))
            return
        source = source.decode()
    _round_from(target, source.detach().to(target.device))


def _same_kind(target: CodedTensor, source: CodedTensor) -> bool:
    shapes = [[part.shape for part in tensor.to_parts().values()] for tensor in (target, source)]
    return target.format == source.format and shapes[0] == shapes[1]


def _round_from(target: CodedTensor, values: Tensor) -> None:
    require_finite(values)
    negative = values < 0
    if target.seeded:
        own = target.sign_slice(0, values.numel(), torch.float32).reshape(values.shape) < 0
        wrong = int((own != negative).sum())
        if wrong:
            raise ValueError(
                f"Seeded signs can't hold these weights: {wrong} of {values.numel()} signs differ "
                "from the seed's. Store the model with signs='packed' before loading weights from "
                "elsewhere."
            )
    largest = _largest(values, target.scale)
    scale = torch.maximum(target.scale, largest)
    if not has_knee(target.format):
        lost, unavoidable = (_share_under(values, s, target) for s in (scale, largest))
        scale = torch.where((lost > unavoidable + 0.01) & (largest > 0), largest, scale)
    require_positive(scale)
    scale = allowed_scale(target.format, scale)
    signs = "seed" if target.seeded else "packed"
    for name, part in encode_parts(target.format, values, scale, signs).items():
        getattr(target, name).copy_(part)


def _share_under(values: Tensor, scale: Tensor, target: CodedTensor) -> Tensor:
    """Share of each group's values that are not zero and under the smallest code of its scale."""
    under = ((values != 0) & (values.abs() < scale * target.format.smallest)).to(scale.dtype)
    if not values.numel():
        return torch.zeros_like(scale)
    if scale.ndim == 0:
        return under.mean()
    shared = [dim for dim in range(values.ndim) if scale.shape[dim] != values.shape[dim]]
    return under.mean(dim=shared, keepdim=True) if shared else under


def _largest(values: Tensor, scale: Tensor) -> Tensor:
    """Largest magnitude in each group of a scale, in the scale's shape and dtype."""
    magnitudes = values.abs().to(scale.dtype)
    if not values.numel():
        return torch.zeros_like(scale)
    if scale.ndim == 0:
        return magnitudes.amax()
    shared = [dim for dim in range(values.ndim) if scale.shape[dim] != values.shape[dim]]
    return magnitudes.amax(dim=shared, keepdim=True) if shared else magnitudes

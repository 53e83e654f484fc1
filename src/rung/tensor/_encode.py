"""How `rung.store_weights_` makes codes of one parameter."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rung.formats import name_of
from rung.formats.scaling import largest_magnitude, root_mean_square
from rung.kernels.philox import PURPOSE_INIT, uniform
from rung.tensor._parts import StoredFormat, allowed_scale, has_knee, uniform_codes
from rung.tensor.coded import CodedTensor
from rung.tensor.roles import Role


@dataclass(frozen=True)
class Options:
    """What `store_weights_` was told."""

    format: StoredFormat
    init: str
    scale_bound: float | None
    signs: str
    seed: int
    axis: int | None
    skip: frozenset[str]
    others: bool
    scales: Mapping[str, float] | None
    min_scale: float

    def check(self, names: set[str]) -> None:
        """Refuse options that are wrong on their own, and names that the model doesn't have."""
        if self.init not in ("round", "uniform"):
            raise ValueError(f"`init` must be 'round' or 'uniform'; got {self.init!r}.")
        if self.init == "uniform" and has_knee(self.format):
            raise ValueError(
                "`init='uniform'` draws magnitudes of up to W_max, far above fresh weights on a "
                "sinh ladder or a pair of ladders, whose W_max leaves room to grow; got format "
                f"{name_of(self.format)}. Use init='round'."
            )
        if self.scale_bound is not None and not self.scale_bound > 0:
            raise ValueError(f"`scale_bound` must be positive; got scale_bound={self.scale_bound}.")
        if not 0 <= self.min_scale < float("inf"):
            raise ValueError(
                f"`min_scale` must be 0 or more and finite; got min_scale={self.min_scale}."
            )
        if self.scales is not None and self.axis is not None:
            raise ValueError(
                f"`scales` holds one W_max a tensor, so `axis` must be None; got axis={self.axis}. "
                "Leave one of the two out."
            )
        for field, given in (("skip", self.skip), ("scales", self.scales or {})):
            unknown = sorted(set(given) - names)
            if unknown:
                raise ValueError(
                    f"`{field}` must name parameters of the model; got {', '.join(unknown)}. "
                    f"The parameters are: {', '.join(sorted(names))}."
                )


def encode(role: Role, options: Options) -> CodedTensor:
    """The codes of a parameter that is to be stored, or a refusal."""
    weight, fmt = role.parameter.detach(), options.format
    bad = weight.numel() - int(torch.isfinite(weight).sum())
    if bad:
        raise ValueError(
            f"{role.name} must be finite to be stored; got {bad} NaN or infinite of "
            f"{weight.numel()} weights. Nothing was changed."
        )
    # A bias or gain has a value that means something, and no channels.
    is_weight = role.additive_reason is None
    signs, axis = (options.signs, options.axis) if is_weight else ("packed", None)
    scale = allowed_scale(fmt, _scale_of(role, weight, options, axis))
    coded = CodedTensor.from_float(weight, fmt, scale, signs, options.seed, role.name)
    if options.init == "uniform" and is_weight:
        draws = uniform(coded.key, 0, weight.numel(), 0, PURPOSE_INIT)
        coded.codes.copy_(uniform_codes(fmt, coded.codes, draws))
    return coded


def _scale_of(role: Role, weight: Tensor, options: Options, axis: int | None) -> Tensor:
    """W_max of a weight, positive."""
    if options.scales is not None:
        given = options.scales.get(role.name)
        if given is None or not 0 < given < float("inf"):
            raise ValueError(
                "`scales` must have a positive number for every weight that is stored; got "
                f"{given} for {role.name}. Leave it out of the codes by skip=[{role.name!r}]. "
                "Nothing was changed."
            )
        return torch.tensor(float(given), dtype=_wide(weight), device=weight.device)
    if options.scale_bound is None:
        scale = largest_magnitude(weight, axis).to(_wide(weight))
    else:
        scale = options.scale_bound * root_mean_square(weight, axis)
    if options.min_scale and (has_knee(options.format) or bool((scale > 0).all())):
        scale = scale.clamp(min=options.min_scale)
    if not bool((scale > 0).all()):
        where = "is all zero" if axis is None else f"has an all-zero index of axis {axis}"
        raise ValueError(
            f"{role.name} {where} and has no scale: initialise it away from zero "
            f"(rung.optim.init_zeros_) or leave it out (skip=[{role.name!r}]). Nothing was changed."
        )
    return scale


def _wide(weight: Tensor) -> torch.dtype:
    return torch.float64 if weight.dtype == torch.float64 else torch.float32

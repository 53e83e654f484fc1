"""Helpers that get a model ready: who learns by multiplication, and no weight at zero."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rung.kernels.philox import key_from_seed
from rung.tensor.coded import CodedTensor
from rung.tensor.roles import roles


@dataclass(frozen=True)
class ParameterSplit:
    """A model's parameters in two lists; unpacks as ``multiplicative, additive``.

    Attributes:
        multiplicative: Weights: matrices, kernels, embeddings.
        additive: Biases, norm gains, scalars, frozen parameters excluded.
        names: Names of the parameters in both, by position, for messages.
    """

    multiplicative: list[Tensor]
    additive: list[Tensor]
    names: tuple[list[str], list[str]] = field(repr=False)

    def __iter__(self) -> Iterator[list[Tensor]]:
        return iter((self.multiplicative, self.additive))


def split_parameters(model: nn.Module, additive: Collection[str] = ()) -> ParameterSplit:
    """Tell the parameters that a multiplicative rule trains from those that AdamW should.

    Norm gains and biases go to the additive side, by the type of the module that holds them and by
    their shape; so do weights that `rung.store_weights_` left in floating point. What it stored in
    codes, biases and gains too, is multiplicative. Frozen parameters are in neither list; a tied
    parameter is in one list once.

    Args:
        model: Any module, before or after `rung.store_weights_`.
        additive: Names of further parameters for the additive side.

    Returns:
        A `ParameterSplit`. Every multiplicative optimizer of `rung.optim` takes it whole and trains
        its additive side by AdamW; or hand its lists to two optimizers.

    Raises:
        ValueError: A name that no parameter has; a coded weight named as additive.

    Example:
        >>> split = split_parameters(nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3)))
        >>> [tuple(weight.shape) for weight in split.multiplicative]
        [(3, 4)]
        >>> len(split.additive)
        3
    """
    found = list(roles(model))
    unknown = sorted(set(additive) - {role.name for role in found})
    if unknown:
        raise ValueError(
            f"`additive` must name parameters of the model; got {', '.join(unknown)}. "
            f"The parameters are: {', '.join(role.name for role in found)}."
        )
    split = ParameterSplit([], [], ([], []))
    stored = any(isinstance(role.parameter, CodedTensor) for role in found)
    for role in found:
        if not role.parameter.requires_grad:
            continue
        coded = isinstance(role.parameter, CodedTensor)
        if role.name in additive and coded:
            raise ValueError(
                f"{role.name} is stored in codes, which an additive rule can't move. Leave it out "
                f"of the stored weights: rung.store_weights_(model, ..., skip=[{role.name!r}])."
            )
        left = stored and not coded
        by_shape = role.additive_reason is not None and not coded
        by_addition = left or by_shape or role.name in additive
        split.names[by_addition].append(role.name)
        (split.additive if by_addition else split.multiplicative).append(role.parameter)
    return split


def init_zeros_(model: nn.Module, std: float = 0.01, seed: int = 0) -> list[str]:
    """Initialise trainable tensors that are all zero away from zero, in place.

    A multiplicative rule can't move a weight at zero. The paper initialised such terms (biases)
    away from zero without saying how far; here they are drawn from NORMAL(0, std).

    Args:
        model: Any module.
        std: Standard deviation, > 0.
        seed: Every tensor draws from (seed, its name).

    Returns:
        Names of the tensors that were changed.

    Raises:
        ValueError: `std` is not positive.

    Source: Bernstein et al. 2020, section 5, implementation details.
    """
    if not std > 0:
        raise ValueError(f"`std` must be positive; got std={std}.")
    changed = []
    for role in roles(model):
        parameter = role.parameter
        if isinstance(parameter, CodedTensor) or not parameter.is_floating_point():
            continue
        if not parameter.requires_grad:
            continue
        if parameter.numel() and not bool(parameter.any()):
            generator = torch.Generator().manual_seed(key_from_seed(seed, role.name))
            noise = torch.randn(parameter.shape, generator=generator, device="cpu")
            with torch.no_grad():
                parameter.copy_(std * noise)
            changed.append(role.name)
    return changed

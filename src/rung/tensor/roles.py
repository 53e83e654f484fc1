"""Which parameters learn by multiplication: one rule for storing weights and for splitting them."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Role:
    """One parameter and what it is in its model.

    Attributes:
        name: First qualified name; a tied parameter has one role under its first name.
        parameter: The tensor.
        owners: Every (module, attribute) that holds it.
        additive_reason: Why the parameter is left to an additive rule, or None for a weight.
    """

    name: str
    parameter: Tensor
    owners: tuple[tuple[nn.Module, str], ...]
    additive_reason: str | None


def roles(model: nn.Module) -> Iterator[Role]:
    """Every parameter of a model, once, with its role.

    Gains and biases are told by the module that holds them (any normalisation layer of torch) and
    by their shape (0-d and 1-d: hand-written norms, biases, PReLU slopes), never by their name.
    """
    owners: dict[int, list[tuple[nn.Module, str]]] = {}
    names: dict[int, str] = {}
    parameters: dict[int, Tensor] = {}
    for prefix, module in model.named_modules():
        for attribute, parameter in module.named_parameters(recurse=False):
            owners.setdefault(id(parameter), []).append((module, attribute))
            names.setdefault(id(parameter), f"{prefix}.{attribute}" if prefix else attribute)
            parameters[id(parameter)] = parameter
        # named_parameters skips the second name of a parameter tied inside one module.
        for attribute, tied in module._parameters.items():
            if tied is not None and (module, attribute) not in owners[id(tied)]:
                owners[id(tied)].append((module, attribute))
    for identity, parameter in parameters.items():
        held_by = tuple(owners[identity])
        yield Role(names[identity], parameter, held_by, _additive_reason(parameter, held_by))


def _additive_reason(parameter: Tensor, owners: tuple[tuple[nn.Module, str], ...]) -> str | None:
    norm = next((module for module, _ in owners if isinstance(module, _NORMS)), None)
    if norm is not None:
        return f"parameter of {type(norm).__name__}"
    if parameter.ndim < 2:
        return f"{parameter.ndim}-d (bias, gain or scalar)"
    return None

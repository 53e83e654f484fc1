"""The mean of a run's weights over its later steps, in a model of its own that is evaluated."""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from rung.tensor import CodedTensor, stored_bytes
from rung.tensor.roles import roles


class Average:
    """A float32 twin of a model whose weights and float buffers are the mean over steps seen.

    It takes 4 bytes a weight beside the model, from the start of the run on; a step decodes every
    weight in codes once more. Buffers of integers (counts of batches) are the latest ones.

    Args:
        model: The model that trains; weights in codes or in floating point.
        share: Of the run's steps, which are left out at its start.
        steps: Of the whole run.

    Attributes:
        model: The twin, in evaluation mode; means anything only once `count` isn't 0.
        first: The first step that counts, from 1.
        count: Steps that the mean is over.

    Raises:
        ValueError: The model can't be copied.
    """

    def __init__(self, model: nn.Module, share: float, steps: int) -> None:
        self.model = _twin(model)
        self.first = math.floor(share * steps) + 1
        self.count = 0

    @torch.no_grad()
    def see(self, model: nn.Module, step: int) -> None:
        """Take in the weights after a step; steps count from 1."""
        if step < self.first:
            return
        self.count += 1
        held = [*self.model.parameters(), *self.model.buffers()]
        for mean, now in zip(held, [*model.parameters(), *model.buffers()], strict=True):
            value = now.decode() if isinstance(now, CodedTensor) else now
            if mean.is_floating_point():
                mean.lerp_(value.to(mean.dtype), 1 / self.count)
            else:
                mean.copy_(value)

    def tree(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"count": self.count, "model": self.model.state_dict()}

    def load(self, tree: dict[str, Any]) -> None:
        """Take back what `tree` gave."""
        self.count = tree["count"]
        self.model.load_state_dict(tree["model"])

    def record(self) -> dict[str, Any]:
        """The field ``averaged`` of summary.json."""
        held: list[Tensor] = [*self.model.parameters(), *self.model.buffers()]
        return {
            "from_step": self.first,
            "steps": self.count,
            "bytes": sum(stored_bytes(tensor) for tensor in held),
        }


def _twin(model: nn.Module) -> nn.Module:
    """A copy whose parameters are plain floats without gradients; tied ones stay tied."""
    try:
        twin = copy.deepcopy(model)
    except Exception as error:
        raise ValueError(
            "`average_from` needs a copy of the model to hold the mean, and this one can't be "
            f"copied ({type(error).__name__}: {error}). Leave average_from at 0, or compute in "
            "float32 (--format none)."
        ) from error
    for role in roles(twin):
        weight = role.parameter.detach()
        floats = weight.decode() if isinstance(weight, CodedTensor) else weight
        parameter = nn.Parameter(floats, requires_grad=False)
        for module, attribute in role.owners:
            setattr(module, attribute, parameter)
    return twin.eval()

"""What a step works on: parameters with gradients, checked before anything is written."""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rung.kernels import finite
from rung.kernels.momentum import packed
from rung.optim._checks import Group, describe

State = dict[str, Any]


class Work(NamedTuple):
    """Parameters of a group that have gradients; lists of one length.

    Attributes:
        group: Hyper-parameters.
        params: The parameters.
        grads: Their gradients, strided.
        states: What the optimizer keeps of each.
    """

    group: Group
    params: list[Tensor]
    grads: list[Tensor]
    states: list[State]

    def divide(self, kinds: Sequence[Hashable]) -> list["Work"]:
        """The same in parts, by the kind of each parameter."""
        if len(set(kinds)) == 1:
            return [self]
        parts: dict[Hashable, Work] = {}
        for kind, param, grad, state in zip(
            kinds, self.params, self.grads, self.states, strict=True
        ):
            part = parts.setdefault(kind, Work(self.group, [], [], []))
            part.params.append(param)
            part.grads.append(grad)
            part.states.append(state)
        return list(parts.values())


def require_fit(work: Work, index: int) -> None:
    """Refuse a moment of another shape before anything is written.

    torch's load_state_dict doesn't look at shapes, and neither do the loops.

    Args:
        work: Parameters of group `index`.
        index: For the message.
    """
    if not work.params:
        return
    shapes = [param.shape for param in work.params]
    for name in ("exp_avg_sq", "exp_avg"):
        if name not in work.states[0]:
            continue
        moments = [state[name] for state in work.states]
        for place, (shape, moment) in enumerate(zip(shapes, moments, strict=True)):
            paired = moment.dtype == torch.int8
            expected = (packed(shape.numel()),) if paired else shape
            if moment.shape == expected:
                continue
            position = [own is work.params[place] for own in work.group["params"]].index(True)
            whose = f"{describe(work.group, index, position)} has shape {tuple(shape)}, and "
            must = f"be of shape {expected}, two elements a byte" if paired else "have it too"
            raise ValueError(
                f"{whose}its state '{name}' must {must}; got {tuple(moment.shape)}. Load "
                "the state of this model, or make the optimizer anew."
            )


def all_finite(grads: list[Tensor]) -> Tensor:
    """0-d bool on the first gradient's device; one pass, no copies."""
    if not all([grad.numel() for grad in grads]):
        grads = [grad for grad in grads if grad.numel()]
    if not grads:
        return torch.ones((), dtype=torch.bool)
    return finite.all_finite(grads)  # type: ignore[no-any-return]

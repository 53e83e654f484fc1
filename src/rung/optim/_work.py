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
    for place, (param, state) in enumerate(zip(work.params, work.states, strict=True)):
        for name in _MOMENTS:
            moment = state.get(name)
            if moment is None:
                continue
            expected, what = _expected(name, moment, param.shape)
            if moment.shape == expected:
                continue
            position = [own is work.params[place] for own in work.group["params"]].index(True)
            whose = f"{describe(work.group, index, position)} has shape {tuple(param.shape)}, and "
            must = f"be of shape {tuple(expected)}, {what}" if what else "have it too"
            raise ValueError(
                f"{whose}its state '{name}' must {must}; got {tuple(moment.shape)}. Load "
                "the state of this model, or make the optimizer anew."
            )


_MOMENTS = ("exp_avg_sq", "exp_avg", "row_avg_sq", "col_avg_sq")


def _expected(name: str, moment: Tensor, shape: torch.Size) -> tuple[tuple[int, ...], str]:
    """Shape of a moment, and why where it isn't the parameter's."""
    if moment.dtype == torch.int8:
        return (packed(shape.numel()),), "two elements a byte"
    if name == "row_avg_sq":
        return shape[:1], "one number a row"
    if name == "col_avg_sq":
        return shape[1:], "one number a column"
    return shape, ""


def all_finite(grads: list[Tensor]) -> Tensor:
    """0-d bool on the first gradient's device; one pass, no copies."""
    if not all([grad.numel() for grad in grads]):
        grads = [grad for grad in grads if grad.numel()]
    if not grads:
        return torch.ones((), dtype=torch.bool)
    return finite.all_finite(grads)  # type: ignore[no-any-return]

"""How an optimizer stores its second moment: read as float, written back in its format."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from rung.kernels import moment as kernel

State = dict[str, Any]


class Moment(ABC):
    """A storage of v >= 0 under ``state["exp_avg_sq"]``, addressed by slices of the flat tensor."""

    @abstractmethod
    def init(self, state: State, like: Tensor) -> None:
        """Put zeros for a parameter into its state."""

    def prepare(self, state: State, grad: Tensor, beta: float) -> Tensor:
        """What the next writes need to know of the whole gradient; before any of them."""
        return grad.new_empty(0)

    @abstractmethod
    def read(self, state: State, start: int, stop: int) -> Tensor:
        """Elements start ... stop - 1 in the working dtype; shape (stop - start,)."""

    @abstractmethod
    def encode(
        self, values: Tensor, prepared: Tensor, key: Tensor, start: int, step: int | Tensor
    ) -> Tensor:
        """Values in the storage's dtype."""

    def finish(self, state: State, prepared: Tensor, finite: Tensor | None) -> None:  # noqa: B027
        """After the last write of a step; most storages have nothing to do."""


class FullMoment(Moment):
    """float32, or float64 for float64 parameters."""

    def init(self, state: State, like: Tensor) -> None:
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        state["exp_avg_sq"] = torch.zeros(like.shape, dtype=dtype, device=like.device)

    def read(self, state: State, start: int, stop: int) -> Tensor:
        return state["exp_avg_sq"].view(-1)[start:stop]  # type: ignore[no-any-return]

    def encode(
        self, values: Tensor, prepared: Tensor, key: Tensor, start: int, step: int | Tensor
    ) -> Tensor:
        return values


class BFloat16Moment(Moment):
    """bfloat16, rounded stochastically: 2 bytes a weight."""

    def init(self, state: State, like: Tensor) -> None:
        state["exp_avg_sq"] = torch.zeros(like.shape, dtype=torch.bfloat16, device=like.device)

    def read(self, state: State, start: int, stop: int) -> Tensor:
        return state["exp_avg_sq"].view(-1)[start:stop].to(torch.float32)  # type: ignore[no-any-return]

    def encode(
        self, values: Tensor, prepared: Tensor, key: Tensor, start: int, step: int | Tensor
    ) -> Tensor:
        return kernel.round_bfloat16(values.to(torch.float32), key, start, step)


class Log8Moment(Moment):
    """8-bit log codes with one power-of-two scale, rounded stochastically: 1 byte a weight."""

    def init(self, state: State, like: Tensor) -> None:
        state["exp_avg_sq"] = torch.zeros(like.shape, dtype=torch.uint8, device=like.device)
        state["exp_avg_sq_scale"] = torch.ones((), device=like.device)

    def prepare(self, state: State, grad: Tensor, beta: float) -> Tensor:
        codes, scale = state["exp_avg_sq"], state["exp_avg_sq_scale"]
        if not codes.numel():
            return scale  # type: ignore[no-any-return]
        # beta v + (1 - beta) g^2 is largest where both are, so this bounds every new value.
        old = kernel.decode_log8(codes.amax(), scale)
        new = grad.abs().amax().to(torch.float32).square()
        return kernel.log8_scale(beta * old + (1 - beta) * new)

    def read(self, state: State, start: int, stop: int) -> Tensor:
        codes = state["exp_avg_sq"].view(-1)[start:stop]
        return kernel.decode_log8(codes, state["exp_avg_sq_scale"])

    def encode(
        self, values: Tensor, prepared: Tensor, key: Tensor, start: int, step: int | Tensor
    ) -> Tensor:
        return kernel.round_log8(values.to(torch.float32), prepared, key, start, step)

    def finish(self, state: State, prepared: Tensor, finite: Tensor | None) -> None:
        write(state["exp_avg_sq_scale"], prepared, finite)


MOMENTS: dict[str, Moment] = {
    "fp32": FullMoment(),
    "bf16": BFloat16Moment(),
    "log8": Log8Moment(),
}


def write(target: Tensor, value: Tensor, finite: Tensor | None) -> None:
    """Assign in place; where a step must not synchronise, only if the gradients were finite."""
    target.copy_(value if finite is None else torch.where(finite, value, target))

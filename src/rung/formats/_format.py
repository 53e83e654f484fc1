"""What every format can do."""

from typing import Protocol

import torch
from torch import Tensor

from rung.formats._encoded import Encoded
from rung.formats._source import CounterSource
from rung.formats.grouping import Axis


class Format(Protocol):
    """A number format: frozen, hashable, with a repr that names every number in it."""

    @property
    def max_relative_error(self) -> float:
        """Worst |q(x) - x| / |x| of nearest rounding inside the range."""

    def encode(
        self,
        x: Tensor,
        axis: Axis = None,
        rounding: str = "nearest",
        generator: torch.Generator | CounterSource | None = None,
        scale: Tensor | float | None = None,
        *,
        block: int | None = None,
        nonfinite: str = "raise",
    ) -> Encoded:
        """Codes and scale of a tensor."""

    def decode(self, encoded: Encoded) -> Tensor:
        """Values of codes."""

    def quantize(
        self,
        x: Tensor,
        axis: Axis = None,
        rounding: str = "nearest",
        generator: torch.Generator | CounterSource | None = None,
        scale: Tensor | float | None = None,
        *,
        block: int | None = None,
        nonfinite: str = "raise",
    ) -> Tensor:
        """``decode(encode(x))``: the same shape and dtype, values of the format."""

"""The random source of stochastic rounding: a value, not a stream with a position."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rung.kernels.philox import key_from_seed


@dataclass(frozen=True)
class CounterSource:
    """Random numbers that depend on a seed, a name and an element's index alone.

    Two tensors rounded with the same source get the same draws; give each its own `name`. A tensor
    rounded in slices gets the codes of the whole when each slice names its `offset`.

    Attributes:
        seed: Any integer.
        name: The stream, e.g. a parameter's name.
        offset: Flat index of the first element, >= 0.
    """

    seed: int
    name: str = ""
    offset: int = 0

    def __post_init__(self) -> None:
        if self.offset < 0:
            raise ValueError(
                f"`offset` must be the flat index of the first element, 0 or more; "
                f"got {self.offset}."
            )


def resolve(
    rounding: str, generator: "torch.Generator | CounterSource | None", device: torch.device
) -> tuple[Tensor | None, int]:
    """The key (None for nearest rounding) and offset that the kernels take.

    Raises:
        ValueError: Unknown rounding, stochastic rounding without a generator.
        TypeError: A generator of another type.
    """
    if rounding not in ("nearest", "stochastic"):
        raise ValueError(f"`rounding` must be 'nearest' or 'stochastic'; got {rounding!r}.")
    if rounding == "nearest":
        return None, 0
    if generator is None:
        raise ValueError(
            "`rounding='stochastic'` needs a `generator`; got None. "
            "Give a torch.Generator or a rung.formats.CounterSource."
        )
    if isinstance(generator, CounterSource):
        key, offset = key_from_seed(generator.seed, generator.name), generator.offset
    elif isinstance(generator, torch.Generator):
        # One draw from the generator keys the whole call; elements then count.
        bounds = (-(2**63), 2**63 - 1)
        draw = torch.randint(*bounds, (), generator=generator, device=generator.device)
        key, offset = int(draw), 0
    else:
        raise TypeError(
            "`generator` must be a torch.Generator or a rung.formats.CounterSource; "
            f"got {type(generator).__name__}."
        )
    return torch.tensor(key, dtype=torch.int64, device=device), offset

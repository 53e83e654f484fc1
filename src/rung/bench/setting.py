"""How large a measurement is, where it runs and how long it may take."""

from dataclasses import dataclass, field

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What every row is told; `quick` and `gpu` make the usual ones."""

    quick: bool = False
    """Tiny sizes, to test the code; never to be quoted."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where tensors live."""
    count: int = 16
    """Tensors of an optimizer's step or a quantizer."""
    side: int = 1024
    """Rows and columns of each of them."""
    width: int = 4096
    """Inputs and outputs of a linear layer."""
    seconds: float = 8.0
    """Time for the rounds of one row and clock; the fewest rounds may take longer."""
    rounds: tuple[int, int] = (5, 31)
    """Fewest and most rounds."""
    seed: int = 0
    """Of all numbers that are made up."""

    @property
    def elements(self) -> int:
        """Numbers in all tensors together."""
        return self.count * self.side**2

    def generator(self) -> torch.Generator:
        """A fresh generator on the device."""
        return torch.Generator(self.device).manual_seed(self.seed)

    def normal(self, *shape: int, std: float = 1.0) -> torch.Tensor:
        """Made-up float32 numbers, the same ones for every call of a shape."""
        return std * torch.randn(*shape, generator=self.generator(), device=self.device)

    def tensors(self, std: float = 0.02) -> list[torch.Tensor]:
        """`count` square matrices, contiguous, each of its own memory."""
        return list(self.normal(self.count, self.side, self.side, std=std).clone().unbind())


def quick(device: str = "cpu") -> Setting:
    """Sizes that take milliseconds."""
    return Setting(
        quick=True,
        device=torch.device(device),
        count=2,
        side=64,
        width=64,
        seconds=0.0,
        rounds=(2, 2),
    )


def gpu(device: str = "cuda") -> Setting:
    """256 M weights: far more than any cache holds."""
    return Setting(device=torch.device(device), count=16, side=4096, seconds=4.0, rounds=(10, 100))

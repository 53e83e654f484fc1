"""What a pass through a model multiplies and moves: values, whatever their format."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

PHASES = ("forward", "input gradient", "weight gradient")
"""The passes over a model, named as `rung.nn.audit` names them."""


@dataclass(frozen=True, slots=True)
class Elements:
    """Numbers moved between memory and the chip, read and written alike.

    Attributes:
        weights: Numbers of parameters.
        activations: Inputs, and what the forward pass made.
        gradients: What the backward pass made.
    """

    weights: int = 0
    activations: int = 0
    gradients: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.activations + self.gradients

    def bytes(self, bits: float) -> float:
        """Bytes, with so many bits a number."""
        return self.total * bits / 8

    def __add__(self, other: "Elements") -> "Elements":
        return Elements(
            self.weights + other.weights,
            self.activations + other.activations,
            self.gradients + other.gradients,
        )


@dataclass(frozen=True, slots=True)
class Work:
    """One product (or lookup) of one pass.

    Attributes:
        layer: Path of the innermost module that computed it, ``""`` for the model itself.
        phase: One of `PHASES`.
        operator: torch's operator, as ``"aten::addmm"``.
        macs: Multiply-accumulates; 0 of a lookup.
        results: Numbers that it makes, each the sum of ``macs / results`` products.
        moved: Its operands, each read once, and its results, each written once.
    """

    layer: str
    phase: str
    operator: str
    macs: int
    results: int
    moved: Elements

    @property
    def group(self) -> str:
        """The layer with ``*`` for the numbers of repeated layers."""
        return ".".join("*" if part.isdigit() else part for part in self.layer.split("."))


@dataclass(frozen=True, slots=True)
class Counts:
    """What `count` saw of one training step, or of one forward pass.

    Attributes:
        works: Every product and lookup, in the order of computation.
        weights: Numbers that the optimizer updates; 0 of a forward pass.
        parameters: Numbers of all parameters, each once.
        uncounted: Operators that may hide a product whose size isn't known, with their layers.
    """

    works: tuple[Work, ...]
    weights: int
    parameters: int
    uncounted: tuple[str, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all passes."""
        return sum(work.macs for work in self.works)

    @property
    def moved(self) -> Elements:
        """Numbers moved by all passes, without the optimizer's."""
        return sum((work.moved for work in self.works), start=Elements())

    def of(self, phase: str) -> "Counts":
        """The works of one pass.

        Raises:
            ValueError: No pass has this name.
        """
        if phase not in PHASES:
            raise ValueError(f"`phase` must be one of {', '.join(PHASES)}; got {phase!r}.")
        return replace(self, works=tuple(work for work in self.works if work.phase == phase))

    @property
    def inference(self) -> "Counts":
        """The forward pass alone, without an update."""
        return replace(self.of("forward"), weights=0)

    def by_group(self) -> dict[str, "Counts"]:
        """Works of alike layers together, in the order in which they first computed."""
        groups: dict[str, list[Work]] = {}
        for work in self.works:
            groups.setdefault(work.group, []).append(work)
        return {group: replace(self, works=tuple(works)) for group, works in groups.items()}

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        for phase in PHASES:
            part = self.of(phase)
            if part.works:
                yield f"{phase}: {part.macs:,} multiply-accumulates, {part.moved.total:,} numbers"
        yield f"update: {self.weights:,} of {self.parameters:,} weights"
        if self.uncounted:
            yield f"not counted: {', '.join(self.uncounted)}"

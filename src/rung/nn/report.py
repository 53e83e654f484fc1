"""What `convert_` did, as values and as a table."""

from dataclasses import dataclass

from rung.formats import name_of
from rung.nn.quantizer import Quantizers


@dataclass(frozen=True)
class ConvertedLayer:
    """One line of a `ConvertReport`.

    Attributes:
        name: Qualified name of the module; ``""`` is the model itself.
        class_name: Its class before.
        kind: Which of its products: one or more kinds, ``"any"`` for a class that isn't torch's
            and may hold all; None if it has none.
        quantizers: The four, each None where the place stays in floating point.
        reason: Why it was left, or None.
        shifted_from: Format of the stored weights, where the compute weights are the upper bits of
            their codes and keep their scale; else None.
    """

    name: str
    class_name: str
    kind: str | None
    quantizers: Quantizers
    reason: str | None
    shifted_from: str | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        """The line of the table."""
        q = self.quantizers
        four = (q.weight, q.activation, q.error, q.gradient)
        formats = [str(quantizer) if quantizer else "-" for quantizer in four]
        if self.shifted_from is not None and q.weight is not None:
            formats[0] = f"{name_of(q.weight.format)}, upper bits of {self.shifted_from}"
        name = self.name or "(model)"
        return (name, self.class_name, self.kind or "-", *formats, self.reason or "")


_TITLE = (
    "layer",
    "class",
    "product",
    "weight",
    "activation",
    "error",
    "gradient",
    "left because",
)


@dataclass(frozen=True)
class ConvertReport:
    """What `convert_` did, layer by layer; ``str(report)`` is a table."""

    entries: tuple[ConvertedLayer, ...]

    @property
    def converted(self) -> tuple[ConvertedLayer, ...]:
        """The entries that compute in formats now."""
        return tuple(entry for entry in self.entries if entry.reason is None)

    @property
    def left(self) -> tuple[ConvertedLayer, ...]:
        """The entries that were left, each with its reason."""
        return tuple(entry for entry in self.entries if entry.reason is not None)

    def __str__(self) -> str:
        rows = [_TITLE, *(entry.cells for entry in self.entries)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )

"""What a datapath has computed of a model: outputs and overflows, layer by layer."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass
class LayerCount:
    """What one layer has computed.

    Attributes:
        name: Qualified name of the module, or the product with its weight's shape.
        calls: Products.
        outputs: Numbers that were computed.
        overflowed: Those with an addition that left its bin's range.
        overflows: Such additions.
    """

    name: str
    calls: int = 0
    outputs: int = 0
    overflowed: int = 0
    overflows: int = 0

    @property
    def share(self) -> float:
        """Outputs with an overflow, from 0 to 1."""
        return self.overflowed / self.outputs if self.outputs else 0.0


class Report:
    """What was computed through a datapath, and what was not; ``str(report)`` is a table.

    Attributes:
        left: Products that were computed in floating point, by name of torch's function, and how
            often.
    """

    def __init__(self) -> None:
        self._layers: dict[str, LayerCount] = {}
        self.left: dict[str, int] = {}

    @property
    def layers(self) -> tuple[LayerCount, ...]:
        """Every layer that has computed through the datapath, in order of its first product."""
        return tuple(self._layers.values())

    @property
    def share(self) -> float:
        """Outputs of all layers with an overflow, from 0 to 1."""
        outputs = sum(layer.outputs for layer in self.layers)
        return sum(layer.overflowed for layer in self.layers) / outputs if outputs else 0.0

    def count(self, name: str, outputs: int, overflowed: int, overflows: int) -> None:
        """Add a product to its layer."""
        layer = self._layers.setdefault(name, LayerCount(name))
        layer.calls += 1
        layer.outputs += outputs
        layer.overflowed += overflowed
        layer.overflows += overflows

    def leave(self, function: str) -> None:
        """Note a product in floating point."""
        self.left[function] = self.left.get(function, 0) + 1

    def __str__(self) -> str:
        rows = [("layer", "products", "outputs", "with overflows", "share")]
        rows += [
            (
                row.name,
                str(row.calls),
                f"{row.outputs:,}",
                f"{row.overflowed:,}",
                f"{row.share:.3%}",
            )
            for row in self.layers
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                f"{cell:{'<' if index == 0 else '>'}{width}}"
                for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        floats = ", ".join(f"{name} ({count})" for name, count in self.left.items())
        return "\n".join([*lines, *([f"in floating point: {floats}"] if floats else [])])


class _Names(threading.local):
    """Modules whose forward passes are under way in this thread, from the outermost in."""

    def __init__(self) -> None:
        self.open: list[str] = []


class Naming:
    """Tells which of a model's modules a product belongs to."""

    def __init__(self) -> None:
        self._names = _Names()

    @property
    def current(self) -> str | None:
        """The innermost module, or None."""
        return self._names.open[-1] if self._names.open else None

    @contextmanager
    def following(self, model: nn.Module | None) -> Iterator[None]:
        """Follow a model's modules by hooks, which are taken off again."""
        handles = []
        try:
            for name, module in model.named_modules() if model is not None else ():
                handles.append(module.register_forward_pre_hook(self._enter(name)))
                handles.append(module.register_forward_hook(self._leave, always_call=True))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, name: str) -> Any:
        def enter(*_: Any) -> None:
            self._names.open.append(name or "(model)")

        return enter

    def _leave(self, *_: Any) -> None:
        if self._names.open:
            self._names.open.pop()

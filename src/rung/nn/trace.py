"""Notes that quantized computation leaves for a running audit; without one they cost a test."""

from typing import Protocol

from torch import Tensor

from rung.formats import Format


class Quantizer(Protocol):
    """All that a note needs of a quantizer; a tensor that lives in codes has it too."""

    @property
    def format(self) -> Format:
        """The format that it rounds to."""


class Listener(Protocol):
    """What `rung.nn.audit` does with the notes."""

    def mark(self, tensor: Tensor, quantizer: Quantizer, source: Tensor) -> None:
        """The tensor's storage holds the source's values in the quantizer's format."""

    def mark_result(self, grad: Tensor, quantizer: Quantizer) -> None:
        """The product that made this gradient has it rounded by the quantizer."""

    def mark_lookup(self, indices: Tensor, table: Tensor, rows: Tensor) -> None:
        """These rows of a table were looked up, and only they were rounded."""


# Module-wide and not thread-local: autograd runs a GPU's backward pass in a thread of its own.
_listeners: list[Listener] = []


def mark(tensor: Tensor, quantizer: Quantizer, source: Tensor) -> None:
    """Note that a tensor's storage holds values in a quantizer's format.

    Args:
        tensor: What the quantizer returned, before anything writes to it. Views share the note.
        quantizer: The quantizer that rounded it.
        source: What was rounded: the result of rounding a weight is a weight.
    """
    for listener in _listeners:
        listener.mark(tensor, quantizer, source)


def mark_result(grad: Tensor, quantizer: Quantizer) -> None:
    """Note that a gradient is about to be rounded, so that its product has a result format.

    Args:
        grad: The gradient as it came out of the product, before the quantizer.
        quantizer: The quantizer that rounds it (Q_G).
    """
    for listener in _listeners:
        listener.mark_result(grad, quantizer)


def mark_lookup(indices: Tensor, table: Tensor, rows: Tensor) -> None:
    """Note a lookup that is no operator of torch, because it rounds nothing but what it reads.

    Args:
        indices: Integers, any shape.
        table: The weight, or its codes.
        rows: What is returned, marked before.
    """
    for listener in _listeners:
        listener.mark_lookup(indices, table, rows)


def listen(listener: Listener) -> None:
    """Send notes to a listener, until `unlisten`."""
    _listeners.append(listener)


def unlisten(listener: Listener) -> None:
    """Send no more notes to a listener."""
    _listeners.remove(listener)

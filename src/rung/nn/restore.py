"""Undo what a pass through a model changed: tensors, buffers, random number generators."""

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rung.nn.storages import storage_of, written


class Originals:
    """Tensors that a pass may write to, copied only where it does.

    Args:
        tensors: Parameters and data; views of one memory count once each.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._by_storage: dict[int, list[Tensor]] = defaultdict(list)
        for tensor in tensors:
            storage = storage_of(tensor)
            if storage is not None:
                self._by_storage[storage.cdata].append(tensor)
        self._kept: list[tuple[Tensor, Tensor]] = []

    def keep_from(self, func: Any, args: Sequence[Any]) -> None:
        """Copy what an operator is about to write to.

        Args:
            func: The operator, for its schema.
            args: All of its arguments in the schema's order.
        """
        for target in written(func, args):
            storage = storage_of(target)
            found = [] if storage is None else self._by_storage.pop(storage.cdata, [])
            self._kept += [(tensor, tensor.detach().clone()) for tensor in found]

    def restore(self) -> None:
        """Write the copies back."""
        with torch.no_grad():
            for tensor, values in self._kept:
                tensor.copy_(values)
        self._kept.clear()


@contextmanager
def unchanged(model: nn.Module, originals: Originals) -> Iterator[None]:
    """Restore tensors, buffers and random number generators, whatever happens."""
    registered = [
        (module, dict(module._buffers), set(module._non_persistent_buffers_set))
        for module in model.modules()
    ]
    kept = [
        (buffer, buffer.detach().clone())
        for _, buffers, _ in registered
        for buffer in buffers.values()
        if buffer is not None
    ]
    devices = {p.device.index for p in model.parameters() if p.device.type == "cuda"}
    python_state = random.getstate()
    try:
        with torch.random.fork_rng(sorted(devices)):
            yield
    finally:
        random.setstate(python_state)
        originals.restore()
        for module, buffers, transient in registered:
            # In place, for those who hold the dict; what the pass registered goes.
            module._buffers.clear()
            module._buffers.update(buffers)
            module._non_persistent_buffers_set = transient
        with torch.no_grad():
            for buffer, values in kept:
                if not buffer.equal(values):
                    buffer.copy_(values)

"""What is known of the numbers in every storage while an audit runs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_leaves

from rung.nn.operators import BLANKS, SUMS, sources_of
from rung.tensor import CodedTensor


@dataclass
class Note:
    """What is known of one storage.

    Attributes:
        reference: Weak, so that nothing lives longer for it, while its address gets no second life.
        format: Name of the format that all values are in.
        blank: Zeros: takes on the format of what is written to it.
        origin: ``"weight"``: computed from parameters alone; ``"constant"``: from tensors that were
            there before (tables, masks) or from nothing; ``"data"``: all else.
        products: Indices of the listed products whose results these values are.
    """

    reference: StorageWeakRef | None = None
    format: str | None = None
    blank: bool = False
    origin: str = "constant"
    products: set[int] = field(default_factory=set)


class Storages:
    """Notes by storage: views share them, operators that only move values hand them on."""

    def __init__(self) -> None:
        self._notes: dict[int, Note] = {}

    def of(self, tensor: Tensor) -> Note:
        """The note of a tensor's storage, to read and to write."""
        reference = storage_of(tensor)
        if reference is None:
            return Note()
        return self._notes.setdefault(reference.cdata, Note(reference))

    def follow(self, func: Any, name: str, args: Sequence[Any], output: Any) -> None:
        """Note what an operator's results hold.

        Args:
            func: The operator, for its schema.
            name: Its name without namespace and overload.
            args: All of its arguments in the schema's order.
            output: What it returned.
        """
        inputs = _tensors(args)
        read = {id(self.of(tensor)) for tensor in inputs}
        targets = written(func, args)
        overwritten = {id(self.of(tensor)) for tensor in targets}
        origin = self._origin(inputs)
        sources = sources_of(name, args)
        told = self._merged(sources)
        carried = sources or (inputs if name in SUMS else [])
        products = {i for tensor in _tensors(carried) for i in self.of(tensor).products}
        for tensor in [*_tensors(output), *targets]:
            note = self.of(tensor)
            if id(note) in read and id(note) not in overwritten:
                continue  # a view of an input
            note.origin, note.products = origin, set(products)
            note.format, note.blank = told if sources else (None, name in BLANKS)

    def _origin(self, inputs: Iterable[Tensor]) -> str:
        # Scales and other single numbers say nothing about where the rest comes from.
        single = {self.of(x).origin for x in inputs if x.numel() == 1} - {"data"}
        origins = {self.of(x).origin for x in inputs if x.numel() != 1} or single
        if "data" in origins:
            return "data"
        return "weight" if "weight" in origins else "constant"

    def _merged(self, sources: Iterable[Any]) -> tuple[str | None, bool]:
        """The one format of several sources, blanks aside; and whether all are blank."""
        formats: set[str | None] = set()
        for source in sources:
            if not isinstance(source, Tensor):
                formats.add(None)
            elif not self.of(source).blank:
                formats.add(self.of(source).format)
        return (next(iter(formats)) if len(formats) == 1 else None), not formats


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def storage_of(tensor: Tensor) -> StorageWeakRef | None:
    """A weak reference to a tensor's memory (of its codes, if it lives in codes); None for several.

    Its `cdata` tells one memory from another while the reference is alive.
    """
    if isinstance(tensor, CodedTensor):
        tensor = tensor.codes
    try:
        storage = tensor.untyped_storage()
    except (RuntimeError, NotImplementedError):  # sparse tensors have no one storage
        return None
    return StorageWeakRef(storage)  # type: ignore[no-untyped-call]


def written(func: Any, args: Sequence[Any]) -> list[Tensor]:
    """The arguments that an operator writes to, by its schema.

    Args:
        func: The operator.
        args: All of its arguments in the schema's order.
    """
    schema = getattr(func, "_schema", None)
    if schema is None:
        return []
    targets = [
        value
        for argument, value in zip(schema.arguments, args, strict=False)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    return _tensors(targets)

"""Who computes an operation: the CPU's loops, the GPU's kernels, or the reference in PyTorch.

Every operation is a torch operator ``rung::name``, so that torch.compile, export and whatever else
looks at operators see one node. On plain tensors in eager mode the implementation is called
directly: torch's dispatcher would cost more than a small tensor's arithmetic.

``RUNG_KERNELS=reference`` in the environment forces the reference everywhere.
"""

import functools
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

VARIABLE = "RUNG_KERNELS"
CHOICES = ("auto", "reference")


@functools.cache
def choice() -> str:
    """What the environment asks for: ``"auto"`` or ``"reference"``.

    Raises:
        ValueError: for anything else.
    """
    given = os.environ.get(VARIABLE) or "auto"
    if given not in CHOICES:
        raise ValueError(
            f"the environment variable {VARIABLE} must be one of {', '.join(CHOICES)}; got "
            f"{given!r}. Unset it for the fastest implementation of each device."
        )
    return given


# None: every operation is worth it.
_FEW: ContextVar[int | None] = ContextVar("elements not worth compiling for", default=None)


@contextmanager
def used_once(few: int | None) -> Iterator[None]:
    """Within this block operations on up to `few` elements are the reference's.

    For what a program does once: compiling a loop takes a second, and the reference rounds a
    million numbers in a tenth of that. Both give the same integers. None changes nothing.
    """
    before = _FEW.set(few)
    try:
        yield
    finally:
        _FEW.reset(before)


def _not_worth_compiling(arguments: Iterable[Any]) -> bool:
    few = _FEW.get()
    return few is not None and all(tensor.numel() <= few for tensor in tensors_of(arguments))


def tensors_of(arguments: Iterable[Any]) -> Iterable[Tensor]:
    """The tensors among arguments and their lists."""
    for argument in arguments:
        if isinstance(argument, Tensor):
            yield argument
        elif isinstance(argument, list | tuple):
            yield from (item for item in argument if isinstance(item, Tensor))


_PLAIN = {Tensor, torch.nn.Parameter}
_OTHERS = {int, float, bool, str, type(None)}


def plain(arguments: Iterable[Any]) -> bool:
    """Whether tensors, and those in lists, have memory that may be read now.

    No tracing, no transform, no mode, no subclass.
    """
    # Tensors of torch.func's transforms call themselves plain and have no memory to read.
    if torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    if torch._C._len_torch_dispatch_stack():  # a mode wants to see every operator
        return False
    kinds: set[type] = set()
    for argument in arguments:
        if isinstance(argument, list | tuple):
            kinds.update(map(type, argument))
        else:
            kinds.add(type(argument))
    return kinds <= _PLAIN or kinds <= _PLAIN | _OTHERS


@dataclass(frozen=True)
class Choice:
    """Who serves an operation on a device.

    Attributes:
        operation: Its name.
        device: ``"cpu"``, ``"cuda"`` or ``"other"``.
        implementation: ``"numba"``, ``"triton"`` or ``"reference"``.
        reason: Why.
    """

    operation: str
    device: str
    implementation: str
    reason: str


class Operation:
    """One operation: a definition in PyTorch, and the loops and kernels that equal it.

    Args:
        name: Of the operator ``rung::name``.
        schema: Its arguments and results, as torch.library writes them, without the name.
        reference: The definition; traceable, on every device and dtype.
        cpu: ``"module:function"`` of the loops under `rung.kernels.cpu`, same arguments; imported
            at the first call.
        gpu: Likewise of the Triton kernels under `rung.kernels.gpu`.
        serves: Whether the fast implementations take these arguments (dtypes, sizes).
        fake: Results' shapes and dtypes, for tracing; None if nothing is returned.
    """

    def __init__(
        self,
        name: str,
        schema: str,
        reference: Callable[..., Any],
        *,
        cpu: str | None = None,
        gpu: str | None = None,
        serves: Callable[..., bool] = lambda *arguments: True,
        fake: Callable[..., Any] | None = None,
    ) -> None:
        self.name, self.reference, self.serves = name, reference, serves
        self.sources = {"cpu": cpu, "cuda": gpu}
        tags = (torch.Tag.pt2_compliant_tag,)
        _LIBRARY.define(f"{name}{schema}", tags=tags)  # type: ignore[no-untyped-call]
        torch.library.impl(f"rung::{name}", "default", self.compute, lib=_LIBRARY)
        torch.library.register_fake(
            f"rung::{name}", fake or (lambda *arguments: None), lib=_LIBRARY
        )
        OPERATIONS[name] = self

    def __call__(self, *arguments: Any) -> Any:
        """Compute; arguments are positional, as in the schema."""
        if plain(arguments):
            return self.compute(*arguments)
        return getattr(torch.ops.rung, self.name)(*arguments)

    def compute(self, *arguments: Any) -> Any:
        """The implementation for the arguments' device, called at once."""
        device = next((t.device.type for t in tensors_of(arguments)), "cpu")
        slow = self.choose(device).implementation == "reference" or not self.serves(*arguments)
        if slow or _not_worth_compiling(arguments):
            return self.reference(*arguments)
        return self.fast(device)(*arguments)

    @functools.cache  # noqa: B019  # operations live as long as the process
    def choose(self, device: str) -> Choice:
        """Who serves a device, as far as that doesn't depend on dtypes."""
        kind = device if device in self.sources else "other"
        if choice() == "reference":
            return Choice(self.name, kind, "reference", f"{VARIABLE}=reference")
        if kind == "other":
            return Choice(self.name, kind, "reference", "there are kernels for cpu and cuda only")
        if self.sources[kind] is None:
            return Choice(self.name, kind, "reference", "no kernel is written for it")
        package = {"cpu": "numba", "cuda": "triton"}[kind]
        if importlib.util.find_spec(package) is None:
            return Choice(self.name, kind, "reference", f"{package} is not installed")
        return Choice(self.name, kind, package, "fastest")

    @functools.cache  # noqa: B019
    def fast(self, device: str) -> Callable[..., Any]:
        """The loops or kernels of a device; imports them."""
        source = self.sources[device]
        assert source is not None
        module, _, function = source.partition(":")
        implementation: Callable[..., Any] = getattr(importlib.import_module(module), function)
        return implementation


_LIBRARY = torch.library.Library("rung", "DEF")  # type: ignore[no-untyped-call]
OPERATIONS: dict[str, Operation] = {}


def info(devices: Sequence[str] = ("cpu", "cuda", "other")) -> list[Choice]:
    """Which implementation serves which operation on which device, and why.

    Returns:
        One `Choice` per operation and device, in the order of their names. Dtypes that a fast
        implementation doesn't take (float64, say) are served by the reference all the same.
    """
    return [OPERATIONS[name].choose(device) for name in sorted(OPERATIONS) for device in devices]

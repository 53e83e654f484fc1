"""Control flow of the helpers that `lane_writer` writes: loops and branches of the running code."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from numba.core import cgutils, types

from rung.kernels.cpu.lane_operands import Operand, kind_of, packed, targets


def loop(start: Any, stop: Any, step: Any = 1) -> Iterator[Any]:
    """`range` of the running function: Python runs the body once, and numba's code repeats it.

    What the body assigns is gone with it; use a `Variable` for what has to last.
    """
    _, context, builder = targets[-1]
    if builder is None:
        yield Operand(types.intp, None)
        return
    bounds = [
        context.cast(builder, packed(bound), kind_of(bound), types.intp)
        for bound in (start, stop, step)
    ]
    with cgutils.for_range_slice(builder, *bounds, bounds[0].type) as (index, _):
        yield Operand(types.intp, index)


def _truth(condition: Any) -> Any:
    """One bit, as numba would have it; also of a constant, for which LLVM leaves the other out."""
    _, context, builder = targets[-1]
    return context.cast(builder, packed(condition), kind_of(condition), types.boolean)


def during(condition: Callable[[], Any]) -> Iterator[None]:
    """`while` of the running function; the condition is of what a `Variable` is `now`."""
    builder = targets[-1].builder
    if builder is None:
        condition()
        yield
        return
    test, body, after = (
        builder.append_basic_block(f"during.{name}") for name in ("", "body", "after")
    )
    builder.branch(test)
    builder.position_at_end(test)
    builder.cbranch(_truth(condition()), body, after)
    builder.position_at_end(body)
    yield
    builder.branch(test)
    builder.position_at_end(after)


@contextmanager
def when(condition: Any) -> Iterator[None]:
    """`if` of the running function; assignments in it have to be to a `Variable`."""
    builder = targets[-1].builder
    if builder is None:
        yield
    else:
        with builder.if_then(_truth(condition)):
            yield


@contextmanager
def either(condition: Any) -> Iterator[Any]:
    """`if` and `else` of the running function, a context for each of the two."""
    builder = targets[-1].builder
    if builder is None:
        yield nullcontext(), nullcontext()
    else:
        with builder.if_else(_truth(condition)) as branches:
            yield branches


class Variable:
    """A number or vector that loops of the running function change; `now` is its value."""

    def __init__(self, value: Any) -> None:
        _, context, builder = targets[-1]
        self._kind, self._place = kind_of(value), None
        if builder is not None:
            kind = context.get_value_type(self._kind)
            self._place = cgutils.alloca_once(builder, kind)
        self.now = value

    @property
    def now(self) -> Any:
        """The value at this place of the code."""
        builder = targets[-1].builder
        return Operand(self._kind, None if builder is None else builder.load(self._place))

    @now.setter
    def now(self, value: Any) -> None:
        _, context, builder = targets[-1]
        if builder is not None:
            kept = context.cast(builder, packed(value), kind_of(value), self._kind)
            builder.store(kept, self._place)

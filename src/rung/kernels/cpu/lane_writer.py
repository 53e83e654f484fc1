"""Straight-line helpers of the loops, written by Python itself into the function that calls them.

To numba a helper is a function: typed, lowered and optimised on its own, a tenth of a second each,
and then inlined. Here Python runs it once for the types and once for the code, with operands that
record what is done to them, each operation typed and lowered as numba does it. So all that Python
knows while it runs is decided then: `x is None`, loops over `range(10)`, tuples, other helpers.
"""

import builtins
import functools
import inspect
import types as python
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import infer, infer_global, make_intrinsic_template
from numba.extending import _Intrinsic, is_jitted

from rung.kernels.cpu.lane_operands import (
    Operand,
    call,
    kind_of,
    largest,
    packed,
    smallest,
    targets,
    unpacked,
    writing_to,
)

_stubs: dict[Any, "Helper"] = {}


class Helper:
    """A helper: numba calls it as an intrinsic, other helpers by running it.

    Args:
        name: For messages of numba.
        choose: The function for the arguments' types.
        like: A function with the same parameters.
        stub: What numba finds under the helper's name, if that isn't this object.
    """

    def __init__(
        self, name: str, choose: Callable[..., Any], like: Callable[..., Any], stub: Any = None
    ) -> None:
        self.function, self._choose = like, choose
        context = inspect.Parameter("_context", inspect.Parameter.POSITIONAL_ONLY)
        own = inspect.signature(like).parameters.values()
        self.__doc__ = like.__doc__
        handle = self if stub is None else stub
        if stub is not None:
            _stubs[stub] = self

        def define(typing: Any, *kinds: Any) -> Any:
            with writing_to(typing):
                result = kind_of(self(*(unpacked(kind, None) for kind in kinds)))
            return result(*kinds), self._build

        define.__signature__ = inspect.Signature([context, *own])  # type: ignore[attr-defined]
        template = make_intrinsic_template(handle, define, name)
        infer(template)
        infer_global(handle, types.Function(template))

    def _build(self, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        with writing_to(context.typing_context, context, builder):
            given = zip(signature.args, arguments, strict=True)
            return packed(self(*(unpacked(kind, value) for kind, value in given)))

    def __call__(self, *arguments: Any) -> Any:
        """Write this helper's code; from other helpers only."""
        return _rebound(self._choose(*map(kind_of, arguments)))(*arguments)


class Called(Helper):
    """A helper that is written once a module for arguments of the same types, and called.

    LLVM copies it nowhere, so it is compiled once however often it is called; and a loop in a
    function without calls of its own has its constants in registers.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._written: Any = WeakKeyDictionary()

    def __call__(self, *arguments: Any) -> Any:
        """Write a call of this helper; from other helpers only."""
        typing, context, builder = targets[-1]
        kinds = tuple(map(kind_of, arguments))
        known = self._written.setdefault(typing if builder is None else builder.module, {})
        if kinds not in known:
            known[kinds] = self._function(kinds)
        function, result = known[kinds]
        if builder is None:
            return unpacked(result, None)
        return unpacked(result, builder.call(function, [packed(item) for item in arguments]))

    def _function(self, kinds: tuple[Any, ...]) -> tuple[Any, Any]:
        """Code and result's type."""
        typing, context, builder = targets[-1]
        with writing_to(typing):
            result = kind_of(super().__call__(*(unpacked(kind, None) for kind in kinds)))
        if builder is None:
            return None, result
        given, taken = context.get_value_type(result), map(context.get_value_type, kinds)
        shape = ir.FunctionType(given, taken)
        name = builder.module.get_unique_name(self.function.__name__)
        code = ir.Function(builder.module, shape, name)
        code.linkage = "internal"
        for attribute in ("noinline", "nounwind"):
            code.attributes.add(attribute)
        body = ir.IRBuilder(code.append_basic_block("entry"))
        with writing_to(typing, context, body):
            own = zip(kinds, code.args, strict=True)
            value = super().__call__(*(unpacked(kind, value) for kind, value in own))
            body.ret(packed(value))
        return code, result


@functools.cache
def _rebound(function: Any) -> Any:
    """The function with names that stand for what takes operands."""
    known = {"min": smallest, "max": largest, **function.__globals__}
    names = {name: _stand_in(known[name]) for name in _names(function.__code__) if name in known}
    cells = [python.CellType(_stand_in(c.cell_contents)) for c in function.__closure__ or ()]
    return python.FunctionType(
        function.__code__,
        {"__builtins__": builtins, **names},
        function.__name__,
        function.__defaults__,
        tuple(cells),
    )


def _names(code: Any) -> set[str]:
    inner = (item for item in code.co_consts if isinstance(item, python.CodeType))
    return set(code.co_names).union(*map(_names, inner))


class _Module:
    """A module whose names stand for what takes operands."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return _stand_in(getattr(self._module, name))


def _stand_in(value: Any) -> Any:
    """What takes the place of a name's value while Python runs a helper."""
    if isinstance(value, python.ModuleType):
        return _Module(value)
    if inspect.isfunction(value) and value in _stubs:
        return _stubs[value]
    if is_jitted(value) or isinstance(value, _Intrinsic):
        return functools.partial(call, value)
    number = isinstance(value, type) and issubclass(value, np.generic)
    if not number and not isinstance(value, np.ufunc):
        return value

    def either(*arguments: Any) -> Any:
        if any(isinstance(argument, Operand) for argument in arguments):
            return call(value, *arguments)
        return value(*arguments)

    return either

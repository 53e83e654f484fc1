"""What a helper of the loops computes with while Python runs it: numbers that record operations.

`lane_writer` says what for. Each operation is typed and lowered as numba does it.
"""

import functools
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numba
from numba.core import types


class Target(NamedTuple):
    """Where code goes: numba's typing context, and its target and builder once there is code."""

    typing: Any
    context: Any = None
    builder: Any = None


targets: list[Target] = []


@contextmanager
def writing_to(*target: Any) -> Iterator[None]:
    """Let what operands record go to a `Target` of these."""
    targets.append(Target(*target))
    try:
        yield
    finally:
        targets.pop()


class Operand:
    """A number, vector or array of the function that is being written; None before there is code.

    What is done to it follows numba's rules for its type.
    """

    __array_ufunc__ = None  # numpy's scalars leave operators to this class
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, kind: Any, value: Any) -> None:
        self._kind, self._value = kind, value

    def __bool__(self) -> bool:
        raise TypeError(
            f"a lane must not branch on a number that only the running loop knows, a {self._kind}; "
            "use select, choose or when, or declare the helper with `inlined` instead of `lane`."
        )

    def __getattr__(self, name: str) -> Any:
        target, kind = targets[-1], self._kind
        result = target.typing.resolve_getattr(kind, name)
        if result is None:
            raise AttributeError(f"numba knows no {name!r} of a {kind}")
        if target.builder is None:
            return unpacked(result, None)
        get = target.context.get_getattr(kind, name)
        return unpacked(result, get(target.context, target.builder, kind, self._value, name))


def _operate(symbol: Any, swapped: bool = False) -> Any:
    def method(self: Any, *others: Any) -> Any:
        return call(symbol, *reversed(others), self) if swapped else call(symbol, self, *others)

    return method


for _name in (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "and_", "or_", "xor", "lshift", "rshift",
):  # fmt: skip
    _symbol = getattr(operator, _name)
    setattr(Operand, f"__{_name.strip('_')}__", _operate(_symbol))
    setattr(Operand, f"__r{_name.strip('_')}__", _operate(_symbol, swapped=True))
for _name in ("lt", "le", "gt", "ge", "eq", "ne", "neg", "invert", "getitem", "setitem"):
    setattr(Operand, f"__{_name}__", _operate(getattr(operator, _name)))


def kind_of(value: Any) -> Any:
    """Numba's type of an operand, a constant, None, or a tuple of them."""
    if isinstance(value, Operand):
        return value._kind
    if isinstance(value, tuple):
        return types.BaseTuple.from_types([kind_of(item) for item in value])
    return types.none if value is None else numba.typeof(value)


def packed(value: Any) -> Any:
    """The code's value of the same."""
    _, context, builder = targets[-1]
    if isinstance(value, Operand):
        return value._value
    if value is None:
        return context.get_dummy_value()
    if isinstance(value, tuple):
        return context.make_tuple(builder, kind_of(value), [packed(item) for item in value])
    return context.get_constant_generic(builder, numba.typeof(value), value)


def unpacked(kind: Any, value: Any) -> Any:
    """What a helper is given: tuples and None are Python's own."""
    if isinstance(kind, types.NoneType):
        return None
    if isinstance(kind, types.Omitted):
        return kind.value
    if isinstance(kind, types.BaseTuple):
        builder = targets[-1].builder
        items = range(len(kind))
        values = [None if builder is None else builder.extract_value(value, i) for i in items]
        return tuple(unpacked(kind[i], values[i]) for i in items)
    return Operand(kind, value)


_signatures: dict[Any, tuple[Any, Any]] = {}


def _signature(typing: Any, function: Any, kinds: tuple[Any, ...]) -> tuple[Any, Any]:
    """Numba's type of a function, and its signature for arguments of these types."""
    key = typing, function, kinds
    if key not in _signatures:
        kind = typing.resolve_value_type(function)
        signature = typing.resolve_function_type(kind, kinds, {})
        if signature is None:
            raise TypeError(f"numba knows no {function} of {', '.join(map(str, kinds))}")
        _signatures[key] = kind, signature
    return _signatures[key]


def call(function: Any, *arguments: Any) -> Any:
    """Write a call of what numba can call."""
    typing, context, builder = targets[-1]
    kinds = tuple(map(kind_of, arguments))
    kind, signature = _signature(typing, function, kinds)
    if builder is None:
        return unpacked(signature.return_type, None)
    values = [
        context.cast(builder, packed(argument), given, wanted)
        for argument, given, wanted in zip(arguments, kinds, signature.args, strict=False)
    ]
    # numba lists arguments that are left out; their types say all of them.
    values += [context.get_dummy_value()] * (len(signature.args) - len(values))
    implementation = context.get_function(kind, signature)
    context.add_linking_libs(getattr(implementation, "libs", ()))
    return unpacked(signature.return_type, implementation(builder, values))


def choose(condition: Any, a: Any, b: Any) -> Any:
    """`a` where a condition on numbers holds, else `b`, of the type that numba gives both."""
    typing, context, builder = targets[-1]
    if not isinstance(condition, Operand):
        return a if condition else b
    kinds = kind_of(a), kind_of(b)
    kind = typing.unify_types(*kinds)
    if builder is None:
        return Operand(kind, None)
    values = [
        context.cast(builder, packed(value), own, kind)
        for value, own in zip((a, b), kinds, strict=True)
    ]
    return Operand(kind, builder.select(condition._value, *values))


def _extreme(symbol: Any) -> Any:
    def extreme(*numbers: Any) -> Any:
        return functools.reduce(lambda a, b: choose(symbol(b, a), b, a), numbers)

    return extreme


smallest, largest = _extreme(operator.lt), _extreme(operator.gt)

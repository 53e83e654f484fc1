"""What happens to a `CodedTensor` below autograd, operator by operator."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from rung.tensor.assign import assign_
from rung.tensor.coded import CodedTensor, lost_write

aten = torch.ops.aten
_HANDLERS: dict[Any, Callable[..., Any]] = {}


def _handles(*operators: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(handler: Callable[..., Any]) -> Callable[..., Any]:
        for operator in operators:
            _HANDLERS[operator] = handler
        return handler

    return register


def dispatch(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Structural operators keep codes; all others run on the decoded weight.

    Raises:
        RuntimeError: An in-place operator on a coded tensor, whose result would be lost.
    """
    if func in _HANDLERS:
        return _HANDLERS[func](func, *args, **kwargs)
    if any(isinstance(value, CodedTensor) for value in _written(func, args, kwargs)):
        raise lost_write(str(func))
    args, kwargs = tree_map_only(CodedTensor, CodedTensor.decode, (args, kwargs))
    return func(*args, **kwargs)


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """Every value that an operator writes: positional, by keyword (``out=``), in lists."""
    given = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
    return [
        leaf
        for argument in func._schema.arguments
        if argument.alias_info is not None and argument.alias_info.is_write
        for leaf in tree_leaves(given.get(argument.name))
    ]


@_handles(aten.detach.default, aten.alias.default)
def _alias(func: Any, weight: CodedTensor) -> CodedTensor:
    return weight.with_parts(func, weight.dtype)


@_handles(aten.clone.default)
def _clone(func: Any, weight: CodedTensor, **kwargs: Any) -> CodedTensor:
    return weight.with_parts(torch.clone, weight.dtype)


@_handles(aten._to_copy.default)
def _to_copy(func: Any, weight: CodedTensor, **kwargs: Any) -> Tensor:
    """`.to()`: codes move between devices; a dtype is only what `decode` returns."""
    dtype = kwargs.get("dtype") or weight.dtype
    if not dtype.is_floating_point:
        return func(weight.decode(), **kwargs)  # type: ignore[no-any-return]
    device, non_blocking = kwargs.get("device"), kwargs.get("non_blocking", False)
    return weight.with_parts(
        lambda part: part.to(device=device, non_blocking=non_blocking, copy=True), dtype
    )


@_handles(aten.copy_.default)
def _copy(func: Any, target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    if isinstance(target, CodedTensor):
        assign_(target, source)
    else:
        assert isinstance(source, CodedTensor)
        target.copy_(source.decode(), non_blocking)
    return target


@_handles(aten.empty_like.default)
def _empty_like(func: Any, weight: CodedTensor, **kwargs: Any) -> Tensor:
    """Where ``module.to_empty()`` leads: codes to be loaded later. Elsewhere a float buffer."""
    if weight.device.type == "meta" and kwargs.get("device") is not None:
        return weight.with_parts(
            lambda part: torch.empty_like(part, device=kwargs["device"]), weight.dtype
        )
    return func(weight.decode(), **kwargs)  # type: ignore[no-any-return]


@_handles(aten.is_pinned.default)
def _is_pinned(func: Any, weight: CodedTensor, *args: Any) -> bool:
    return bool(weight.codes.is_pinned())


@_handles(aten._has_compatible_shallow_copy_type.default)
def _never_shallow(func: Any, *args: Any) -> bool:
    """`module.to()` must swap the tensor: its parts can't be exchanged under it."""
    return False

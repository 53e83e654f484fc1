"""Any tree of plain values and tensors as one dict of tensors and a JSON-able structure.

The tree may hold dict (keys str or int), list, tuple, tensor, CodedTensor, torchao's int8 weights,
str, int, float, bool and None. Floats come back bit for bit, NaN and infinities included; tuples
stay tuples and integer keys stay integers, which plain JSON would lose. Nothing is pickled.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rung.tensor import CodedTensor
from rung.train import int8

Node = dict[str, Any]


def flatten(tree: Any) -> tuple[Node, dict[str, Tensor]]:
    """Split a tree into its structure and its tensors.

    Args:
        tree: See the module's text.

    Returns:
        The structure, which `json.dumps` takes, and contiguous CPU copies of the tensors by path,
        e.g. ``"model/conv.weight"``.

    Raises:
        TypeError: A value or a key is of another type; the text names its path.
    """
    tensors: dict[str, Tensor] = {}
    return _flatten(tree, "", tensors), tensors


def unflatten(structure: Node, tensors: Mapping[str, Tensor]) -> Any:
    """The tree that `flatten` split; dicts come back as plain dicts.

    Raises:
        ValueError: A tensor of the structure is missing, or a node is of an unknown kind.
    """
    kind: str = structure["kind"]
    value: Any = structure.get("value")
    if kind == "value":
        return value
    if kind == "float":
        return float(structure["value"])
    if kind == "tensor":
        if value not in tensors:
            raise ValueError(f"The structure names a tensor that isn't there: {value!r}.")
        return tensors[value]
    if kind == int8.KIND:
        return int8.from_parts(unflatten(structure["parts"], tensors))
    if kind == "coded":
        return CodedTensor.from_parts(
            unflatten(structure["parts"], tensors), unflatten(structure["meta"], tensors)
        )
    if kind in ("list", "tuple"):
        items = [unflatten(item, tensors) for item in structure["value"]]
        return items if kind == "list" else tuple(items)
    if kind == "dict":
        return {key: unflatten(item, tensors) for key, item in structure["value"]}
    raise ValueError(f"Unknown kind of node in a checkpoint's structure: {kind!r}.")


def _flatten(tree: Any, path: str, tensors: dict[str, Tensor]) -> Node:
    if isinstance(tree, CodedTensor):
        return {
            "kind": "coded",
            "parts": _flatten(tree.to_parts(), path, tensors),
            "meta": _flatten(tree.meta(), path, tensors),
        }
    if int8.is_int8(tree):
        return {"kind": int8.KIND, "parts": _flatten(int8.to_parts(tree), path, tensors)}
    if isinstance(tree, Tensor):
        name = path or "tensor"
        # A copy each: safetensors refuses tensors that share memory, as tied weights do.
        copy = tree.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        tensors[name] = copy
        return {"kind": "tensor", "value": name}
    if isinstance(tree, float) and not math.isfinite(tree):
        return {"kind": "float", "value": str(tree)}
    if tree is None or type(tree) in (bool, int, float, str):
        return {"kind": "value", "value": tree}
    if type(tree) in (list, tuple):
        items = [_flatten(item, _join(path, i), tensors) for i, item in enumerate(tree)]
        return {"kind": type(tree).__name__, "value": items}
    if isinstance(tree, Mapping):
        return {"kind": "dict", "value": _flatten_items(tree, path, tensors)}
    raise TypeError(
        f"A checkpoint holds plain values and tensors; got {type(tree).__name__} at {path!r}."
    )


def _flatten_items(tree: Mapping[Any, Any], path: str, tensors: dict[str, Tensor]) -> list[Any]:
    items = []
    for key, item in tree.items():
        if type(key) not in (str, int):
            raise TypeError(
                f"A checkpoint's keys are str or int; got {type(key).__name__} {key!r} at {path!r}."
            )
        items.append([key, _flatten(item, _join(path, key), tensors)])
    return items


def _join(path: str, key: str | int) -> str:
    # The tilde escape keeps "a/b" apart from "a" then "b", and the key "1" from the key 1.
    part = f"~{key}" if isinstance(key, int) else key.replace("~", "~~").replace("/", "~s")
    return f"{path}/{part}" if path else part

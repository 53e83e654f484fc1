"""What the audit knows of torch's operators: which multiply, and which only move values."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class Pair:
    """Two operands of one product inside an operator; None is a value that stays inside it."""

    a: Tensor | None
    b: Tensor | None
    result: int = 0  # index among the operator's outputs
    phase: str | None = None  # where the operator alone tells it
    kind: str = "product"
    is_outer: bool = False  # nothing is summed


Reader = Callable[[Sequence[Any]], list[Pair]]

# Operands by position, one product each.
_POSITIONS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "vdot", "linear", "mkldnn_linear"), (0, 1)),
    **dict.fromkeys(("_grouped_mm", "_scaled_mm", "_scaled_grouped_mm", "_sparse_mm"), (0, 1)),
    **dict.fromkeys(("convolution", "_convolution", "convolution_overrideable"), (0, 1)),
    **dict.fromkeys(("cudnn_convolution", "cudnn_convolution_transpose", "conv_tbc"), (0, 1)),
    **dict.fromkeys(("mkldnn_convolution", "_cdist_forward"), (0, 1)),
    **dict.fromkeys(("addmm", "addbmm", "baddbmm", "addmv", "addr", "_addmm_activation"), (1, 2)),
}
# They sum over the last dimension of the first operand alone.
_MATRICES = {"mm", "bmm", "mv", "dot", "addmm", "baddbmm", "addmv"}
# Words in the name of an operator that multiplies, for those that no table here describes.
_WORDS = {
    *("mm", "addmm", "bmm", "baddbmm", "matmul", "linear", "attention", "encoder", "conv"),
    *("conv1d", "conv2d", "conv3d", "convolution", "rnn", "lstm", "gru", "cdist", "trilinear"),
}
# These have such a word and multiply element by element only, or not at all.
_POINTWISE = {
    *("_thnn_fused_lstm_cell", "_thnn_fused_gru_cell", "_thnn_fused_lstm_cell_backward"),
    *("_thnn_fused_lstm_cell_backward_impl", "_thnn_fused_gru_cell_backward"),
    *("_cudnn_rnn_flatten_weight", "mkldnn_reorder_conv2d_weight"),
}
# Operators of other namespaces are seen from outside only.
_KNOWN_NAMESPACES = {"aten", "prims", "prim", "rung", "profiler", "c10d", "_c10d_functional"}


def _attention(args: Sequence[Any]) -> list[Pair]:
    query, key, value = args[:3]
    return [Pair(query, key), Pair(None, value)]


def _attention_backward(args: Sequence[Any]) -> list[Pair]:
    grad, query, key, value = args[:4]
    pairs = [(grad, value), (None, grad), (None, key), (None, query)]
    return [Pair(a, b, phase="input gradient") for a, b in pairs]


def _convolution_backward(args: Sequence[Any]) -> list[Pair]:
    grad, x, weight = args[:3]
    pairs = [Pair(grad, weight, 0, "input gradient"), Pair(grad, x, 1, "weight gradient")]
    return [pair for pair, wanted in zip(pairs, args[-1], strict=False) if wanted]


def _trilinear(args: Sequence[Any]) -> list[Pair]:
    return [Pair(args[0], args[1]), Pair(args[2], args[1])]


def _lookup(args: Sequence[Any]) -> list[Pair]:
    return [Pair(args[1], args[0], kind="lookup")]


def _lookup_backward(args: Sequence[Any]) -> list[Pair]:
    return [Pair(args[1], args[0], phase="weight gradient", kind="lookup")]


_READERS: dict[str, Reader] = {
    "convolution_backward": _convolution_backward,
    "_trilinear": _trilinear,
    **dict.fromkeys(("embedding", "_embedding_bag", "_embedding_bag_forward_only"), _lookup),
    **dict.fromkeys(("embedding_dense_backward", "embedding_sparse_backward"), _lookup_backward),
    **dict.fromkeys(("_embedding_bag_dense_backward",), _lookup_backward),
}


def pairs_of(namespace: str, name: str, args: Sequence[Any]) -> list[Pair]:
    """The products inside one call of an operator; empty for one that does not multiply.

    Args:
        namespace: ``"aten"`` for torch's own.
        name: The operator without its overload, as ``"addmm"``.
        args: All of its arguments, in the order of its schema.
    """
    name = name.removesuffix("_")  # in place
    if namespace == "aten" and name in _POSITIONS:
        a, b = (args[position] for position in _POSITIONS[name])
        return [Pair(a, b, is_outer=name in _MATRICES and a.shape[-1] == 1)]
    if namespace == "aten" and name in _READERS:
        return _READERS[name](args)
    if namespace == "aten" and name.startswith("_scaled_dot_product"):
        return _attention_backward(args) if name.endswith("_backward") else _attention(args)
    multiplies = not _WORDS.isdisjoint(name.split("_")) and name not in _POINTWISE
    if namespace in _KNOWN_NAMESPACES and not multiplies:
        return []
    floats = [x for x in tree_leaves(args) if isinstance(x, Tensor) and x.is_floating_point()]
    return [Pair(floats[0], other, kind="unseen") for other in floats[1:]]


# The first argument's values in another place, order or number, or with zeros among them.
_MOVES = {
    *("clone", "_to_copy", "contiguous", "lift_fresh", "lift_fresh_copy", "detach", "alias"),
    *("index", "_unsafe_index", "index_select", "gather", "take", "masked_select", "embedding"),
    *("flip", "roll", "repeat", "repeat_interleave", "im2col", "tril", "triu", "neg", "abs"),
    *("slice_backward", "select_backward", "diagonal_backward", "max_pool2d_with_indices"),
    *("reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d"),
    *("pixel_shuffle", "pixel_unshuffle", "native_channel_shuffle", "channel_shuffle"),
}
# Two sources of values: what is written to, and what is written.
_MERGES = {
    **dict.fromkeys(("slice_scatter", "select_scatter", "diagonal_scatter"), (0, 1)),
    **dict.fromkeys(("scatter", "scatter_", "index_copy", "index_copy_"), (0, 3)),
    **dict.fromkeys(("index_put", "index_put_", "_unsafe_index_put"), (0, 2)),
    "where": (1, 2),
}
# Sums whose result is still the result of the products that went in.
SUMS = {"sum", "add", "add_", "mul", "div"}
# Not ``empty``: kernels outside of torch write to it unseen.
BLANKS = {"zeros", "zeros_like", "new_zeros", "zero_"}


def sources_of(name: str, args: Sequence[Any]) -> list[Any]:
    """The tensors all of whose values an operator's result consists of (and zeros); or none."""
    if name in ("cat", "stack"):
        return list(args[0])
    if name == "copy_":
        covers = args[0].numel() * args[0].element_size() == args[0].untyped_storage().nbytes()
        return [args[1]] if covers else [args[0], args[1]]
    if name.startswith("index_put") and args[3]:
        return []  # it adds
    if name in _MERGES:
        return [args[position] for position in _MERGES[name]]
    is_zero = name in ("constant_pad_nd", "masked_fill", "masked_fill_") and _is_zero(args[2:])
    return [args[0]] if is_zero or name in _MOVES or name.endswith("_copy") else []


def _is_zero(rest: Sequence[Any]) -> bool:
    value = rest[0] if rest else 0
    return not isinstance(value, Tensor) and math.isclose(float(value), 0.0)

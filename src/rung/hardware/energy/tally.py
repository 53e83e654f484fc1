"""Sizes of the products that a watch lists, while both are active."""

import bisect
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rung.hardware.energy.counts import Elements, Work
from rung.hardware.energy.macs import multiply_accumulates
from rung.nn.operators import Pair, pairs_of
from rung.nn.storages import storage_of
from rung.nn.watch import Product, Watch


class Tally(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A dispatch mode around a `Watch`: the watch says what an operator is, this how large.

    Args:
        watch: Active before this mode.
        parameters: Weights.
        batch: Tensors that are data.
    """

    supports_higher_order_operators = True

    def __init__(self, watch: Watch, parameters: Iterable[Tensor], batch: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.works: list[Work] = []
        self.uncounted: list[str] = []
        self._watch = watch
        # The references keep addresses from a second life while the pass goes on.
        self._weights = _references(parameters)
        self._activations = _references(batch)
        # First autograd node of a stretch -> numbers in the scores of the attention that it is of.
        self._begins: list[int] = [-1]
        self._scores: list[int] = [0]

    def begin_attention(self, scores: int) -> None:
        """What follows multiplies with so many scores, until a call with 0."""
        self._begins.append(_next_node())
        self._scores.append(scores)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        node = None if torch.is_grad_enabled() else torch._C._current_autograd_node()
        listed = len(self._watch.products)
        output = func(*args, **(kwargs or {}))
        products = self._watch.products[listed:]
        results = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        if node is None:
            self._activations |= _references(results)
        if products:
            self._size(products, func, _in_order(func, args, kwargs or {}), output, node)
        return output

    def _size(
        self, products: Sequence[Product], func: Any, args: Sequence[Any], output: Any, node: Any
    ) -> None:
        namespace, name = _full_name(func)
        outputs = list(output) if isinstance(output, tuple | list) else [output]
        pairs = [
            (pair, outputs[pair.result])
            for pair in pairs_of(namespace, name, args)
            if pair.result < len(outputs) and isinstance(outputs[pair.result], Tensor)
        ]
        # The watch leaves out products of integers, which are exact.
        pairs = [(pair, result) for pair, result in pairs if not _is_integer(result)]
        for product, (pair, result) in zip(products, pairs, strict=True):
            macs = 0 if product.kind == "lookup" else multiply_accumulates(name, args, result)
            if namespace != "aten" or macs is None:
                where = product.module or "(model)"
                self.uncounted.append(f"{namespace}::{name} in {where}, {product.phase}")
                continue
            moved = self._moved(product, pair, result, node)
            self.works.append(
                Work(product.module, product.phase, product.operator, macs, result.numel(), moved)
            )

    def _moved(self, product: Product, pair: Pair, result: Tensor, node: Any) -> Elements:
        if product.kind == "lookup":
            return self._looked_up(product, result, pair)
        tensors = [x for x in (pair.a, pair.b, result) if x is not None]
        scores = self._scores_of(node)
        # Ties are between tensors of equal size, so either will do.
        inside = next((x for x in tensors if scores and x.numel() == scores), None)
        sizes = dict.fromkeys(("weights", "activations", "gradients"), 0)
        for tensor in tensors:
            if tensor is not inside:
                sizes[self._role(tensor)] += tensor.numel()
        return Elements(**sizes)

    def _looked_up(self, product: Product, result: Tensor, pair: Pair) -> Elements:
        if product.phase == "forward":
            return Elements(weights=result.numel(), activations=result.numel())
        gradient = pair.b if pair.b is not None and pair.b.is_floating_point() else pair.a
        # Only the rows that were looked up have a gradient; the table's zeros needn't be written.
        return Elements(gradients=0 if gradient is None else 2 * gradient.numel())

    def _role(self, tensor: Tensor) -> str:
        storage = storage_of(tensor)
        if storage is None:
            return "activations"
        if storage.cdata in self._weights:
            return "weights"
        return "activations" if storage.cdata in self._activations else "gradients"

    def _scores_of(self, node: Any) -> int:
        if node is None:
            return self._scores[-1]
        return self._scores[bisect.bisect_right(self._begins, node._sequence_nr()) - 1]


class FusedAttention(TorchFunctionMode):
    """Tells a tally where `scaled_dot_product_attention` begins and ends.

    Args:
        tally: Is told.
    """

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self._tally = tally

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **kwargs)
        query = args[0] if args else kwargs["query"]
        key = args[1] if len(args) > 1 else kwargs["key"]
        self._tally.begin_attention(query.numel() // query.shape[-1] * key.shape[-2])
        try:
            return func(*args, **kwargs)
        finally:
            self._tally.begin_attention(0)


def _references(tensors: Iterable[Tensor]) -> dict[int, StorageWeakRef]:
    found = (storage_of(tensor) for tensor in tensors)
    return {storage.cdata: storage for storage in found if storage is not None}


def _next_node() -> int:
    """The number that autograd will give to the next node of this thread."""
    return int(torch._C._autograd._get_sequence_nr())


def _is_integer(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex())


def _full_name(func: Any) -> tuple[str, str]:
    if not isinstance(func, torch._ops.OpOverload):
        return "higher_order", str(func)
    return func.namespace, func._opname


def _in_order(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
    schema = getattr(func, "_schema", None)
    if schema is None:
        return [*args, *kwargs.values()]
    return [*args, *(kwargs.get(argument.name) for argument in schema.arguments[len(args) :])]

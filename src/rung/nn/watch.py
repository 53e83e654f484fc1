"""What an audit sees: every operator below autograd, and the products among them."""

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle

from rung.formats import name_of
from rung.nn import trace
from rung.nn.operators import Pair, pairs_of
from rung.nn.restore import Originals
from rung.nn.storages import Storages
from rung.tensor import CodedTensor


@dataclass(frozen=True)
class Product:
    """One matrix product (or lookup) of one forward and backward pass.

    Attributes:
        module: Name of the innermost module that computed it, ``""`` for the model itself.
        phase: ``"forward"``, ``"input gradient"`` or ``"weight gradient"``.
        operator: torch's operator, as ``"aten::addmm"``.
        kind: ``"product"``; ``"lookup"`` for rows of a table (embedding); ``"unseen"`` for two
            operands of an operator that can't be looked into, which counts as a product;
            ``"outer"`` for a forward product of activations that sums nothing and may be float.
        shapes: Of the two operands; None for one that stays inside a fused operator.
        result_shape: Of the result.
        formats: Of the two operands: a format's name, or a dtype where there is none.
        result_format: Of a weight's gradient after Q_G, or its dtype; None in other phases.
        in_float: Whether an operand is floating point and in no format; not of an outer product.
    """

    module: str
    phase: str
    operator: str
    kind: str
    shapes: tuple[tuple[int, ...] | None, tuple[int, ...] | None]
    result_shape: tuple[int, ...]
    formats: tuple[str, str]
    result_format: str | None
    in_float: bool


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A dispatch mode that lists products while it is active, in the order of computation.

    Args:
        model: Names modules, and tells parameters from other tensors.
        batch: Tensors that are data.
        originals: Is told of every operator before it writes.
    """

    supports_higher_order_operators = True

    def __init__(self, model: nn.Module, batch: Iterable[Tensor], originals: Originals) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._originals = originals
        self.products: list[Product] = []
        self._names = {module: _plain(name) for name, module in model.named_modules()}
        self._stack = [""]
        self._storages = Storages()
        # Autograd numbers its nodes: a backward operator finds its module and its forward
        # operands by the number that was current when they were computed.
        self._numbers: list[int] = []
        self._modules: list[str] = []
        self._origins: dict[int, list[tuple[str, str]]] = {}
        for tensor in batch:
            self._storages.of(tensor).origin = "data"
        for parameter in model.parameters():
            self._storages.of(parameter).origin = "weight"
            if isinstance(parameter, CodedTensor):
                for part in parameter.to_parts().values():
                    self._storages.of(part).origin = "weight"

    def __enter__(self) -> "Watch":
        module = nn.modules.module
        self._hooks: list[RemovableHandle] = [
            module.register_module_forward_pre_hook(self._enter_module),
            module.register_module_forward_hook(self._leave_module, always_call=True),
        ]
        trace.listen(self)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        trace.unlisten(self)
        for hook in self._hooks:
            hook.remove()

    def mark(self, tensor: Tensor, quantizer: trace.Quantizer, source: Tensor) -> None:
        """The tensor's storage holds the source's values in the quantizer's format."""
        note = self._storages.of(tensor)
        note.format, note.blank = name_of(quantizer.format), False
        # Fast kernels write past torch, which then sees new memory instead of a rounded weight.
        note.origin = self._storages.of(source).origin

    def mark_result(self, grad: Tensor, quantizer: trace.Quantizer) -> None:
        """The product that made this gradient has it rounded by the quantizer."""
        for index in self._storages.of(grad).products:
            if self.products[index].phase == "weight gradient":
                rounded = replace(self.products[index], result_format=name_of(quantizer.format))
                self.products[index] = rounded

    def mark_lookup(self, indices: Tensor, table: Tensor, rows: Tensor) -> None:
        """These rows of a table were looked up, and only they were rounded."""
        self._storages.of(rows).origin = "data"
        fmt, in_float = self._format_of(rows)
        self.products.append(
            Product(
                module=self._stack[-1],
                phase="forward",
                operator="rung::embedding",
                kind="lookup",
                shapes=(_shape(indices), _shape(table)),
                result_shape=_shape(rows) or (),
                formats=(_dtype_name(indices), fmt),
                result_format=None,
                in_float=in_float,
            )
        )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # A forward pass that is computed again in the backward pass has gradients on.
        node = None if torch.is_grad_enabled() else torch._C._current_autograd_node()
        if node is None:
            self._remember_place()
        namespace, name = _full_name(func)
        ordered = _in_order(func, args, kwargs or {})
        self._originals.keep_from(func, ordered)
        # Before the call, which may write to its operands.
        pairs = pairs_of(namespace, name, ordered)
        drafts = [self._draft(pair, f"{namespace}::{name}", node) for pair in pairs]
        origins = [self._origins_of(pair) for pair in pairs]
        output = func(*args, **(kwargs or {}))
        self._storages.follow(func, name, ordered, output)
        results = list(output) if isinstance(output, tuple | list) else [output]
        for pair, draft, two in zip(pairs, drafts, origins, strict=True):
            result = results[pair.result] if pair.result < len(results) else None
            if isinstance(result, Tensor) and _is_inexact(result):  # integers are exact
                self._list(draft, result, "weight" if two == ("weight", "weight") else "data")
        return output

    # -- where an operator belongs -----------------------------------------------------------

    def _enter_module(self, module: nn.Module, inputs: Any) -> None:
        self._stack.append(self._names.get(module, self._stack[-1]))

    def _leave_module(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._stack.pop()

    def _remember_place(self) -> None:
        number = _node_number()
        if not self._numbers or number > self._numbers[-1]:
            self._numbers.append(number)
            self._modules.append(self._stack[-1])

    def _module_of(self, node: Any) -> str:
        if node is None:
            return self._stack[-1]
        place = bisect.bisect_right(self._numbers, node._sequence_nr()) - 1
        return self._modules[place] if place >= 0 else ""

    def _phase_of(self, pair: Pair, node: Any) -> str:
        origins = self._origins_of(pair)
        if node is None:
            self._origins.setdefault(_node_number(), []).append(origins)
            return "forward"
        if pair.phase is not None:
            return pair.phase
        # What is multiplied by a weight is the gradient of an input, else that of the weight.
        forward = self._origins.get(node._sequence_nr(), [])
        both = ("weight", "weight") in forward
        of_weight = both or (any("weight" in pair for pair in forward) and "weight" not in origins)
        return "weight gradient" if of_weight else "input gradient"

    # -- one product -------------------------------------------------------------------------

    def _draft(self, pair: Pair, operator: str, node: Any) -> Product:
        (a, a_float), (b, b_float) = self._format_of(pair.a), self._format_of(pair.b)
        is_outer = node is None and pair.is_outer and "weight" not in self._origins_of(pair)
        return Product(
            module=self._module_of(node),
            phase=self._phase_of(pair, node),
            operator=operator,
            kind="outer" if is_outer else pair.kind,
            shapes=(_shape(pair.a), _shape(pair.b)),
            result_shape=(),
            formats=(a, b),
            result_format=None,
            in_float=(a_float or b_float) and not is_outer,
        )

    def _list(self, draft: Product, result: Tensor, origin: str) -> None:
        note = self._storages.of(result)
        note.origin = origin
        note.products.add(len(self.products))
        of_weight = draft.phase == "weight gradient"
        result_format = _dtype_name(result) if of_weight else None
        shape = _shape(result) or ()
        self.products.append(replace(draft, result_shape=shape, result_format=result_format))

    def _origins_of(self, pair: Pair) -> tuple[str, str]:
        a, b = ("data" if x is None else self._storages.of(x).origin for x in (pair.a, pair.b))
        return a, b

    def _format_of(self, operand: Tensor | None) -> tuple[str, bool]:
        """The name of an operand's numbers, and whether they are floats in no format."""
        if operand is None:
            return "float inside", True
        dtype = _dtype_name(operand)
        if not _is_inexact(operand):
            return dtype, False
        fmt = self._storages.of(operand).format
        if fmt is None:
            return dtype, True
        return (fmt if dtype in ("float32", "float64") else f"{fmt} in {dtype}"), False


def _plain(name: str) -> str:
    """A module's name without the wrappers that torch.compile puts around modules."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def _node_number() -> int:
    """The number of the autograd node that was made last in this thread."""
    return int(torch._C._autograd._get_sequence_nr()) - 1


def _full_name(func: Any) -> tuple[str, str]:
    if not isinstance(func, torch._ops.OpOverload):
        return "higher_order", str(func)
    return func.namespace, func._opname


def _in_order(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
    schema = getattr(func, "_schema", None)
    if schema is None:
        return [*args, *kwargs.values()]
    return [*args, *(kwargs.get(argument.name) for argument in schema.arguments[len(args) :])]


def _shape(tensor: Tensor | None) -> tuple[int, ...] | None:
    if tensor is None or tensor.is_nested:
        return None
    return tuple(tensor.shape)


def _is_inexact(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")

"""Converted modules: the module's own class, with another way to compute its products."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from rung.nn import functional as quantized
from rung.nn.mode import computing_with
from rung.nn.quantizer import Quantizers
from rung.nn.recurrent import FORWARDS

Table = Mapping[str, Quantizers]


# Converted classes by their originals: two modules of a class stay two modules of a class.
_CLASSES: dict[Any, Any] = {}


class QuantizedModule:
    """What every module that `convert_` converted is, besides what it was.

    Parameters, buffers, hooks, names in ``state_dict()`` and ``isinstance`` stay. Deep copies and
    pickles of a converted model are converted.

    Attributes:
        rung_quantizers: The four quantizers of each kind of product.
    """

    rung_quantizers: Table

    def _get_name(self) -> str:
        return f"Quantized{type(self).__name__}"

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The class was made at run time: pickle finds the original and makes it again.
        reduced: Any = super().__reduce_ex__(protocol)
        function, arguments, *rest = reduced
        own = type(self)
        arguments = tuple(original_class(own) if a is own else a for a in arguments)
        return remake, (function, arguments), *rest


def original_class(converted: type) -> type:
    """The class that a converted module had."""
    return next(base for base in converted.__mro__[1:] if not issubclass(base, QuantizedModule))


def remake(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Unpickle a converted module: its original, then its class."""
    module = function(*arguments)
    if not isinstance(module, QuantizedModule):
        module.__class__ = quantized_class(type(module))
    return module


def quantized_class(original: Any) -> Any:
    """The class of converted modules of a class; its name and signature are the original's."""
    if original in _CLASSES:
        return _CLASSES[original]
    forward = _direct_forward(original)
    if forward is None:

        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            with computing_with(self.rung_quantizers, self):
                return original.forward(self, *args, **kwargs)

    body = {
        "forward": functools.wraps(original.forward)(forward),
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
        "__doc__": original.__doc__,
    }
    bases = (QuantizedModule, original, *_below(original))
    converted = type(original)(original.__name__, bases, body)
    return _CLASSES.setdefault(original, converted)


def _direct_forward(original: type[nn.Module]) -> Callable[..., Any] | None:
    """Single layers call their function: no interception, and less to trace for a compiler."""
    for known, forward in _DIRECT.items():
        if original.forward is known.forward:
            own_hook = getattr(original, "_conv_forward", None)
            if own_hook is getattr(known, "_conv_forward", None):
                return forward
    for known, forward in FORWARDS.items():
        if original.forward is known.forward:
            return _recurrent(known, forward)
    return None


def _below(original: type[nn.Module]) -> tuple[type[nn.Module], ...]:
    """What ``super().forward`` of a class finds in place of a recurrent layer of torch.

    Torch computes these layers in one fused operator, which can't be intercepted.
    """
    for known, forward in FORWARDS.items():
        if issubclass(original, known) and original is not known:
            if known not in _BELOW:
                body = {"forward": _recurrent(known, forward), "__module__": known.__module__}
                _BELOW[known] = type(known.__name__, (known,), body)
            return (_BELOW[known],)
    return ()


_BELOW: dict[type[nn.Module], type[nn.Module]] = {}


def _recurrent(known: type[nn.Module], function: Callable[..., Any]) -> Callable[..., Any]:
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        quantizers = self.rung_quantizers["recurrent"]
        if quantizers.empty:
            return known.forward(self, *args, **kwargs)
        return function(self, quantizers, *args, **kwargs)

    return forward


def _linear(self: Any, input: Tensor) -> Tensor:
    quantizers = self.rung_quantizers["linear"]
    return quantized.linear(input, self.weight, self.bias, quantizers=quantizers)


def _embedding(self: Any, input: Tensor) -> Tensor:
    return quantized.embedding(
        input,
        self.weight,
        self.padding_idx,
        self.max_norm,
        self.norm_type,
        self.scale_grad_by_freq,
        self.sparse,
        quantizers=self.rung_quantizers["embedding"],
    )


def _convolution(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def forward(self: Any, input: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = 0
        quantizers = self.rung_quantizers["conv"]
        geometry = (self.stride, padding, self.dilation, self.groups)
        return function(input, self.weight, self.bias, *geometry, quantizers=quantizers)

    return forward


_DIRECT: dict[type[nn.Module], Callable[..., Any]] = {
    nn.Linear: _linear,
    nn.Embedding: _embedding,
    nn.Conv1d: _convolution(quantized.conv1d),
    nn.Conv2d: _convolution(quantized.conv2d),
    nn.Conv3d: _convolution(quantized.conv3d),
}

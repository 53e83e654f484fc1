"""Weights that live in codes: one tensor subclass that works as an `nn.Parameter`."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from rung.formats import name_of
from rung.formats.scaling import require_positive
from rung.kernels.philox import key_from_seed
from rung.tensor import _parts
from rung.tensor._parts import StoredFormat

_PARTS = ("codes", "scale", "signs", "key")


class CodedTensor(Tensor):
    """A floating-point tensor to the outside, integer codes inside.

    `shape`, `dtype` and `device` are those of the decoded weight; memory is that of the codes. Used
    in a layer it decodes for the forward pass, frees the floats, and decodes again for the backward
    pass; its gradient is dense. It is moved by `rung.optim.BBitMadam` (ladders), `LNSMadam` (LNS),
    `SignedMadam` (sinh ladders, pairs of ladders) or by ``copy_``; every other in-place operation
    is refused, because its result would be lost.

    Make one by `from_float`, or a whole model's by `rung.store_weights_`.

    Attributes:
        codes: uint8 (B <= 8) or int16, the weight's shape; an LNS's codes hold the sign in the top
            bit of B (`rung.kernels.lns`), a sinh ladder's are signed numbers above an offset, a
            pair of ladders' two of these in one.
        scale: W_max, the value of the largest magnitude's code; float32 (float64 for float64
            weights), 0-d or broadcastable to the codes.
        signs: A ladder's: uint8 of shape (ceil(n / 8),), one bit a weight; or empty, when every
            sign is regenerated from the key, 0 bit a weight (Bernstein et al. 2020, section 7).
            Always empty for an LNS, a `Sinh` and a `Pair`.
        key: 0-d int64; seeds this weight's random numbers (signs, stochastic rounding).
        format: The `Ladder`, the `Sinh`, the `Pair`, or the `LNS` (one without a zero).
    """

    codes: Tensor
    scale: Tensor
    signs: Tensor
    key: Tensor
    format: StoredFormat

    @staticmethod
    def __new__(
        cls, parts: Mapping[str, Tensor], fmt: StoredFormat, dtype: torch.dtype
    ) -> "CodedTensor":
        """Wrap parts that fit together, without a check."""
        codes = parts["codes"]
        return torch.Tensor._make_wrapper_subclass(
            cls, codes.shape, dtype=dtype, device=codes.device
        )

    def __init__(self, parts: Mapping[str, Tensor], fmt: StoredFormat, dtype: torch.dtype) -> None:
        self.codes, self.scale, self.signs, self.key = (parts[name] for name in _PARTS)
        self.format = fmt

    # -- making and reading ------------------------------------------------------------------

    @classmethod
    def from_float(
        cls,
        weight: Tensor,
        fmt: StoredFormat | str,
        scale: Tensor | float,
        signs: str = "packed",
        seed: int = 0,
        name: str = "",
    ) -> "CodedTensor":
        """Round a weight to the values of a format nearest to it.

        Args:
            weight: Real floating-point tensor, finite.
            fmt: A `Ladder`, an `LNS` without a zero, a `Sinh`, a `Pair`, or a name.
            scale: W_max > 0, broadcastable to the weight; larger magnitudes saturate.
            signs: ``"packed"`` keeps the weight's signs: at one bit each, or in an LNS's codes.
                ``"seed"``, for ladders only, draws new ones from (seed, name), which is right for
                fresh weights and wrong for trained ones.
            seed: Seed of the weight's random numbers: seeded signs, stochastic rounding.
            name: The parameter's name, so that parameters of one seed draw apart.

        Raises:
            ValueError: NaN or infinity in the weight; a scale that is not positive; an LNS with a
                zero; unknown `signs`, or seeded ones for codes that hold the sign.
            TypeError: The weight is not a real floating-point tensor.
        """
        fmt = _parts.storable(fmt)
        signs = _parts.resolve_signs(fmt, signs)
        wide = torch.float64 if weight.dtype == torch.float64 else torch.float32
        require_positive(torch.as_tensor(scale, dtype=wide))
        weight = weight.detach()
        parts = _parts.encode_parts(fmt, weight, scale, signs)
        parts["key"] = torch.tensor(key_from_seed(seed, name), device=weight.device)
        return cls(parts, fmt, weight.dtype)

    def decode(self) -> Tensor:
        """The weight as a plain tensor of this shape, dtype and device."""
        values = _parts.decode_parts(self.format, self.codes, self.scale, self.signs, self.key)
        return values.to(self.dtype)

    def sign_slice(self, start: int, count: int, dtype: torch.dtype) -> Tensor:
        """Signs (+1 or -1) of `count` weights from flat index `start`; shape (count,)."""
        return _parts.sign_slice(self.format, self.codes, self.signs, self.key, start, count, dtype)

    @property
    def seeded(self) -> bool:
        """Whether the signs come from the key rather than from stored bits."""
        return _parts.is_seeded(self.format, self.codes, self.signs)

    @property
    def stored_bytes(self) -> int:
        """Bytes of codes, scale, signs and key together."""
        return sum(part.numel() * part.element_size() for part in self.to_parts().values())

    def to_parts(self) -> dict[str, Tensor]:
        """The plain tensors that hold everything: ``codes``, ``scale``, ``signs``, ``key``."""
        return {name: getattr(self, name) for name in _PARTS}

    def meta(self) -> dict[str, Any]:
        """What `from_parts` needs besides the parts, as JSON values."""
        return {
            **_parts.format_meta(self.format),
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    @classmethod
    def from_parts(cls, parts: Mapping[str, Tensor], meta: Mapping[str, Any]) -> "CodedTensor":
        """The inverse of `to_parts` and `meta`.

        Raises:
            ValueError: A part or a meta value is missing, the format is of an unknown kind, or
                codes don't fit it.
        """
        missing = [name for name in _PARTS if name not in parts]
        missing += [name for name in (*_parts.meta_fields(meta), "dtype") if name not in meta]
        if missing:
            raise ValueError(
                f"A coded tensor needs {', '.join(missing)}; got parts {', '.join(parts)} and "
                f"meta {', '.join(meta)}. Take both from `to_parts()` and `meta()`."
            )
        fmt = _parts.format_from_meta(meta)
        _parts.require_fit(fmt, parts["codes"], parts["scale"], parts["signs"])
        # Optimizers and kernels address codes by their flat index.
        parts = {**parts, "codes": parts["codes"].contiguous()}
        return cls(parts, fmt, getattr(torch, meta["dtype"]))

    def with_parts(self, change: Callable[[Tensor], Tensor], dtype: torch.dtype) -> "CodedTensor":
        """A new tensor of changed parts (moved, cloned) and another outer dtype."""
        parts = {name: change(part) for name, part in self.to_parts().items()}
        return CodedTensor(parts, self.format, dtype)

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        signs = _parts.describe_signs(self.format, self.codes, self.signs)
        return (
            f"CodedTensor({name_of(self.format)}, shape={tuple(self.shape)}, dtype={self.dtype}, "
            f"device={self.device}, signs={signs}, stored_bytes={self.stored_bytes})"
        )

    # -- the protocols that PyTorch asks for -------------------------------------------------

    def share_memory_(self) -> "CodedTensor":
        """Move the parts to shared memory, for other processes."""
        for part in self.to_parts().values():
            part.share_memory_()  # type: ignore[no-untyped-call]
        return self

    def is_shared(self) -> bool:
        """Whether the parts are in shared memory."""
        return all(
            part.is_shared()  # type: ignore[no-untyped-call]
            for part in self.to_parts().values()
        )

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            "A weight that lives in codes has no float memory to share by DLPack; got a "
            "CodedTensor. Share `weight.decode()` or the parts of `weight.to_parts()`."
        )

    def __tensor_flatten__(self) -> tuple[list[str], tuple[StoredFormat, torch.dtype]]:
        return list(_PARTS), (self.format, self.dtype)

    @staticmethod
    def __tensor_unflatten__(
        inner: dict[str, Tensor],
        context: tuple[StoredFormat, torch.dtype],
        outer_size: torch.Size,
        outer_stride: tuple[int, ...],
    ) -> "CodedTensor":
        return CodedTensor(inner, *context)

    def _stable_hash_for_caching(self) -> str:
        """What torch.compile's caches may tell coded tensors apart by."""
        return repr((self.format, self.dtype, tuple(self.shape), self.seeded))

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        parts = {name: part.detach() for name, part in self.to_parts().items()}
        return _rebuild, (parts, self.meta(), self.requires_grad, getattr(self, "_is_param", False))

    def __deepcopy__(self, memo: dict[int, Any]) -> "CodedTensor":
        if id(self) in memo:
            return memo[id(self)]  # type: ignore[no-any-return]
        parts = {name: part.clone() for name, part in self.to_parts().items()}
        is_parameter = getattr(self, "_is_param", False)
        copied: CodedTensor = _rebuild(parts, self.meta(), self.requires_grad, is_parameter)
        if self.grad is not None:
            copied.grad = self.grad.clone()
        memo[id(self)] = copied
        return copied

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        from rung.tensor.assign import assign_
        from rung.tensor.compute import computes, decode_and_call

        kwargs = kwargs or {}
        if func == _SET_DATA and isinstance(args[0], CodedTensor):
            return assign_(*args)
        if func is Tensor.__setitem__ and isinstance(args[0], CodedTensor):
            raise lost_write("weight[...] = values")
        if computes(func):
            return decode_and_call(func, args, kwargs)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's stub omits the class and the operator
        cls,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        from rung.tensor.dispatch import dispatch

        return dispatch(func, args, kwargs or {})


# What ``weight.data = values`` calls.
_SET_DATA = Tensor.data.__set__  # type: ignore[attr-defined]


def lost_write(operation: str) -> RuntimeError:
    """The error of every in-place operation whose result codes can't keep."""
    return RuntimeError(
        f"{operation} would write floats into a weight that lives in codes, and the result would "
        "be lost. Move it with rung.optim.BBitMadam (a ladder), LNSMadam (an LNS) or SignedMadam "
        "(a sinh ladder, a pair of ladders), or assign to it with `weight.copy_(values)`."
    )


def _rebuild(
    parts: dict[str, Tensor], meta: dict[str, Any], requires_grad: bool, is_parameter: bool
) -> Any:
    """Unpickling and deep copies; registered for ``torch.load(weights_only=True)``."""
    tensor = CodedTensor.from_parts(parts, meta)
    if is_parameter:
        return torch.nn.Parameter(tensor, requires_grad)
    return tensor.requires_grad_(requires_grad)


torch.serialization.add_safe_globals([_rebuild])


def stored_bytes(tensor: Tensor) -> int:
    """Bytes that a tensor's elements really take: all parts of a `CodedTensor` and the like."""
    if isinstance(tensor, CodedTensor):
        return tensor.stored_bytes
    if hasattr(tensor, "__tensor_flatten__"):  # another library's: it says what it consists of
        names, _ = tensor.__tensor_flatten__()
        return sum(stored_bytes(getattr(tensor, name)) for name in names)
    return tensor.numel() * tensor.element_size()

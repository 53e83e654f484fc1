"""Reading pickles of NumPy arrays and plain values without running anything that they name.

Arrays and their types are built by stand-ins below, never by NumPy's own pickle entry points:
those trust the sizes and flags that a pickle states.
"""

import io
import math
import pickle
from typing import Any

import numpy as np
import numpy.typing as npt


class _Dtype:
    """Stand-in for ``numpy.dtype``: integer, float or bool of a known width, nothing else."""

    _KINDS = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})

    def __init__(self, code: str | bytes, align: object = False, copy: object = True) -> None:
        self.code = _as_text(code)
        if self.code not in self._KINDS:
            raise pickle.UnpicklingError(f"an array of type {self.code!r}")
        self.order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        # (version, byte order, ...): the rest describes structured types, which are refused above.
        order = _as_text(state[1])
        self.order = "=" if order == "|" else order

    def numpy(self) -> "np.dtype[Any]":
        return np.dtype(self.order + self.code)


class _Array:
    """Stand-in for an array under construction; ``value`` is the finished one."""

    value: npt.NDArray[Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, dtype, column_major, content = state
        self.value = _array(content, dtype, shape, "F" if column_major else "C").value


def _as_text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _array(content: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    flat = np.frombuffer(content, dtype=dtype.numpy())
    if flat.size != math.prod(shape):
        raise pickle.UnpicklingError(f"{flat.size} numbers for an array of shape {shape}")
    result = _Array()
    result.value = flat.reshape(shape, order="F" if _as_text(order) == "F" else "C")
    return result


def _reconstruct(*_arguments: object) -> _Array:
    return _Array()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    # Python 3 writes bytes this way in protocols 0 to 2, always as latin1.
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"text encoded as {encoding!r}")
    return text.encode("latin-1")


_ALLOWED: dict[tuple[str, str], object] = {
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _Dtype,
    # Only ever an argument of _reconstruct, so it needs no behaviour.
    ("numpy", "ndarray"): None,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _array,
    ("numpy._core.numeric", "_frombuffer"): _array,
}


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, and only NumPy arrays, text, numbers, lists and "
                "dictionaries are read"
            )
        return _ALLOWED[module, name]


def load_dictionary(content: bytes) -> dict[str, Any]:
    """Read a pickled dictionary of arrays and plain values, of Python 2 or 3.

    Args:
        content: The pickle.

    Returns:
        The dictionary; keys as text, arrays as read-only ``numpy.ndarray``, the text of Python 2
        as bytes.

    Raises:
        pickle.UnpicklingError: The content is no pickle, is cut short, holds anything but a
            dictionary, or names a class or function that is not needed for arrays.
    """
    try:
        loaded = _RestrictedUnpickler(io.BytesIO(content), encoding="bytes").load()
        if not isinstance(loaded, dict):
            raise pickle.UnpicklingError(f"a {type(loaded).__name__} instead of a dictionary")
        return {
            _as_text(key): value.value if isinstance(value, _Array) else value
            for key, value in loaded.items()
        }
    except pickle.UnpicklingError:
        raise
    # A damaged pickle makes the machine that reads it fail in any way that Python knows.
    except Exception as error:
        raise pickle.UnpicklingError(f"{type(error).__name__}: {error}") from error

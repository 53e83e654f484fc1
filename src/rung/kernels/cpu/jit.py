"""How the CPU's loops are compiled."""

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import numba
from numba.core.caching import FunctionCache
from numba.extending import intrinsic as _numba_intrinsic

from rung.kernels.cpu.lane_writer import Called, Helper

_OPTIONS: Any = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
# Nor a wrapper for Python, which takes longer to compile than most of these functions.
_INNER: Any = {**_OPTIONS, "no_cpython_wrapper": True}


class _Cache(FunctionCache):  # type: ignore[misc,unused-ignore]
    """numba's disk cache, for functions that call those of other files, and for closures.

    numba looks at the function's own file only. It tells closures apart by the functions in their
    cells, pickled with numbers that every process draws anew: none would ever be found again.
    """

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._cache_file._source_stamp = (self._cache_file._source_stamp, _stamp())
        self._names = _names(function)

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return sig, codegen.magic_tuple(), self._names


def _names(function: Any) -> Any:
    """A function's full name, and those of the functions in its cells; of a number its text."""
    python = function
    for attribute in ("py_func", "_defn", "function"):  # numba's functions, intrinsics and lanes
        python = getattr(function, attribute, python)
    if not isinstance(python, FunctionType):
        return repr(python)
    cells = [cell.cell_contents for cell in python.__closure__ or ()]
    return f"{python.__module__}.{python.__qualname__}", tuple(map(_names, cells))


def jit(function: Any) -> Any:
    """`numba.njit` with a disk cache where there is room for one, without the interpreter lock."""
    compiled = numba.njit(**_OPTIONS)(function)
    # RuntimeError: neither the package nor the user's cache folder can be written.
    with contextlib.suppress(RuntimeError):
        compiled._cache = _Cache(function)
    return compiled


@functools.cache
def _stamp() -> tuple[float, int]:
    """Of all files with loops and with the numbers in them: time of the last change, bytes."""
    folder = Path(__file__).parent
    files = [path.stat() for path in (*folder.glob("*.py"), *folder.parent.glob("*.py"))]
    return max(file.st_mtime for file in files), sum(file.st_size for file in files)


def lane(function: Any) -> Any:
    """A helper of `jit`'s functions, written into them: one step on vectors, without branches."""
    return Helper(function.__name__, lambda *kinds: function, function)


def called(function: Any) -> Any:
    """As `lane`, but a function of its own that is called: LLVM copies it nowhere."""
    return Called(function.__name__, lambda *kinds: function, function)


def overload(stub: Any) -> Callable[[Any], Any]:
    """As `lane`, for a helper whose code depends on its arguments' types."""

    def register(choose: Any) -> Any:
        Helper(stub.__name__, choose, stub, stub)
        return choose

    return register


def inner(function: Any) -> Any:
    """A function that only `jit`'s call, from which it is cached."""
    return numba.njit(**_INNER)(function)


def inlined(function: Any) -> Any:
    """As `lane`, for a helper with branches or loops of its own; takes longer to compile."""
    return numba.njit(forceinline=True, **_INNER)(function)


def intrinsic(function: Any) -> Any:
    """As `jit`: what numba's stubs say of a signature is not the caller's."""
    return _numba_intrinsic(function)

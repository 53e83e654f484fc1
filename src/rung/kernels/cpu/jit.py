"""How the CPU's loops are compiled."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.extending import intrinsic as _numba_intrinsic
from numba.extending import overload as _numba_overload

LANE = {"nogil": True, "error_model": "numpy", "forceinline": True}


def jit(function: Any) -> Any:
    """`numba.njit` with a disk cache where there is room for one, without the interpreter lock."""
    options: Any = {"nogil": True, "error_model": "numpy"}
    try:
        compiled = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package nor the user's cache folder can be written
        return numba.njit(cache=False, **options)(function)
    # numba looks at the function's own file only; what it calls is in others.
    index: Any = getattr(compiled._cache, "_cache_file", None)
    if hasattr(index, "_source_stamp"):
        index._source_stamp = (index._source_stamp, _stamp())
    return compiled


@functools.cache
def _stamp() -> tuple[float, int]:
    """Of all files with loops and with the numbers in them: time of the last change, bytes."""
    folder = Path(__file__).parent
    files = [path.stat() for path in (*folder.glob("*.py"), *folder.parent.glob("*.py"))]
    return max(file.st_mtime for file in files), sum(file.st_size for file in files)


def lane(function: Any) -> Any:
    """A helper of `jit`'s functions that LLVM copies to where it is called: one step on vectors."""
    return numba.njit(**LANE)(function)


def overload(stub: Any) -> Callable[[Any], Any]:
    """As `lane`, for a helper whose code depends on its arguments' types."""
    return _numba_overload(stub, jit_options=LANE)  # type: ignore[no-any-return,unused-ignore]


def intrinsic(function: Any) -> Any:
    """As `jit`: what numba's stubs say of a signature is not the caller's."""
    return _numba_intrinsic(function)

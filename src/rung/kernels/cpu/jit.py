"""How the CPU's loops are compiled."""

from typing import Any

import numba
from numba.extending import intrinsic as _numba_intrinsic


def jit(function: Any) -> Any:
    """`numba.njit` with a disk cache where there is room for one, without the interpreter lock."""
    options: Any = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package nor the user's cache folder can be written
        return numba.njit(cache=False, **options)(function)


def intrinsic(function: Any) -> Any:
    """As `jit`: what numba's stubs say of a signature is not the caller's."""
    return _numba_intrinsic(function)

"""Arrays of the loops without numba's own: those take a tenth of a second each to compile.

Neither counts references. Importing this imports numba.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from rung.kernels.cpu.jit import intrinsic
from rung.kernels.cpu.simd import LANES

_ALIGNMENT = 64  # bytes, a line of the cache


def _array(context: Any, builder: Any, kind: Any, data: Any, size: Any) -> Any:
    array = context.make_array(kind)(context, builder)
    bytes_of_item = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    item = context.get_constant(types.intp, bytes_of_item)
    one = types.UniTuple(types.intp, 1)
    array.data, array.itemsize, array.nitems = data, item, size
    array.shape = context.make_tuple(builder, one, (size,))
    array.strides = context.make_tuple(builder, one, (item,))
    array.meminfo = cgutils.get_null_value(array.meminfo.type)
    array.parent = cgutils.get_null_value(array.parent.type)
    return array._getvalue()


@intrinsic
def array_at(_context: Any, address: Any, like: Any, size: Any) -> Any:
    """`size` numbers of `like`'s type at an address."""
    result = types.Array(like, 1, "C")

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = context.get_data_type(like).as_pointer()
        data = builder.inttoptr(arguments[0], pointer)
        return _array(context, builder, result, data, arguments[2])

    return result(types.int64, like, types.intp), build


@intrinsic
def on_stack(_context: Any, like: Any) -> Any:
    """Sixteen numbers of `like`'s type that end with the function; not cleared."""
    result = types.Array(like, 1, "C")

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_data_type(like)
        place = cgutils.alloca_once(builder, ir.ArrayType(kind, LANES))
        place.align = _ALIGNMENT
        data = builder.bitcast(place, kind.as_pointer())
        return _array(context, builder, result, data, context.get_constant(types.intp, LANES))

    return result(like), build

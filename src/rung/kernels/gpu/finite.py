"""`finite` on a GPU: one launch for all gradients of a dtype."""

import torch
import triton.language as tl
from torch import Tensor

from rung.kernels import finite
from rung.kernels.gpu import lists
from rung.kernels.gpu.chunks import find, pointer
from rung.kernels.gpu.jit import EXACT, Value, jit, on

CHUNK = 4096
# Integers of a dtype's size, bytes, all bits but the sign, and the bits of the largest that is
# sound: 2^63, or the largest finite one of float16.
_KINDS = {
    torch.float32: (tl.int32, 4, 0x7FFFFFFF, 190 << 23),
    torch.bfloat16: (tl.int16, 2, 0x7FFF, 190 << 7),
    torch.float16: (tl.int16, 2, 0x7FFF, 0x7BFF),
    torch.float64: (tl.int64, 8, 2**63 - 1, 1086 << 52),
}


@jit
def _look(
    places: Value, owners: Value, sound: Value, DTYPE: tl.constexpr, SIZE: tl.constexpr,
    MAGNITUDE: tl.constexpr, LARGEST: tl.constexpr, EVEN: tl.constexpr, CHUNK: tl.constexpr,
) -> None:  # fmt: skip
    """Write 0 to `sound` if a magnitude is over the largest; NaN's bits are too."""
    _, at, first, left = find(places, owners, 3, EVEN, CHUNK)
    i = tl.arange(0, CHUNK)
    p = pointer(tl.load(at + 2), first, DTYPE, SIZE, EVEN)
    bits = tl.load(p + i, i < left, other=0) & MAGNITUDE
    # Whoever finds one writes the same.
    tl.store(sound, tl.zeros([], tl.int8), mask=tl.max(bits, 0) > LARGEST)


def all_finite(grads: list[Tensor]) -> Tensor:
    """`finite.reference`; gradients of several devices are left to it."""
    filled = [g for g in grads if g.numel()]
    device = filled[0].device
    known = all(g.dtype in _KINDS and g.device == device for g in filled)
    if not known:
        return finite.reference(filled)
    flat = [g if g.is_contiguous() else g.contiguous() for g in filled]
    sound = torch.ones((), dtype=torch.bool, device=device)
    kinds = [(g.dtype, lists.even(g)) for g in flat]
    with on(device):
        for (dtype, even), members in lists.by(kinds).items():
            some = [flat[i] for i in members]
            counts, addresses = [g.numel() for g in some], [(g.data_ptr(),) for g in some]
            table = lists.table_of(counts, addresses, device, CHUNK)
            _look[(table.chunks,)](
                table.places, table.owners, sound.view(torch.int8), *_KINDS[dtype], even, CHUNK,
                **EXACT,
            )  # fmt: skip
    return sound

import pytest
import torch

from rung.kernels.draws import encode_draws
from rung.kernels.group_scales import GIVEN, LARGEST, POWER_OF_TWO, READY
from rung.kernels.ladder_round import ladder_decode, ladder_round
from rung.kernels.lns_round import lns_decode, lns_round
from rung.kernels.mx_round import minifloat_cast, mx_decode, mx_encode, mx_quantize

LNS8, LNS16 = (8, 8, True, False), (16, 2048, False, False)
E3M2 = (6, 2, -2, 28.0, True, False, None, None, True)
FLOOR = (4, 1.0, False)
LAYOUTS = [(0, 0), (0, 1), (0, 4), (32, 0), (7, 0), (48, 4), (500, 0)]  # block, rows of scales


def rows_of(nonfinite=False):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(12, 100, generator=generator)
    rows[:, ::9] *= 1e-3
    rows[3, 5], rows[4, :50] = 0.0, 0.0
    if nonfinite:
        rows[7, 1], rows[8, 99] = float("nan"), float("-inf")
    return rows


def same(left, right):
    for one, other in zip(left, right, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("codes", [False, True])
@pytest.mark.parametrize(("block", "scale_rows"), LAYOUTS)
@pytest.mark.parametrize("source", [GIVEN, LARGEST, POWER_OF_TWO, READY])
def test_loops_and_reference_agree_on_groups_and_scales(
    source, block, scale_rows, codes, stochastic
):
    rows = rows_of(nonfinite=source != READY)
    draws = encode_draws(torch.tensor(3), 0, rows.numel()).reshape(rows.shape)
    draws = draws if stochastic else None
    given = None
    if source in (GIVEN, READY):
        _, shapes = lns_round(rows, None, LARGEST, None, *LNS8, block, scale_rows, False)
        given = torch.rand(shapes.shape, generator=torch.Generator().manual_seed(1)) + 0.5
    for numbers in (LNS8, LNS16):
        arguments = (rows, given, source, draws, *numbers, block, scale_rows, codes)
        same(lns_round(*arguments), lns_round.reference(*arguments))
    if source != POWER_OF_TWO:
        arguments = (rows, given, source, draws, 8, 0.04, block, scale_rows, codes)
        same(ladder_round(*arguments), ladder_round.reference(*arguments))


def test_operators_are_what_torch_expects_of_them():
    rows = rows_of()
    for block, scale_rows in LAYOUTS:
        for codes in (False, True):
            arguments = (rows, None, LARGEST, None, *LNS8, block, scale_rows, codes)
            torch.library.opcheck(torch.ops.rung.lns_round, arguments)
    codes, scales = lns_round(rows, None, LARGEST, None, *LNS8, 32, 0, True)
    torch.library.opcheck(torch.ops.rung.lns_decode, (codes, scales, 8, 8, True, 0, 32))
    signs = torch.zeros(150, dtype=torch.uint8)
    torch.library.opcheck(torch.ops.rung.ladder_decode, (codes, scales, signs, 8, 0.04, 32))
    torch.library.opcheck(
        torch.ops.rung.ladder_round, (rows, scales, READY, None, 8, 0.04, 32, 0, True)
    )
    torch.library.opcheck(torch.ops.rung.mx_quantize, (rows, None, 32, 3e38, *FLOOR, *E3M2))
    arguments = (rows, None, 32, *FLOOR, *E3M2)
    torch.library.opcheck(torch.ops.rung.mx_encode, arguments)
    codes, scales = mx_encode(*arguments)
    torch.library.opcheck(torch.ops.rung.mx_decode, (codes, scales, 32, False, *E3M2))
    scale = torch.ones(12, 1)
    torch.library.opcheck(torch.ops.rung.minifloat_cast, (rows, scale, None, True, 3e38, *E3M2))
    for operation in (lns_decode, ladder_decode, mx_quantize, mx_decode, minifloat_cast):
        assert operation.choose("cpu").implementation == "numba"

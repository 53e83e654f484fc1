"""The CPU's loops of sinh ladders against their reference."""

import pytest
import torch

from rung.kernels.draws import encode_draws
from rung.kernels.group_scales import GIVEN, LARGEST, POWER_OF_TWO, READY, scales_shape
from rung.kernels.sinh import FINEST, end_table, sinh_decode, sinh_round
from rung.kernels.sinh_tables import spacing

LAYOUTS = [(0, 0), (0, 1), (0, 4), (32, 0), (7, 0), (48, 4), (500, 0)]  # block, rows of scales
KINDS = [(8, 0.03), (2, 0.5), (4, 1e-9), (16, 0.03), (9, 30.0)]


def rows_of(nonfinite=False, shape=(12, 100)):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(shape, generator=generator) * torch.exp(
        3 * torch.randn(shape, generator=generator)
    )
    rows[3, 5], rows[4, :50], rows[5, 3::7] = 0.0, -0.0, 1e-42
    if nonfinite:
        rows[7, 1], rows[8, 99] = float("nan"), float("-inf")
    return rows


def same(left, right):
    for one, other in zip(left, right, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
        if one.is_floating_point():
            assert torch.equal(one.signbit()[~one.isnan()], other.signbit()[~other.isnan()])


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("codes", [False, True])
@pytest.mark.parametrize(("block", "scale_rows"), LAYOUTS)
@pytest.mark.parametrize("source", [GIVEN, LARGEST, POWER_OF_TWO, READY])
def test_loops_and_reference_agree(source, block, scale_rows, codes, stochastic):
    rows = rows_of(nonfinite=source != READY)
    draws = encode_draws(torch.tensor(3), 0, rows.numel()).reshape(rows.shape)
    given = None
    if source in (GIVEN, READY):
        shape = scales_shape(rows, block, scale_rows)
        given = 9 * torch.rand(shape, generator=torch.Generator().manual_seed(1))
        given[-1, -1] = 0.0
        given[0, 0] = 3e-39
    for bits, knee in KINDS:
        chances = draws if stochastic else None
        arguments = (rows, given, source, chances, bits, knee, block, scale_rows, codes)
        assert sinh_round.serves(*arguments)
        same(sinh_round(*arguments), sinh_round.reference(*arguments))


@pytest.mark.parametrize("codes", [False, True])
def test_a_million_numbers_round_alike(codes):
    rows = rows_of(shape=(10, 100_003))
    for bits, knee in ((8, 0.03), (16, 0.03)):
        arguments = (rows, None, LARGEST, None, bits, knee, 0, 1, codes)
        same(sinh_round(*arguments), sinh_round.reference(*arguments))


@pytest.mark.parametrize("scale", [1.0, 1.7, 2.0**-126, 1e-41, 3e38])
def test_loops_are_exact_next_to_every_boundary(scale):
    for bits, knee in KINDS:
        ends = end_table(bits, knee, torch.empty(0)) * torch.tensor(scale).double()
        near = ends.float().view(torch.int32)[None] + torch.arange(-4, 5)[:, None]
        rows = near.clamp(min=0).to(torch.int32).view(torch.float32).reshape(1, -1)
        rows = torch.cat([rows, -rows], 1)
        given = torch.tensor([[scale]])
        arguments = (rows, given, READY, None, bits, knee, 0, 0, True)
        same(sinh_round(*arguments), sinh_round.reference(*arguments))


def test_rungs_too_fine_for_a_logarithm_are_the_references():
    rows, given = rows_of(), torch.ones(12, 1)
    assert spacing(16, 1e3) < FINEST
    assert not sinh_round.serves(rows, given, READY, None, 16, 1e3, 0, 0, True)
    assert not sinh_round.serves(rows.double(), given, READY, None, 8, 0.03, 0, 0, True)


def test_decoding_by_loops_and_by_reference_agree():
    for bits, knee in KINDS:
        patterns = torch.arange(1 << bits, dtype=torch.int32)
        codes = patterns.to(torch.uint8 if bits <= 8 else torch.int16)
        codes = codes.repeat(5)[: 5 * len(codes) - 3]
        for scale in (torch.tensor(0.37), torch.tensor(0.0), torch.tensor(float("nan"))):
            arguments = (codes, scale, bits, knee, 0)
            same([sinh_decode(*arguments)], [sinh_decode.reference(*arguments)])
        matrix, scales = codes[:12].reshape(3, 4), torch.tensor([[1.0], [2.0], [0.5]])
        same([sinh_decode(matrix, scales, bits, knee, 0)],
             [sinh_decode.reference(matrix, scales, bits, knee, 0)])  # fmt: skip
        blocks = torch.rand(3, 2)
        same([sinh_decode(matrix, blocks, bits, knee, 3)],
             [sinh_decode.reference(matrix, blocks, bits, knee, 3)])  # fmt: skip


def test_operators_are_what_torch_expects_of_them():
    rows = rows_of()
    for block, scale_rows in LAYOUTS:
        for codes in (False, True):
            arguments = (rows, None, LARGEST, None, 8, 0.03, block, scale_rows, codes)
            torch.library.opcheck(torch.ops.rung.sinh_round, arguments)
    codes, scales = sinh_round(rows, None, LARGEST, None, 8, 0.03, 32, 0, True)
    torch.library.opcheck(torch.ops.rung.sinh_decode, (codes, scales, 8, 0.03, 32))

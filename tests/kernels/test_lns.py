import pytest
import torch

from rung.kernels import lns
from rung.kernels.cpu import lns as lns_cpu
from rung.kernels.cpu.groups import largest_of_groups
from rung.kernels.draws import uniforms
from rung.kernels.group_scales import READY
from rung.kernels.lns import Grid

GRIDS = [(8, 8), (8, 1), (6, 4), (4, 2), (16, 2048), (3, 1), (12, 128), (10, 2048), (16, 1)]
ZEROS = [(False, False), (True, False), (True, True)]


def awkward_rows(shape, seed=0):
    """Values over 30 octaves, with zeros, subnormals, and groups of tiny, huge and no scale."""
    generator = torch.Generator().manual_seed(seed)
    octaves = torch.rand(shape, generator=generator) * 30 - 20
    rows = torch.randn(shape, generator=generator) * torch.exp2(octaves)
    rows[0, :4] = torch.tensor([0.0, -0.0, 1e-41, -1e-45])
    scale = rows.abs().amax(1, keepdim=True)
    if len(rows) > 5:
        rows[1], scale[1] = 0, 0
        rows[2], scale[2] = rows[2] * 1e-36, scale[2] * 1e-36
        scale[3] *= 0.1  # values above the scale saturate
        scale[4] = 3e38
        scale[5] = 2e-45
    draws = torch.randint(-(2**15), 2**15, shape, generator=generator, dtype=torch.int16)
    return rows, scale, draws


@pytest.mark.parametrize("shape", [(1, 5000), (20, 300), (60, 7), (0, 3), (3, 0)])
@pytest.mark.parametrize(("zero", "flush"), ZEROS)
@pytest.mark.parametrize(("bits", "gamma"), GRIDS)
def test_cpu_codes_and_values_equal_the_reference_bit_for_bit(bits, gamma, zero, flush, shape):
    grid = Grid(bits, gamma, zero, flush)
    numbers = (bits, gamma, zero, flush)
    rows, scale, draws = (
        awkward_rows(shape) if all(shape) else (torch.ones(shape), torch.ones(shape[0], 1), None)
    )
    for chances in (None, draws):
        odds = None if chances is None else uniforms(chances)
        codes = lns.encode_reference(rows, scale, grid, odds)
        fast, _ = lns_cpu.round_rows(rows, scale, READY, chances, *numbers, codes=True)
        assert torch.equal(fast, codes)
        values = lns.decode_reference(codes, scale, grid)
        fast, _ = lns_cpu.round_rows(rows, scale, READY, chances, *numbers)
        assert torch.equal(fast.view(torch.int32), values.view(torch.int32))
        assert torch.equal(lns_cpu.decode(codes, scale, *numbers[:3]), values)


def test_largest_magnitudes_pass_nan_and_infinity_on():
    rows = torch.tensor([[1.0, -3.0], [float("nan"), 1.0], [float("-inf"), 0.0], [0.0, -0.0]])
    largest = largest_of_groups(rows, 2)
    assert largest[0] == 3
    assert not torch.isfinite(largest[1:3]).any()
    assert largest[3] == 0


@pytest.mark.parametrize("bits", range(3, 17))
def test_every_code_splits_and_joins(bits):
    e = torch.arange(1 << (bits - 1), dtype=torch.int32).repeat(2)
    negative = torch.arange(1 << bits) >= 1 << (bits - 1)
    codes = lns.join(e, negative, bits)
    assert codes.dtype == lns.code_dtype(bits)
    assert torch.equal(lns.exponents(codes, bits), e)
    assert torch.equal(lns.is_negative(codes, bits), negative)
    unsigned = codes.to(torch.int32) & ((1 << bits) - 1)
    assert unsigned.tolist() == list(range(1 << bits))  # the sign is the top bit


@pytest.mark.parametrize(("bits", "by"), [(16, 8), (12, 4), (10, 2), (9, 1), (8, 0)])
def test_a_shift_rounds_every_exponent_to_its_upper_bits(bits, by):
    e = torch.arange(1 << (bits - 1), dtype=torch.int32)
    for negative in (torch.zeros_like(e).bool(), torch.ones_like(e).bool()):
        short = lns.shift_codes(lns.join(e, negative, bits), bits, by)
        top = (1 << (bits - by - 1)) - 1
        wanted = [min(round(int(code) / 2**by), top) for code in e]  # Python rounds ties to even
        assert lns.exponents(short, bits - by).tolist() == wanted
        assert torch.equal(lns.is_negative(short, bits - by), negative)


def test_decoding_a_shift_by_table_equals_decoding_the_shifted_codes():
    codes = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16)
    scale = torch.tensor(0.37)
    grid = Grid(8, 8, False, False)
    short = lns.shift_codes(codes, 16, 8)
    wanted = lns.decode_reference(short, scale, grid)
    assert torch.equal(lns_cpu.decode(codes, scale, 8, 8, False, 8), wanted)


def test_kernels_read_any_stride_and_leave_the_input_alone():
    grid = Grid(8, 8, False, False)
    codes = torch.arange(256, dtype=torch.int32).to(torch.uint8).reshape(16, 16)
    before = codes.clone()
    values = lns_cpu.decode(codes.t(), torch.ones(()), 8, 8, False)
    assert torch.equal(values, lns.decode_reference(codes, torch.ones(()), grid).t())
    assert torch.equal(codes, before)


def test_the_reference_compiles_to_one_graph_with_equal_codes():
    grid = Grid(8, 8, True, False)
    rows, scale, _ = awkward_rows((8, 50))
    compiled = torch.compile(
        lambda x, s: lns.encode_reference(x, s, grid), backend="aot_eager", fullgraph=True
    )
    assert torch.equal(compiled(rows, scale), lns.encode_reference(rows, scale, grid))


@pytest.mark.parametrize("shape", [(3, 50), (50, 3), (1, 100)])
def test_the_reference_encodes_large_tensors_in_pieces_alike(shape, monkeypatch):
    grid = Grid(8, 8, True, True)
    rows, scale, draws = torch.randn(shape), torch.ones(shape[0], 1), torch.rand(shape)
    whole = [lns.encode_reference(rows, scale, grid, chances) for chances in (None, draws)]
    monkeypatch.setattr(lns, "_PIECE", 16)
    pieces = [lns.encode_reference(rows, scale, grid, chances) for chances in (None, draws)]
    assert all(map(torch.equal, whole, pieces))

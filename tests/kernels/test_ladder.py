import pytest
import torch

from rung.formats import Ladder
from rung.kernels import draws, ladder
from rung.kernels.cpu import draws as draws_cpu
from rung.kernels.cpu import ladder as ladder_cpu
from rung.kernels.signs import pack_signs


def awkward_rows(scale):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(20, 203, generator=generator)
    rows = rows * torch.exp2(-12 * torch.rand(rows.shape, generator=generator)) * scale
    rows[0, :3] = torch.tensor([0.0, -0.0, 1e-44])
    chances = torch.randint(-(2**15), 2**15, rows.shape, generator=generator, dtype=torch.int16)
    return rows, rows.abs().amax(1, keepdim=True), chances


@pytest.mark.parametrize("bits", [2, 8, 12, 16])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 3e-38, 1e-42])
def test_cpu_codes_and_values_equal_the_reference_bit_for_bit(bits, scale):
    rows, tops, chances = awkward_rows(scale)
    numbers = bits, Ladder(bits).base_precision
    codes = ladder.encode_magnitudes(rows.abs(), tops, *numbers)
    stored = ladder.store_codes(codes, bits)
    fast = ladder_cpu.round_rows(rows, None, 1, None, *numbers, codes=True)[0]
    assert torch.equal(fast, stored)
    values = ladder.decode_magnitudes(stored, tops, *numbers) * torch.where(rows < 0, -1.0, 1.0)
    assert torch.equal(ladder_cpu.round_rows(rows, None, 1, None, *numbers)[0], values)
    signs = ladder_cpu.pack_negative(rows)
    assert torch.equal(signs, pack_signs(rows < 0))
    assert torch.equal(ladder_cpu.decode(stored, tops, signs, *numbers), values)
    random = ladder.stochastic_codes(rows.abs(), tops, codes.long(), *numbers, chances)
    fast = ladder_cpu.round_rows(rows, None, 1, chances, *numbers, codes=True)[0]
    assert torch.equal(fast, ladder.store_codes(random, bits))


@pytest.mark.parametrize("top", [1.0, 1.9999999, 0.3])
def test_every_float32_next_to_a_boundary_rounds_alike(top):
    fmt, scale = Ladder(8), torch.tensor([[top]])
    numbers = fmt.bits, fmt.base_precision
    ends = ladder.boundary_table(*numbers, scale)[:-1] * scale.double()
    around = torch.arange(-9, 10, dtype=torch.int32)
    x = (ends.float().view(torch.int32).reshape(-1, 1) + around).view(torch.float32).reshape(1, -1)
    wanted = ladder.store_codes(ladder.encode_magnitudes(x, scale, *numbers), fmt.bits)
    assert torch.equal(ladder_cpu.round_rows(x, scale, 3, None, *numbers, codes=True)[0], wanted)


@pytest.mark.parametrize(("start", "count"), [(0, 1000), (3, 77), (11, 1), (8, 8), (5, 0)])
def test_draws_equal_the_reference_and_lie_inside_the_unit_interval(start, count):
    wanted = draws.draws_reference(torch.tensor(-5), start, count)
    assert torch.equal(draws_cpu.encode_draws(-5, start, count), wanted)
    chances = draws.uniforms(wanted)
    assert bool(((chances > 0) & (chances < 1)).all())

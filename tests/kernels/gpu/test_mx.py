"""Blocks with shared power-of-two scales, and casts to small floats, on a GPU: the same bits."""

import pytest
import torch
from kernels.gpu.samples import DEVICE, assert_same
from kernels.moments import randn

from rung import formats
from rung.kernels import mx_round
from rung.kernels.gpu import mx
from rung.kernels.mx import RULES, rule_of

# What the interpreter says of numbers beyond float32, which a GPU makes infinite.
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value):RuntimeWarning")

ELEMENTS = {
    "fp4": formats.Minifloat(2, 1, specials="none"),
    "fp6": formats.Minifloat(3, 2, specials="none"),
    "fp8": formats.Minifloat(4, 3, specials="nan"),
    "fp8-wide": formats.Minifloat(5, 2, specials="ieee"),
    "powers": formats.Minifloat(4, 0, specials="none"),
    "flushed": formats.Minifloat(3, 2, specials="none", subnormals=False),
    "int8": formats.FixedPoint(8),
}
LAYOUTS = [((1, 64), 32), ((3, 100), 32), ((5, 7), 16), ((40, 1), 32), ((2, 1500), 1100)]


def rows_of(shape, seed=0):
    x = randn(*shape, seed=seed) * torch.exp(4 * randn(*shape, seed=seed + 1))
    x.view(-1)[3::11], x.view(-1)[5::13], x.view(-1)[4::17] = 0.0, 1e-42, -0.0
    if shape[0] > 2:
        x[0], x[1] = 1e-41, x[1] * 2.0**120
        x[1, 0] = torch.nan
    return x.to(DEVICE)


def words(shape):
    generator = torch.Generator().manual_seed(5)
    every = torch.randint(-(2**31), 2**31, shape, generator=generator)
    return every.to(torch.int32).to(DEVICE)


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("stochastic", [False, True])
def test_values_and_codes_of_blocks_equal_the_references(element, layout, stochastic):
    (shape, block), grid = layout, ELEMENTS[element].grid
    rows = rows_of(shape)
    draws = words(shape) if stochastic else None
    rule = rule_of(RULES[len(element) % 4], grid)
    numbers = (*mx_round.fields(rule), *mx_round.fields(grid))
    every = (rows, draws, block, 1e30, *numbers)
    assert_same(mx.mx_quantize(*every), mx_round.quantize_reference(*every))
    every = (rows, draws, block, *numbers)
    assert_same(mx.mx_encode(*every), mx_round.encode_reference(*every))


@pytest.mark.parametrize("rule", RULES)
def test_scales_of_every_rule_equal_the_references(rule):
    grid = ELEMENTS["fp6"].grid
    rows = torch.tensor([1.0, 1.75, 1.8749, 1.875, 1.9375, 2.0, 1e-45, 3e38, torch.inf, 0.0])
    rows = torch.cat([rows, torch.exp2(torch.linspace(-140, 127, 90))])[:, None].to(DEVICE)
    numbers = (*mx_round.fields(rule_of(rule, grid)), *mx_round.fields(grid))
    every = (rows, None, 32, 3e38, *numbers)
    assert_same(mx.mx_quantize(*every), mx_round.quantize_reference(*every))


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize(("shape", "block"), [((0, 3), 32), ((20, 100), 32), ((256, 3), 2)])
def test_decoding_equals_the_references(element, shape, block):
    grid = ELEMENTS[element].grid
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(0, 2**grid.bits, shape, generator=generator).to(torch.uint8)
    blocks = (shape[0], -(-shape[1] // block))
    scales = torch.randint(0, 256, blocks, generator=generator).to(torch.uint8)
    every = (codes.to(DEVICE), scales.to(DEVICE), block, False, *mx_round.fields(grid))
    assert_same([mx.mx_decode(*every)], [mx_round.decode_reference(*every)])


CASTS = {
    "fp8": formats.Minifloat(4, 3, specials="nan"),
    "fp12": formats.Minifloat(5, 6, specials="none"),
    "int12": formats.FixedPoint(12),
    "bfloat16": formats.Minifloat(8, 7, specials="ieee"),
}


@pytest.mark.parametrize("element", CASTS)
@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("back", [False, True])
def test_casts_equal_the_references(element, stochastic, back):
    grid = CASTS[element].grid
    for shape in ((0, 4), (1, 1000), (30, 20), (17, 1)):
        rows = torch.nan_to_num(rows_of(shape), 0.0)
        scale = torch.exp(randn(shape[0], 1)).to(DEVICE)
        if shape[0] > 2:
            scale[1], scale[2] = 0.0, torch.nan
        draws = words(shape) if stochastic else None
        every = (rows, scale, draws, back, 1e30, *mx_round.fields(grid))
        assert_same([mx.minifloat_cast(*every)], [mx_round.cast_reference(*every)])

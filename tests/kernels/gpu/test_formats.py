"""Rounding to logarithmic formats on a GPU and back: the references' bits."""

import pytest
import torch
from kernels.gpu.samples import DEVICE, assert_same
from kernels.moments import randn

from rung.kernels import ladder_round, lns_round
from rung.kernels import sinh as sinh_reference
from rung.kernels.gpu import groups, ladder, lns, sinh
from rung.kernels.group_scales import GIVEN, LARGEST, POWER_OF_TWO, READY, scales_shape

LNS = [(8, 8, False, False), (8, 8, True, True), (4, 1, True, False), (16, 2048, False, False)]
LADDERS = [(8, 0.016), (4, 0.3), (12, 1e-3), (16, 2e-5)]
SINH = [(8, 0.03), (4, 1e-9), (2, 0.5), (16, 0.03)]
# Shape, block, rows of scales: short and long groups, odd ends, and scales that rows share.
LAYOUTS = [
    ((1, 1000), 0, 0),
    ((5, 100), 0, 0),
    ((6, 100), 32, 0),
    ((6, 64), 16, 2),
    ((2, groups.LONGEST + 9), 0, 0),
    ((4, 7), 0, 2),
    ((17, 1), 0, 0),
]


def values(shape, seed=0):
    """Of all sizes, some 0, some subnormal."""
    x = randn(*shape, seed=seed) * torch.exp(4 * randn(*shape, seed=seed + 1))
    x.view(-1)[3::11], x.view(-1)[5::13], x.view(-1)[4::17] = 0.0, 1e-42, -0.0
    return x.to(DEVICE)


def arguments(layout, source, stochastic):
    shape, block, scale_rows = layout
    generator = torch.Generator().manual_seed(len(shape) + source)
    rows = values(shape, source)
    if source != READY and shape[0] > 1:
        rows[0, 0] = torch.nan
        rows[-1, -1] = torch.inf
    scale = None
    if source in (GIVEN, READY):
        scale = 10 * torch.rand(scales_shape(rows, block, scale_rows), generator=generator)
        scale[-1, -1] = 3e-39
        scale = scale.to(DEVICE)
    draws = torch.randint(-(2**15), 2**15, shape, generator=generator).to(torch.int16)
    return rows, scale, source, draws.to(DEVICE) if stochastic else None


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("source", [GIVEN, LARGEST, POWER_OF_TWO, READY])
@pytest.mark.parametrize("stochastic", [False, True])
def test_lns_codes_and_values_equal_the_references(layout, source, stochastic):
    given = arguments(layout, source, stochastic)
    for place, numbers in enumerate(LNS[:1] if given[0].numel() > 10_000 else LNS):
        codes = (place + source) % 2 == 0
        every = (*given, *numbers, *layout[1:], codes)
        assert_same(lns.lns_round(*every), lns_round.round_reference(*every))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("source", [GIVEN, LARGEST, READY])
@pytest.mark.parametrize("stochastic", [False, True])
def test_ladder_codes_and_values_equal_the_references(layout, source, stochastic):
    given = arguments(layout, source, stochastic)
    for place, numbers in enumerate(LADDERS[:1] if given[0].numel() > 10_000 else LADDERS):
        codes = (place + source) % 2 == 0
        every = (*given, *numbers, *layout[1:], codes)
        assert_same(ladder.ladder_round(*every), ladder_round.round_reference(*every))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("source", [GIVEN, LARGEST, POWER_OF_TWO, READY])
@pytest.mark.parametrize("stochastic", [False, True])
def test_sinh_codes_and_values_equal_the_references(layout, source, stochastic):
    given = arguments(layout, source, stochastic)
    for place, numbers in enumerate(SINH[:1] if given[0].numel() > 10_000 else SINH):
        codes = (place + source) % 2 == 0
        every = (*given, *numbers, *layout[1:], codes)
        assert_same(sinh.sinh_round(*every), sinh_reference.round_reference(*every))


def test_every_sinh_code_decodes_like_the_references():
    for bits, knee in SINH:
        patterns = torch.arange(1 << bits, dtype=torch.int32)
        codes = patterns.to(torch.uint8 if bits <= 8 else torch.int16).to(DEVICE)
        for scale in (torch.tensor(0.37), torch.tensor(torch.nan)):
            every = (codes, scale.to(DEVICE), bits, knee, 0)
            assert_same([sinh.sinh_decode(*every)], [sinh_reference.decode_reference(*every)])


def test_the_lns_boundaries_are_exact_next_to_every_rung():
    for gamma in (1, 8, 2048):
        for scale in (1.0, 1.7, 2.0**-126, 1e-41):
            rungs = torch.exp2(-(torch.arange(300, dtype=torch.float64) + 0.5) / gamma) * scale
            near = rungs.float().view(torch.int32)[None] + torch.arange(-3, 4)[:, None]
            rows = near.clamp(min=0).to(torch.int32).view(torch.float32).reshape(1, -1).to(DEVICE)
            every = (rows, torch.tensor([[scale]], device=DEVICE), READY, None, 16, gamma)
            every = (*every, False, False, 0, 0, True)
            assert_same(lns.lns_round(*every), lns_round.round_reference(*every))


def test_the_ladder_boundaries_are_exact_next_to_every_rung():
    for bits, eta in LADDERS:
        for scale in (1.0, 1.7, 3e-30):
            k = torch.arange(min(300, 2**bits), dtype=torch.float64)
            rungs = torch.exp(-(k + 0.5) * eta) * scale
            near = rungs.float().view(torch.int32)[None] + torch.arange(-3, 4)[:, None]
            rows = near.to(torch.int32).view(torch.float32).reshape(1, -1).to(DEVICE)
            every = (rows, torch.tensor([[scale]], device=DEVICE), READY, None, bits, eta, 0, 0)
            assert_same(
                ladder.ladder_round(*every, True), ladder_round.round_reference(*every, True)
            )


@pytest.mark.parametrize(
    ("shape", "scale", "block"),
    [
        ((0,), (), 0),
        ((), (), 0),
        ((30, 20), (), 0),
        ((30, 20), (30, 1), 0),
        ((3, 17), (17,), 0),
        ((4, 3, 5), (3, 1), 0),
        ((4, 3, 5), (4, 1, 1), 0),
        ((3, 2, 40), (3, 2, 3), 16),
        ((1100,), (1,), 0),
    ],
)
@pytest.mark.parametrize("bits", [4, 8, 16])
def test_decoding_equals_the_references(shape, scale, block, bits):
    generator = torch.Generator().manual_seed(bits)
    codes = torch.randint(0, 2**bits, shape, generator=generator)
    codes = torch.where(codes >= 2**15, codes - 2**16, codes) if bits == 16 else codes
    codes = codes.to(torch.uint8 if bits <= 8 else torch.int16).to(DEVICE)
    scales = (torch.rand(scale, generator=generator) + 0.1).to(DEVICE)
    for drop in (0, 1):
        every = (codes, scales, bits - drop, 8, bits == 8, drop, block)
        assert_same([lns.lns_decode(*every)], [lns_round.decode_operator(*every)])
    packed = torch.randint(0, 256, ((codes.numel() + 7) // 8,), generator=generator)
    for signs in (None, packed.to(torch.uint8).to(DEVICE)):
        every = (codes, scales, signs, bits, 0.016, block)
        assert_same([ladder.ladder_decode(*every)], [ladder_round.decode_reference(*every)])


def test_codes_of_no_elements_are_none():
    rows = torch.empty(0, 5, device=DEVICE)
    assert lns.lns_round(rows, None, LARGEST, None, 8, 8, False, False, 0, 0, True)[0].shape == (
        0,
        5,
    )
    codes, scales = ladder.ladder_round(rows, None, LARGEST, None, 8, 0.016, 0, 0, True)
    assert (codes.shape, scales.shape) == ((0, 5), (0, 1))

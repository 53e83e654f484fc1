import math

import pytest
import torch

from rung.formats import Pair, Sinh, get, name_of, names
from rung.formats.reference import pair_decode, pair_encode
from rung.kernels import pair
from rung.kernels.ladder import load_codes, store_codes

FORMATS = [Pair(bits, 0.03) for bits in range(4, 17, 2)] + [Pair(8, 1e-9), Pair(6, 1e3)]


def every_pair(fmt):
    top = fmt.ladder.levels // 2
    one = torch.arange(-top, top + 1, dtype=torch.int32)
    return one.repeat_interleave(len(one)), one.repeat(len(one))


def every_code(fmt):
    return store_codes(pair.join(*every_pair(fmt), fmt.bits), fmt.bits)


@pytest.mark.parametrize("fmt", FORMATS, ids=name_of)
def test_split_and_join_are_inverse_for_every_code(fmt):
    codes = every_code(fmt)
    assert codes.dtype == fmt.code_dtype
    assert len(set(load_codes(codes).tolist())) == fmt.levels == len(codes)
    assert all(torch.equal(a, b) for a, b in zip(fmt.split(codes), every_pair(fmt), strict=True))
    top, half = fmt.ladder.levels // 2, 1 << (fmt.bits // 2)
    plus, minus = (k.tolist() for k in every_pair(fmt))
    by_hand = [(a + top) * half + b + top for a, b in zip(plus, minus, strict=True)]
    assert load_codes(codes).tolist() == by_hand


@pytest.mark.parametrize("fmt", FORMATS, ids=name_of)
def test_tensor_decode_equals_the_scalar_oracle_for_every_code(fmt):
    scale = torch.tensor(0.37)
    values = fmt.decode_codes(every_code(fmt), scale)
    plus, minus = (k.tolist() for k in every_pair(fmt))
    oracle = [pair_decode(a, b, fmt, 0.37) for a, b in zip(plus, minus, strict=True)]
    # Near zero the oracle's own difference cancels: math.exp is within units in the last place.
    torch.testing.assert_close(values, torch.tensor(oracle), rtol=2**-22, atol=1e-14)


@pytest.mark.parametrize("fmt", FORMATS, ids=name_of)
@pytest.mark.parametrize("scale", [1.0, 1.7, 3e-5])
def test_numbers_get_the_values_of_the_sinh_ladder_of_half_the_bits(fmt, scale):
    x = torch.randn(3000, generator=torch.Generator().manual_seed(fmt.bits)) * scale / 2
    x[:2] = torch.tensor([0.0, -0.0])
    sinh, encoded = Sinh(fmt.bits // 2, fmt.knee), fmt.encode(x, scale=scale)
    assert encoded.codes.dtype == fmt.code_dtype
    assert encoded.signs is None
    assert torch.equal(fmt.decode(encoded), sinh.quantize(x, scale=scale))
    assert torch.equal(fmt.quantize(x, scale=scale), sinh.quantize(x, scale=scale))
    plus, minus = fmt.split(encoded.codes)
    assert torch.equal(plus, -minus)
    kept = float(encoded.scale)
    wanted = [pair_encode(value, fmt, kept) for value in x.tolist()]
    assert list(zip(plus.tolist(), minus.tolist(), strict=True)) == wanted


@pytest.mark.parametrize("fmt", FORMATS, ids=name_of)
def test_values_are_odd_rise_with_plus_and_fall_with_minus(fmt):
    side = fmt.ladder.levels
    values = fmt.decode_codes(every_code(fmt), torch.tensor(1.0, dtype=torch.float64))
    grid = values.reshape(side, side)
    assert torch.equal(grid, -grid.t())
    least = 1e-12 if fmt.knee == 0.03 else 0.0  # far below 1 small steps drown in large numbers
    assert bool((grid.diff(dim=0) >= least).all())
    assert bool((grid.diff(dim=1) <= -least).all())
    assert grid[-1, 0].item() == 1
    assert torch.equal(grid.diagonal(), torch.zeros(side, dtype=torch.float64))


def test_a_step_of_both_moves_the_difference_by_the_size_of_the_pair():
    """What the single code can't: the same theta, and steps of another size."""
    fmt = Pair(16, 0.03)
    small, large = (
        fmt.decode_codes(store_codes(pair.join(k + 1, k - 1, 16), 16), torch.tensor(1.0))
        for k in (torch.tensor([-40], dtype=torch.int32), torch.tensor([40], dtype=torch.int32))
    )
    assert (large / small).item() == pytest.approx(math.exp(80 * fmt.spacing), rel=1e-5)


def test_groups_stochastic_rounding_and_nonfinite_values_are_those_of_the_sinh_ladder():
    fmt, x = get("pair16"), torch.tensor([[1.0, 0.5, -0.2], [100.0, -3.0, 0.0], [0.0, 0.0, 0.0]])
    encoded = fmt.encode(x, axis=0)
    assert encoded.scale.reshape(-1).tolist() == [1.0, 100.0, 0.0]
    assert torch.equal(fmt.decode(encoded), fmt.ladder.quantize(x, axis=0))
    blocks = fmt.encode(x, block=2)
    assert blocks.scale.shape == (3, 2)
    assert torch.equal(fmt.decode(blocks), fmt.ladder.quantize(x, block=2))
    drawn = [
        f.quantize(x, rounding="stochastic", generator=torch.Generator().manual_seed(1))
        for f in (fmt, fmt.ladder)
    ]
    assert torch.equal(*drawn)
    assert fmt.quantize(x.bfloat16()).dtype == torch.bfloat16
    with pytest.raises(ValueError, match="`x` must be finite; got 1 NaN or infinite of 2 values"):
        fmt.encode(torch.tensor([1.0, math.nan]))


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: Pair(7, 0.1), ValueError, "`bits` must be even and from 4 to 16, .*; got bits=7."),
        (lambda: Pair(2, 0.1), ValueError, "`bits` must be even and from 4 to 16, .*; got bits=2."),
        (lambda: Pair(18, 0.1), ValueError, "`bits` must be even .*; got bits=18."),
        (lambda: Pair(True, 0.1), TypeError, "`bits` must be an integer; got True."),
        (lambda: Pair(8, 0.0), ValueError, "`knee` must be from 1e-09 to 1000 .*; got knee=0.0"),
        (lambda: get("pair9"), ValueError, "`bits` must be even and from 4 to 16.*got bits=9."),
        (lambda: get("pair8+k1"), ValueError, r"Unknown format 'pair8\+k1'; .*a pair of ladders"),
        (lambda: get("pair8").encode(torch.ones(2), scale=-1.0), ValueError, "`scale` must be 0 "),
        (lambda: get("pair8").encode(torch.ones(2).long()), TypeError, "`x` must be a real float"),
    ],
)
def test_mistakes_are_clear(call, kind, text):
    with pytest.raises(kind, match=text):
        call()


def test_names():
    named = [name for name in names() if "pair" in name]
    assert named == ["pair8", "pair10", "pair12", "pair14", "pair16"]
    for name in ("pair8", "pair4", "pair16", "pair16+knee0.1", "pair6+knee1e-5"):
        fmt = get(name)
        assert get(name_of(fmt)) == fmt
    assert name_of(Pair(16, 0.03)) == "pair16"
    assert repr(get("pair16")) == "Pair(bits=16, knee=0.03)"

import math
from decimal import Decimal, localcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rung.formats import CounterSource, Sinh, get, name_of, names
from rung.formats.reference import sinh_decode, sinh_encode
from rung.kernels.ladder import load_codes, store_codes
from rung.kernels.sinh_tables import boundaries, rungs

FORMATS = [Sinh(bits, 0.03) for bits in range(2, 17)] + [Sinh(8, 1e-9), Sinh(5, 1.0), Sinh(9, 1e3)]


def every_rung(fmt):
    top = fmt.levels // 2
    return torch.arange(-top, top + 1, dtype=torch.int32)


def every_code(fmt):
    return store_codes(every_rung(fmt) + fmt.levels // 2, fmt.bits)


@pytest.mark.parametrize("fmt", FORMATS, ids=name_of)
@pytest.mark.parametrize("scale", [1.0, 1.7, 3e-5])
def test_encode_undoes_decode_for_every_code(fmt, scale):
    scale = torch.tensor(scale)
    values = fmt.decode_codes(every_code(fmt), scale)
    encoded = fmt.encode(values, scale=scale)
    assert encoded.codes.dtype == fmt.code_dtype
    assert encoded.signs is None
    assert torch.equal(encoded.codes, every_code(fmt))
    assert torch.equal(fmt.decode(encoded), values)


@pytest.mark.parametrize("fmt", FORMATS, ids=name_of)
def test_values_rise_through_zero_and_meet_the_derived_limits(fmt):
    values = fmt.decode_codes(every_code(fmt), torch.tensor(1.0))
    assert len(values) == fmt.levels
    assert bool((values.diff() > 0).all())
    assert torch.equal(values, -values.flip(0))
    assert values[fmt.levels // 2].item() == 0
    assert values[-1].item() == 1
    assert values[values > 0][0].item() == pytest.approx(fmt.smallest, rel=1e-6)
    assert fmt.dynamic_range == pytest.approx(1 / fmt.smallest)


@pytest.mark.parametrize("fmt", FORMATS, ids=name_of)
def test_tensor_decode_equals_the_scalar_oracle_for_every_code(fmt):
    scale = torch.tensor(0.37)
    values = fmt.decode_codes(every_code(fmt), scale)
    oracle = [sinh_decode(k, fmt, float(scale)) for k in every_rung(fmt).tolist()]
    # math.sinh of the oracle is within units in the last place of float64, not of a decimal.
    torch.testing.assert_close(values, torch.tensor(oracle), rtol=2**-22, atol=0)


@pytest.mark.parametrize("fmt", FORMATS, ids=name_of)
def test_tensor_encode_equals_the_scalar_oracle(fmt):
    generator = torch.Generator().manual_seed(fmt.bits)
    x = torch.randn(2000, generator=generator) * torch.exp(
        3 * torch.randn(2000, generator=generator)
    )
    x[:3] = torch.tensor([0.0, -0.0, 1e-30])
    encoded = fmt.encode(x, scale=0.9)
    codes = load_codes(encoded.codes) - fmt.levels // 2
    scale = float(encoded.scale)
    assert codes.tolist() == [sinh_encode(value, fmt, scale) for value in x.tolist()]


@pytest.mark.parametrize("bits", [2, 5, 8, 12])
def test_tables_are_the_formula_rounded_once(bits):
    fmt = Sinh(bits, 0.03)
    top = fmt.levels // 2
    assert (len(rungs(bits, 0.03)), len(boundaries(bits, 0.03))) == (top + 1, top)
    with localcontext() as context:
        context.prec = 80
        knee = Decimal(0.03)
        y = 1 / knee
        theta = (y + (y * y + 1).sqrt()).ln()
        for k in range(0, top + 1, max(1, top // 7)):
            for table, place in ((rungs, Decimal(k)), (boundaries, Decimal(k) + Decimal("0.5"))):
                if k == top and table is boundaries:
                    continue
                power = (theta * place / top).exp()
                assert table(bits, 0.03)[k] == float(knee * (power - 1 / power) / 2)


@pytest.mark.parametrize("fmt", [Sinh(8, 0.03), Sinh(4, 0.03), Sinh(12, 1e-3)], ids=name_of)
@pytest.mark.parametrize("scale", [1.0, 1.7, 1e-30])
def test_every_boundary_is_decided_exactly(fmt, scale):
    scale = torch.tensor(scale)
    ends = torch.tensor(boundaries(fmt.bits, fmt.knee), dtype=torch.float64) * scale.double()
    near = ends.float().view(torch.int32)[None] + torch.arange(-2, 3)[:, None]
    x = near.to(torch.int32).view(torch.float32)
    rung = torch.arange(len(ends))
    share = x.double() / scale.double()
    wanted = rung + (share >= ends / scale.double()).long()
    found = load_codes(fmt.encode(x, scale=scale).codes) - fmt.levels // 2
    # The quotient and the product are rounded: what lies within them of a boundary may be either.
    clear = (share * scale.double() / ends - 1).abs() > 1e-15
    assert clear.float().mean() > 0.9
    assert torch.equal(found[clear].long(), wanted.expand_as(found)[clear])
    assert torch.equal(load_codes(fmt.encode(-x, scale=scale).codes) - fmt.levels // 2, -found)


def test_the_knee_is_where_steps_begin_to_grow():
    fmt = get("sinh8")
    values = fmt.decode_codes(every_code(fmt), torch.tensor(1.0)).double()
    steps = values.diff()[fmt.levels // 2 :]
    assert steps[0].item() == pytest.approx(fmt.knee * fmt.spacing, rel=1e-3)
    far = values[-20:] / values[-21:-1]
    assert far.log().mean().item() == pytest.approx(fmt.spacing, rel=0.01)
    assert Sinh(8, 1e3).smallest == pytest.approx(1 / 127, rel=1e-5)  # linear


def test_it_is_the_difference_of_two_ladders():
    fmt = Sinh(8, 0.03)
    theta = every_rung(fmt).double() * fmt.spacing
    middle = fmt.knee / 2
    values = fmt.decode_codes(every_code(fmt), torch.tensor(1.0, dtype=torch.float64))
    torch.testing.assert_close(values, middle * theta.exp() - middle * (-theta).exp())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_dtype_and_shape_survive(dtype):
    x = torch.linspace(-1, 1, 24, dtype=dtype).reshape(2, 3, 4)
    fmt = get("sinh8")
    assert fmt.quantize(x).dtype == dtype
    assert fmt.quantize(x).shape == x.shape
    assert torch.equal(fmt.decode(fmt.encode(x)), fmt.quantize(x))


def test_groups_have_scales_of_their_own():
    x = torch.tensor([[1.0, 0.5, -0.2], [100.0, -3.0, 0.0], [0.0, 0.0, 0.0]])
    fmt = get("sinh8")
    encoded = fmt.encode(x, axis=0)
    assert encoded.scale.reshape(-1).tolist() == [1.0, 100.0, 0.0]
    assert torch.equal(fmt.decode(encoded)[2], torch.zeros(3))
    assert encoded.codes[2].tolist() == [127] * 3
    columns = fmt.quantize(x.t().contiguous(), axis=1)
    assert torch.equal(columns.t(), fmt.decode(encoded))
    blocks = fmt.encode(x, block=2)
    assert blocks.scale.shape == (3, 2)
    assert torch.equal(fmt.decode(blocks)[0, :2], fmt.quantize(x[0, :2]))
    assert fmt.encode(torch.zeros(0, 4)).codes.shape == (0, 4)


def test_stochastic_rounding_is_unbiased_and_takes_neighbours_only():
    fmt = Sinh(4, 0.1)
    values = fmt.decode_codes(every_code(fmt), torch.tensor(1.0))
    x = torch.tensor([0.004, -0.01, 0.03, 0.2, -0.77, 0.999])
    many = x.expand(20_000, 6)
    found = fmt.quantize(many, rounding="stochastic", generator=CounterSource(7), scale=1.0)
    for column, value in enumerate(x.tolist()):
        kept = set(found[:, column].tolist())
        below, above = values[values <= value].max().item(), values[values >= value].min().item()
        assert kept == {below, above}
        wide = (above - below) / 2 / math.sqrt(20_000)
        assert found[:, column].double().mean().item() == pytest.approx(value, abs=5 * wide)


finite = st.floats(-(2.0**60), 2.0**60, width=32, allow_nan=False, allow_subnormal=False)


@settings(max_examples=200, deadline=None)
@given(st.lists(finite, min_size=1, max_size=40).map(torch.tensor), st.sampled_from(FORMATS))
def test_quantize_is_idempotent_odd_monotone_and_bounded(x, fmt):
    once = fmt.quantize(x)
    assert torch.equal(fmt.quantize(once), once)
    assert torch.equal(fmt.quantize(-x), -once)
    order = x.sort().indices
    assert bool((once[order].diff() >= 0).all())
    inside = (x.abs() >= x.abs().max() * fmt.smallest * 1.0001) & (x != 0)
    if fmt.bits > 2:
        error = ((once - x).abs() / x.abs())[inside]
        assert bool((error <= fmt.max_relative_error * (1 + 1e-4) + 1e-6).all())


def test_nonfinite_values_are_refused_or_passed_on():
    fmt = get("sinh8")
    x = torch.tensor([[1.0, math.nan], [2.0, 1.0]])
    with pytest.raises(ValueError, match="`x` must be finite; got 1 NaN or infinite of 4 values"):
        fmt.encode(x)
    found = fmt.quantize(x, axis=0, nonfinite="propagate")
    assert found[0].isnan().all()
    assert found[1, 0].item() == 2


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: Sinh(1, 0.1), ValueError, "`bits` must be from 2 to 16; got bits=1."),
        (lambda: Sinh(17, 0.1), ValueError, "`bits` must be from 2 to 16; got bits=17."),
        (lambda: Sinh(8.0, 0.1), TypeError, "`bits` must be an integer; got 8.0."),
        (lambda: Sinh(8, 0.0), ValueError, "`knee` must be from 1e-09 to 1000 .*; got knee=0.0"),
        (lambda: Sinh(8, math.nan), ValueError, "`knee` must be from .*; got knee=nan"),
        (lambda: get("sinh99"), ValueError, "`bits` must be from 2 to 16; got bits=99."),
        (lambda: get("sinh8+knee0"), ValueError, "`knee` must be from .*; got knee=0"),
        (lambda: get("sinh8+k1"), ValueError, r"Unknown format 'sinh8\+k1'; .*'sinh8\+knee0.1'"),
        (lambda: get("sinh8").encode(torch.ones(2), scale=-1.0), ValueError, "`scale` must be 0 "),
        (lambda: get("sinh8").encode(torch.ones(2).long()), TypeError, "`x` must be a real float"),
    ],
)
def test_mistakes_are_clear(call, kind, text):
    with pytest.raises(kind, match=text):
        call()


def test_names():
    assert [name for name in names() if "sinh" in name] == [f"sinh{bits}" for bits in range(4, 13)]
    for name in ("sinh8", "sinh3", "sinh16", "sinh8+knee0.1", "sinh6+knee1e-5", "sinh6+knee2.5"):
        fmt = get(name)
        assert get(name_of(fmt)) == fmt
    assert name_of(get("sinh8+knee0.1")) == "sinh8+knee0.1"
    assert name_of(Sinh(8, 0.03)) == "sinh8"
    assert repr(get("sinh8")) == "Sinh(bits=8, knee=0.03)"

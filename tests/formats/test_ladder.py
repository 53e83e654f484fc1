import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rung.formats import CounterSource, Ladder, get, name_of, names
from rung.formats.reference import ladder_decode, ladder_encode
from rung.kernels.ladder import decode_magnitudes, load_codes, store_codes
from rung.kernels.signs import unpack_signs

WIDTHS = range(2, 17)


def every_code(fmt):
    return store_codes(torch.arange(fmt.levels, dtype=torch.int32), fmt.bits)


@pytest.mark.parametrize("bits", WIDTHS)
def test_storage_holds_every_code(bits):
    stored = every_code(Ladder(bits))
    assert stored.dtype == (torch.uint8 if bits <= 8 else torch.int16) == Ladder(bits).code_dtype
    assert torch.equal(load_codes(stored), torch.arange(2**bits, dtype=torch.int32))


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("scale", [1.0, 1.7, 3e-5])
def test_encode_undoes_decode_for_every_code_and_sign(bits, scale):
    fmt = Ladder(bits)
    scale_tensor = torch.tensor(scale)
    values = decode_magnitudes(every_code(fmt), scale_tensor, bits, fmt.base_precision)
    for sign in (1, -1):
        encoded = fmt.encode(sign * values, scale=scale_tensor)
        assert torch.equal(encoded.codes, every_code(fmt))
        assert torch.equal(fmt.decode(encoded), sign * values)


@pytest.mark.parametrize("bits", WIDTHS)
def test_decoded_codes_fall_monotonically_and_meet_the_derived_limits(bits):
    fmt = Ladder(bits)
    values = decode_magnitudes(every_code(fmt), torch.tensor(1.0), bits, fmt.base_precision)
    assert bool((values.diff() < 0).all())
    assert float(values[0]) == 1.0
    assert float(values[-1]) == pytest.approx(fmt.smallest, rel=1e-6)
    assert float(values[0] / values[-1]) == pytest.approx(fmt.dynamic_range, rel=1e-6)


@pytest.mark.parametrize("bits", WIDTHS)
def test_tensor_decode_equals_the_scalar_oracle_for_every_code(bits):
    fmt = Ladder(bits)
    scale = torch.tensor(0.37)
    values = decode_magnitudes(every_code(fmt), scale, bits, fmt.base_precision).tolist()
    assert values == [ladder_decode(1, k, fmt, float(scale)) for k in range(fmt.levels)]


@pytest.mark.parametrize("bits", WIDTHS)
def test_tensor_encode_equals_the_scalar_oracle(bits):
    fmt = Ladder(bits)
    generator = torch.Generator().manual_seed(bits)
    x = torch.randn(2000, generator=generator) * torch.exp(torch.randn(2000, generator=generator))
    x[:3] = torch.tensor([0.0, -0.0, 1e-30])
    encoded = fmt.encode(x, scale=0.9)
    signs = unpack_signs(encoded.signs, 0, x.numel(), torch.int64).tolist()
    codes = load_codes(encoded.codes).tolist()
    scale = float(encoded.scale)
    oracle = [ladder_encode(value, fmt, scale) for value in x.tolist()]
    assert list(zip(signs, codes, strict=True)) == oracle


def test_the_papers_ladder_spans_a_factor_of_sixty():
    fmt = get("ladder12")
    assert fmt == Ladder(bits=12, base_precision=0.001)
    assert round(fmt.dynamic_range, 1) == 60.0


@pytest.mark.parametrize("bits", WIDTHS)
def test_default_base_precision_keeps_the_range_of_twelve_bits(bits):
    assert get(f"ladder{bits}") == Ladder(bits)
    assert Ladder(bits).log_range == pytest.approx(4.095, rel=1e-12)


@pytest.mark.parametrize(
    "name",
    ["ladder8+range30", "ladder8+range1.5", "ladder12+range1000", "ladder2+range1e30"]
    + ["ladder16+range123.456", "ladder8+range60"],
)
def test_a_ladder_of_another_range_has_a_name(name):
    bits, span = name.removeprefix("ladder").split("+range")
    fmt = get(name)
    assert fmt.bits == int(bits)
    assert fmt.dynamic_range == pytest.approx(float(span), rel=1e-12)
    assert name_of(fmt) == name
    assert get(name_of(fmt)) == fmt


def test_names_of_ladders_are_short_or_absent():
    assert name_of(get("ladder8+range30.0")) == "ladder8+range30"
    assert name_of(get("ladder8+range2000000")) == "ladder8+range2e6"
    assert name_of(Ladder(8)) == "ladder8"
    assert name_of(Ladder(8, 0.02)) == "Ladder(bits=8, base_precision=0.02)"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ladder99+range30", r"must have 2 to 16 bits and a range.*; got 'ladder99\+range30'"),
        ("ladder8+range1", r"a range greater than 1, .*; got 'ladder8\+range1'. Name it like"),
        ("ladder8+range0", r"a range greater than 1, .*; got 'ladder8\+range0'"),
        ("ladder8+range1e400", r"a range greater than 1, .*; got 'ladder8\+range1e400'"),
        ("ladder16+range1.01", "`base_precision` must be at least 1e-06"),
        ("ladder8+range1e40", "must be at most 87.0 .* Use fewer bits or a smaller"),
        ("ladder8+range", "Unknown format 'ladder8.range'; .* named like 'ladder8.range30'"),
        ("ladder8+range-3", "Unknown format 'ladder8.range-3'"),
        ("ladder8+wide", "Unknown format 'ladder8.wide'"),
    ],
)
def test_nonsense_in_a_ladders_name_is_refused(name, text):
    with pytest.raises(ValueError, match=text):
        get(name)


def test_repr_shows_every_number_and_equal_formats_are_interchangeable():
    fmt = Ladder(8)
    assert repr(fmt) == f"Ladder(bits=8, base_precision={0.001 * 4095 / 255})"
    assert len({fmt, Ladder(8), get("ladder8"), get(fmt)}) == 1


finite = st.floats(-(2.0**60), 2.0**60, width=32, allow_nan=False, allow_subnormal=False)
tensors = st.lists(finite, min_size=1, max_size=40).filter(any).map(torch.tensor)
# Those that scale by the tensor's largest magnitude; minifloats have tests of their own.
formats = st.sampled_from([get(name) for name in names() if name.startswith(("ladder", "lns"))])


def quantizable(x):
    # The scale must be a normal number.
    return float(x.abs().max()) > 1e-30


@settings(max_examples=200, deadline=None)
@given(tensors.filter(quantizable), formats)
def test_quantize_is_idempotent_sign_symmetric_and_bounded(x, fmt):
    once = fmt.quantize(x)
    assert torch.equal(fmt.quantize(once), once)
    nonzero = x != 0
    assert torch.equal(fmt.quantize(-x)[nonzero], -once[nonzero])
    inside = x.abs() >= x.abs().max() * fmt.smallest * 1.0001
    error = ((once - x).abs() / x.abs())[inside]
    assert bool((error <= fmt.max_relative_error * (1 + 1e-4) + 1e-6).all())


@settings(max_examples=100, deadline=None)
@given(tensors.filter(quantizable), formats)
def test_quantize_is_monotone(x, fmt):
    ordered = x.sort().values
    nonzero = ordered[ordered != 0]
    assert bool((fmt.quantize(nonzero).diff() >= 0).all())


@settings(max_examples=100, deadline=None)
@given(tensors.filter(quantizable), formats, st.integers(-20, 20))
def test_quantize_commutes_with_powers_of_two(x, fmt, exponent):
    # Values that a power of two would push out of float32's normal range are no test of the law.
    x = torch.where(x.abs() < 2.0**-100, 0.0, x)
    assert torch.equal(fmt.quantize(x * 2.0**exponent), fmt.quantize(x) * 2.0**exponent)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_decode_of_encode_is_quantize_in_every_dtype(dtype, axis):
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(1)).to(dtype)
    for fmt in (Ladder(4), Ladder(8), Ladder(12)):
        y = fmt.quantize(x, axis=axis)
        assert y.dtype == dtype
        assert y.shape == x.shape
        assert torch.equal(fmt.decode(fmt.encode(x, axis=axis)), y)
        assert len(y.unique()) > 20 or fmt.bits == 4


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,), (2, 3, 4), (2, 1, 3, 2, 2)])
def test_any_shape_keeps_its_shape(shape):
    x = torch.ones(shape)
    y = Ladder(8).quantize(x)
    assert y.shape == x.shape
    assert torch.equal(y, x)


def test_strides_do_not_matter():
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    y = Ladder(8).quantize(x)
    assert torch.equal(Ladder(8).quantize(x.t()), y.t())
    assert torch.equal(
        Ladder(8).quantize(x[:, ::2], axis=0), Ladder(8).quantize(x[:, ::2].clone(), axis=0)
    )


def test_each_index_of_the_axis_has_its_own_scale():
    x = torch.tensor([[1.0, 0.5], [100.0, 50.0]])
    encoded = Ladder(8).encode(x, axis=0)
    assert encoded.scale.tolist() == [[1.0], [100.0]]
    assert torch.equal(encoded.codes[0], encoded.codes[1])


def test_out_of_range_values_saturate():
    fmt = Ladder(8)
    codes = fmt.encode(torch.tensor([5.0, 1e-20, 0.0, -0.0]), scale=1.0)
    assert codes.codes.tolist() == [0, 255, 255, 255]
    assert bool((fmt.decode(codes) > 0).all())


def test_stochastic_rounding_hits_the_two_neighbours_and_keeps_the_mean():
    fmt, n = Ladder(4), 200_000
    high, low = math.exp(-3 * fmt.base_precision), math.exp(-4 * fmt.base_precision)
    value = low + 0.3 * (high - low)
    x = torch.full((n,), value)
    encoded = fmt.encode(x, rounding="stochastic", generator=CounterSource(1), scale=1.0)
    assert set(encoded.codes.tolist()) == {3, 4}
    share = float((encoded.codes == 3).double().mean())
    assert abs(share - 0.3) < 3 * (0.3 * 0.7 / n) ** 0.5


def test_stochastic_codes_do_not_depend_on_chunks_or_threads():
    fmt = Ladder(8)
    x = torch.rand(1000, generator=torch.Generator().manual_seed(0)) + 0.01
    whole = fmt.encode(x, rounding="stochastic", generator=CounterSource(1, "w"), scale=1.0).codes
    parts = [
        fmt.encode(
            x[i : i + 37], rounding="stochastic", generator=CounterSource(1, "w", i), scale=1.0
        ).codes
        for i in range(0, 1000, 37)
    ]
    assert torch.equal(torch.cat(parts), whole)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        again = fmt.encode(
            x, rounding="stochastic", generator=CounterSource(1, "w"), scale=1.0
        ).codes
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(again, whole)


def test_a_torch_generator_repeats_with_its_seed_and_moves_on():
    fmt = Ladder(4)
    x = torch.rand(500, generator=torch.Generator().manual_seed(0)) + 0.01

    def draw(generator):
        return fmt.quantize(x, rounding="stochastic", generator=generator)

    generator = torch.Generator().manual_seed(3)
    first, second = draw(generator), draw(generator)
    assert torch.equal(first, draw(torch.Generator().manual_seed(3)))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("bits", [-1, 0, 1, 17, 32])
def test_bits_out_of_range_are_refused(bits):
    with pytest.raises(ValueError, match=f"`bits` must be from 2 to 16; got bits={bits}"):
        Ladder(bits)


@pytest.mark.parametrize("bits", [8.0, "8", True, None])
def test_bits_that_are_no_integer_are_refused(bits):
    with pytest.raises(TypeError, match="`bits` must be an integer; got"):
        Ladder(bits)


@pytest.mark.parametrize("base_precision", [0.0, -0.001, 1e-9, math.nan])
def test_base_precision_out_of_range_is_refused(base_precision):
    with pytest.raises(ValueError, match="`base_precision` must be at least 1e-06"):
        Ladder(8, base_precision)


@pytest.mark.parametrize(("bits", "base_precision"), [(8, 0.5), (16, 0.01), (2, math.inf)])
def test_a_range_beyond_float32_is_refused(bits, base_precision):
    with pytest.raises(ValueError, match=r"must be at most 87.0 .* Use fewer bits or a smaller"):
        Ladder(bits, base_precision)


def test_unknown_names_list_the_formats():
    with pytest.raises(ValueError, match="Unknown format 'ladder9000'; the formats are: ladder2, "):
        get("ladder9000")
    with pytest.raises(
        TypeError, match="A format is a name, or a value with `quantize`.*; got int"
    ):
        get(8)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_refused(bad):
    with pytest.raises(ValueError, match="`x` must be finite; got 1 NaN or infinite of 2 values"):
        Ladder(8).quantize(torch.tensor([1.0, bad]))


def test_values_that_are_no_floats_are_refused():
    with pytest.raises(TypeError, match="real floating-point tensor; got torch.int64"):
        Ladder(8).quantize(torch.arange(3))
    with pytest.raises(TypeError, match="real floating-point tensor; got torch.complex64"):
        Ladder(8).quantize(torch.ones(3, dtype=torch.complex64))
    with pytest.raises(TypeError, match="real floating-point tensor; got list"):
        Ladder(8).quantize([1.0])


@pytest.mark.parametrize("axis", [None, 0])
def test_all_zero_groups_are_refused(axis):
    x = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    with pytest.raises(ValueError, match="`scale` must be positive and finite; got .*init_zeros_"):
        Ladder(8).quantize(x, axis=axis)


@pytest.mark.parametrize("axis", [2, -3])
def test_an_axis_that_does_not_exist_is_refused(axis):
    with pytest.raises(ValueError, match=rf"from -2 to 1; got axis={axis} for shape \(2, 2\)"):
        Ladder(8).quantize(torch.ones(2, 2), axis=axis)


def test_a_scale_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"must broadcast to the tensor's shape \(3,\); got shape"):
        Ladder(8).encode(torch.ones(3), scale=torch.ones(4, 1))


def test_rounding_mistakes_are_refused():
    x = torch.ones(2)
    with pytest.raises(ValueError, match="must be 'nearest' or 'stochastic'; got 'up'"):
        Ladder(8).quantize(x, rounding="up")
    with pytest.raises(ValueError, match="`rounding='stochastic'` needs a `generator`; got None"):
        Ladder(8).quantize(x, rounding="stochastic")
    with pytest.raises(TypeError, match="or a rung.formats.CounterSource; got int"):
        Ladder(8).quantize(x, rounding="stochastic", generator=3)
    with pytest.raises(ValueError, match="`offset` must be .* 0 or more; got -1"):
        CounterSource(0, offset=-1)

import math

import gfloat
import ml_dtypes
import numpy as np
import pytest
import torch
from gfloat import formats as gfloat_formats
from hypothesis import given, settings
from hypothesis import strategies as st

from rung.formats import CounterSource, Encoded, FixedPoint, Minifloat, get, name_of, names

# ml_dtypes' (or NumPy's) type and gfloat's format of each name.
TYPES = {
    "fp8_e4m3": (ml_dtypes.float8_e4m3fn, "ocp_e4m3"),
    "fp8_e5m2": (ml_dtypes.float8_e5m2, "ocp_e5m2"),
    "fp6_e3m2": (ml_dtypes.float6_e3m2fn, "ocp_e3m2"),
    "fp6_e2m3": (ml_dtypes.float6_e2m3fn, "ocp_e2m3"),
    "fp4_e2m1": (ml_dtypes.float4_e2m1fn, "ocp_e2m1"),
    "bf16": (ml_dtypes.bfloat16, "bfloat16"),
    "fp16": (np.float16, "binary16"),
}
SMALL = [name for name in TYPES if name.startswith("fp") and name != "fp16"]
ODD = [
    Minifloat(1, 2),
    Minifloat(2, 0),
    Minifloat(3, 4, bias=5),
    Minifloat(4, 3, subnormals=False),
    Minifloat(3, 2, specials="ieee"),
    Minifloat(4, 0, specials="nan"),
    Minifloat(3, 3, bias=-4, specials="nan", subnormals=False),
]


def info(name):
    return getattr(gfloat_formats, f"format_info_{TYPES[name][1]}")


def codes_of(fmt):
    return torch.arange(1 << fmt.bits, dtype=torch.int32).to(fmt.code_dtype)


def decode(fmt, codes, dtype=torch.float32):
    return fmt.decode(Encoded(codes, None, torch.ones((), dtype=dtype), dtype))


def same_bits(left, right):
    left, right = torch.as_tensor(left), torch.as_tensor(right)
    nan = torch.isnan(left)
    assert torch.equal(nan, torch.isnan(right))
    assert torch.equal(left[~nan], right[~nan])
    assert torch.equal(torch.signbit(left[~nan]), torch.signbit(right[~nan]))


def dense():
    """Every sign, exponent and upper mantissa of float32 with lower bits around a tie."""
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    return (upper[:, None] | lower).reshape(-1).view(np.float32)


# -- codes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TYPES)
def test_every_code_has_the_value_that_others_give_it(name):
    fmt, (other, _) = get(name), TYPES[name]
    values = decode(fmt, codes_of(fmt))
    stored = np.arange(1 << fmt.bits).astype(np.uint8 if fmt.bits <= 8 else np.uint16)
    same_bits(values, stored.view(other).astype(np.float32))
    same_bits(values.double(), gfloat.decode_ndarray(info(name), stored.astype(np.int64)))


def test_every_code_of_int8_is_an_integer_over_64():
    fmt = get("int8")
    values = decode(fmt, codes_of(fmt))
    integers = np.arange(256).astype(np.uint8)
    same_bits(values, (integers.view(np.int8) / 64).astype(np.float32))
    wanted = gfloat.decode_ndarray(gfloat_formats.format_info_ocp_int8, integers.astype(np.int64))
    same_bits(values.double(), wanted)


@pytest.mark.parametrize("fmt", [*map(get, TYPES), *ODD], ids=name_of)
def test_every_number_encodes_to_its_code(fmt):
    codes = codes_of(fmt)
    values = decode(fmt, codes)
    again = fmt.encode(values, nonfinite="propagate").codes
    unique = ~torch.isnan(values)
    if not fmt.subnormals:  # zero has more codes than one
        unique &= values != 0
    assert torch.equal(again[unique], codes[unique])
    assert torch.equal(torch.isnan(decode(fmt, again)), torch.isnan(values))


@pytest.mark.parametrize("fmt", [*map(get, TYPES), *ODD], ids=name_of)
def test_derived_numbers_are_those_of_the_codes(fmt):
    values = decode(fmt, codes_of(fmt), torch.float64)
    finite = values[torch.isfinite(values)].abs()
    positive = finite[finite > 0]
    assert (float(finite.max()), float(positive.min())) == (fmt.largest, fmt.smallest)
    assert fmt.emax == math.floor(math.log2(fmt.largest))
    middle = fmt.smallest_normal * (1 + 2.0 ** -(fmt.mantissa_bits + 1))
    if middle < fmt.largest:
        worst = abs(float(fmt.quantize(torch.tensor(middle, dtype=torch.float64))) - middle)
        assert worst / middle == pytest.approx(fmt.max_relative_error)


# -- rounding ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TYPES)
def test_a_cast_equals_that_of_ml_dtypes(name):
    x, (other, _) = dense(), TYPES[name]
    fmt = get(name)
    finite = x[np.isfinite(x)]
    bounded = np.clip(finite, -fmt.largest, fmt.largest).astype(np.float32)
    wanted = bounded.astype(other)
    same_bits(fmt.quantize(torch.from_numpy(finite)), wanted.astype(np.float32))
    codes = fmt.encode(torch.from_numpy(finite)).codes.numpy()
    np.testing.assert_array_equal(
        codes.view(wanted.view(codes.dtype).dtype), wanted.view(codes.dtype)
    )
    if fmt.specials == "none":
        return
    over = Minifloat(fmt.exponent_bits, fmt.mantissa_bits, None, fmt.specials, True, "nonfinite")
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = x.astype(other).astype(np.float32)
    same_bits(over.quantize(torch.from_numpy(x), nonfinite="propagate"), wanted)


@pytest.mark.parametrize("name", TYPES)
def test_a_cast_of_float64_is_rounded_once(name):
    fmt = get(name)
    values = decode(fmt, codes_of(fmt), torch.float64)
    values = values[torch.isfinite(values)].sort().values.unique()
    ties = (values[1:] + values[:-1]) / 2
    x = torch.cat((ties, ties * (1 + 2.0**-50), ties * (1 - 2.0**-50)))
    wanted = gfloat.round_ndarray(info(name), x.numpy(), sat=True)
    same_bits(fmt.quantize(x), wanted)


@pytest.mark.parametrize("fmt", [*map(get, SMALL), *ODD, FixedPoint(), FixedPoint(5, 2)], ids=str)
def test_rounding_takes_the_nearest_and_of_two_the_even_code(fmt):
    codes = codes_of(fmt)
    values = decode(fmt, codes, torch.float64)
    order = values.argsort(stable=True)
    keep = torch.isfinite(values[order]) & ~torch.signbit(values[order])
    codes, values = codes[order][keep].int(), values[order][keep]
    if isinstance(fmt, Minifloat) and not fmt.subnormals:
        first = values > 0
        codes = torch.cat((torch.zeros(1, dtype=torch.int32), codes[first]))
        values = torch.cat((torch.zeros(1, dtype=torch.float64), values[first]))
    ties = (values[1:] + values[:-1]) / 2
    even = torch.where(codes[1:] % 2 == 0, values[1:], values[:-1])
    if values[1] == fmt.smallest_normal if isinstance(fmt, Minifloat) else False:
        even[0] = 0.0  # both codes may be even
    for dtype in (torch.float32, torch.float64):
        near = ties.to(dtype)
        assert torch.equal(fmt.quantize(near).double(), even)
        up = torch.nextafter(near, torch.full_like(near, math.inf))
        down = torch.nextafter(near, torch.zeros_like(near))
        assert torch.equal(fmt.quantize(up).double(), values[1:])
        assert torch.equal(fmt.quantize(down).double(), values[:-1])
        assert torch.equal(fmt.quantize(-up).double(), -values[1:])
    assert float(fmt.quantize(torch.tensor(1e38))) == fmt.largest
    assert float(fmt.quantize(torch.tensor(-1e38))) == -fmt.largest


def test_zeros_keep_their_signs_where_there_are_two():
    x = torch.tensor([0.0, -0.0, 1e-30, -1e-30])
    for name in SMALL:
        same_bits(get(name).quantize(x), torch.tensor([0.0, -0.0, 0.0, -0.0]))
    same_bits(get("int8").quantize(x), torch.zeros(4))
    same_bits(decode(get("int8"), get("int8").encode(x).codes), torch.zeros(4))


@given(
    exponent_bits=st.integers(1, 5),
    mantissa_bits=st.integers(0, 4),
    specials=st.sampled_from(["none", "nan", "ieee"]),
    subnormals=st.booleans(),
    value=st.floats(-1e5, 1e5, width=32),
)
@settings(max_examples=200, deadline=None)
def test_any_format_rounds_to_a_nearest_code(
    exponent_bits, mantissa_bits, specials, subnormals, value
):
    try:
        fmt = Minifloat(exponent_bits, mantissa_bits, None, specials, subnormals)
    except ValueError:
        return
    values = decode(fmt, codes_of(fmt), torch.float64)
    values = values[torch.isfinite(values)]
    x = torch.tensor(value)
    got = fmt.quantize(x).double()
    assert float((got - x).abs()) == float((values - x.double()).abs().min())
    assert torch.equal(fmt.quantize(got), got)


# -- scales --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", [get("fp8_e4m3"), get("fp4_e2m1"), get("int8"), get("fp16")])
def test_groups_have_their_largest_magnitude_over_the_largest_number(fmt):
    x = torch.randn(2, 3, 10)
    assert float(fmt.encode(x).scale) == 1.0
    for groups, dims, shape in (
        ({"scale": "amax"}, (0, 1, 2), ()),
        ({"axis": 1}, (0, 2), (1, 3, 1)),
        ({"axis": (0, 1), "scale": "amax"}, (2,), (2, 3, 1)),
    ):
        encoded = fmt.encode(x, **groups)
        assert encoded.scale.shape == shape
        largest = x.abs().amax(dims, keepdim=bool(shape))
        assert torch.equal(encoded.scale, largest / fmt.largest)
        assert torch.equal(fmt.decode(encoded), fmt.quantize(x, **groups))
        again = fmt.encode(x, scale=encoded.scale)
        assert torch.equal(again.codes, encoded.codes)
        values = fmt.quantize(x / encoded.scale) * encoded.scale
        assert torch.equal(values, fmt.quantize(x, **groups))
    encoded = fmt.encode(x, block=4)
    assert encoded.scale.shape == (2, 3, 3)
    assert torch.equal(encoded.scale[..., 2], x[..., 8:].abs().amax(-1) / fmt.largest)
    assert torch.equal(fmt.decode(encoded), fmt.quantize(x, block=4))
    assert torch.equal(fmt.quantize(x, block=4, scale=encoded.scale), fmt.quantize(x, block=4))


@pytest.mark.parametrize("fmt", [get("fp8_e5m2"), get("fp4_e2m1"), get("int8"), get("bf16")])
def test_groups_of_zeros_have_scale_one_and_tiny_ones_a_normal_scale(fmt):
    x = torch.tensor([[0.0, -0.0], [1.0, 2.0], [1e-45, 0.0]])
    encoded = fmt.encode(x, axis=0)
    assert float(encoded.scale[0]) == 1.0
    assert float(encoded.scale[2]) == torch.finfo(torch.float32).tiny
    assert torch.equal(fmt.decode(encoded)[0], torch.zeros(2))
    assert torch.isfinite(fmt.quantize(x, axis=0)).all()


@pytest.mark.parametrize("name", [*TYPES, "int8"])
def test_finite_values_stay_finite(name):
    fmt = get(name)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        x = torch.tensor([torch.finfo(dtype).max, 1.0], dtype=dtype)
        for groups in ({}, {"scale": "amax"}, {"scale": 3e38}):
            assert torch.isfinite(fmt.quantize(x, **groups)).all()
            assert torch.isfinite(fmt.decode(fmt.encode(x, **groups))).all()


@pytest.mark.parametrize("name", [*TYPES, "int8"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_dtypes_keep_theirs_and_have_the_codes_of_float32(name, dtype):
    x, fmt = torch.randn(500).to(dtype), get(name)
    assert fmt.quantize(x).dtype == dtype
    assert torch.equal(fmt.encode(x).codes, fmt.encode(x.float()).codes)


@pytest.mark.parametrize(
    "x",
    [
        torch.tensor(0.3),
        torch.empty(0),
        torch.empty(0, 4),
        torch.randn(3, 4, 5, 2, 2),
        torch.randn(6, 8).t(),
        torch.randn(9)[::2],
        torch.randn(4, 1).expand(4, 3),
    ],
    ids=["0d", "empty", "empty2d", "5d", "transposed", "strided", "expanded"],
)
@pytest.mark.parametrize("name", [*TYPES, "int8"])
def test_any_shape_and_stride(name, x):
    fmt = get(name)
    for groups in ({}, {"scale": "amax"}):
        encoded = fmt.encode(x, **groups)
        assert encoded.codes.shape == x.shape
        assert encoded.codes.is_contiguous()
        quantized = fmt.quantize(x, **groups)
        assert torch.equal(fmt.decode(encoded), quantized)
        assert torch.equal(fmt.quantize(x.clone().contiguous(), **groups), quantized)


# -- NaN and infinity ----------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [{}, {"axis": 0}, {"scale": "amax"}])
def test_nan_and_infinity_stay_where_the_format_has_them(groups):
    x = torch.tensor([[1.0, math.nan, 2.0], [math.inf, 1.0, -math.inf]])
    clean = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]])
    for name in ("fp8_e5m2", "bf16", "fp16", "fp8_e4m3"):
        fmt = get(name)
        values = fmt.quantize(x, nonfinite="propagate", **groups)
        finite = torch.isfinite(x)
        assert torch.equal(values[finite], fmt.quantize(clean, **groups)[finite])
        if fmt.specials == "ieee":
            assert torch.equal(values[torch.isinf(x)], x[torch.isinf(x)])
            assert torch.equal(torch.isnan(values), torch.isnan(x))
        else:
            assert torch.equal(torch.isnan(values), ~finite)
        same_bits(fmt.decode(fmt.encode(x, nonfinite="propagate", **groups)), values)


def test_nan_and_infinity_spoil_their_group_in_formats_without():
    x = torch.tensor([[1.0, math.nan], [1.0, 2.0], [math.inf, 1.0]])
    for name in ("fp6_e3m2", "fp4_e2m1", "int8"):
        fmt = get(name)
        passed = fmt.quantize(x, axis=0, nonfinite="propagate")
        assert torch.isnan(passed).tolist() == [[True] * 2, [False] * 2, [True] * 2]
        encoded = fmt.encode(x, axis=0, nonfinite="propagate")
        same_bits(fmt.decode(encoded), passed)
        assert torch.isnan(fmt.quantize(x, nonfinite="propagate")).all()
    for name in (*TYPES, "int8"):
        with pytest.raises(ValueError, match=r"must be finite; got 2 NaN or infinite of 6 values"):
            get(name).quantize(x)
        with pytest.raises(ValueError, match=r"no NaN with nonfinite='saturate'.*got 1 NaN of 6"):
            get(name).encode(x, nonfinite="saturate")
        with pytest.raises(ValueError, match=r"'raise', 'propagate' or 'saturate'; got ''"):
            get(name).quantize(x, nonfinite="")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_infinity_saturates_to_the_largest_number(dtype):
    x = torch.tensor([math.inf, 1.0, -math.inf, -2.0], dtype=dtype)
    for name in (*TYPES, "int8"):
        fmt = get(name)
        values = fmt.quantize(x, nonfinite="saturate")
        assert values[::2].tolist() == [fmt.largest, -fmt.largest]
        if name == "bf16":  # its scale would be subnormal
            continue
        scaled = fmt.quantize(x, scale="amax", nonfinite="saturate")
        assert scaled[::2].abs().tolist() == pytest.approx([2.0, 2.0])
        assert torch.equal(scaled[3], -scaled[0])


# -- stochastic rounding -------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*TYPES, "int8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stochastic_rounding_keeps_the_mean_and_takes_a_neighbour(name, dtype):
    fmt, count = get(name), 40_000
    values = decode(fmt, codes_of(fmt), torch.float64)
    values = values[torch.isfinite(values)].unique()
    for value in (0.3, -0.0077, 1.37, 0.9 * fmt.largest):
        x = torch.full((count,), value, dtype=dtype)
        rounded = fmt.quantize(x, rounding="stochastic", generator=CounterSource(2, str(value)))
        kinds, exact = rounded.double().unique(), float(x[0])
        below, above = values[values <= exact].max(), values[values >= exact].min()
        assert bool(((kinds == below) | (kinds == above)).all())
        step = float(above - below)
        chance = (exact - float(below)) / step if step else 0.0
        sigma = math.sqrt(chance * (1 - chance) / count) * step
        assert abs(float(rounded.double().mean()) - exact) <= 3 * sigma + 1e-7 * abs(exact)


def test_stochastic_codes_depend_on_the_element_alone():
    fmt, x = get("fp4_e2m1"), torch.randn(1000)
    rounding = {"rounding": "stochastic", "scale": 0.3}
    whole = fmt.encode(x, generator=CounterSource(1, "w"), **rounding)
    part = fmt.encode(x[600:], generator=CounterSource(1, "w", 600), **rounding)
    assert torch.equal(whole.codes[600:], part.codes)
    assert torch.equal(
        fmt.decode(whole), fmt.quantize(x, generator=CounterSource(1, "w"), **rounding)
    )


# -- names and errors ----------------------------------------------------------------------------


def test_names_and_formats_are_one_to_one():
    assert {*TYPES, "int8"} <= set(names())
    for name in (*TYPES, "int8"):
        fmt = get(name)
        assert name_of(fmt) == name
        assert eval(repr(fmt)) == fmt
        assert hash(fmt) == hash(get(name))
    assert Minifloat(4, 3, specials="nan") == get("fp8_e4m3")
    assert name_of(Minifloat(3, 3)).startswith("Minifloat(exponent_bits=3, mantissa_bits=3, bias=3")


def test_bad_numbers_are_refused():
    with pytest.raises(ValueError, match=r"`exponent_bits` must be from 1 to 8; got .*=9"):
        Minifloat(9, 2)
    with pytest.raises(ValueError, match=r"`mantissa_bits` must be from 0 to 10; got .*=-1"):
        Minifloat(3, -1)
    with pytest.raises(TypeError, match=r"`mantissa_bits` must be an integer; got 2\.0"):
        Minifloat(3, 2.0)
    with pytest.raises(TypeError, match=r"`bias` must be an integer; got '7'"):
        Minifloat(3, 2, "7")
    with pytest.raises(ValueError, match=r"`specials` must be one of 'none', 'nan', 'ieee'; got"):
        Minifloat(3, 2, specials="inf")
    with pytest.raises(ValueError, match=r"`overflow` must be one of 'saturate', .*; got 'wrap'"):
        Minifloat(3, 2, overflow="wrap")
    with pytest.raises(ValueError, match=r"needs an infinity or a NaN to overflow to; got"):
        Minifloat(3, 2, overflow="nonfinite")
    with pytest.raises(ValueError, match=r"needs mantissa bits to tell NaN from infinity"):
        Minifloat(3, 0, specials="ieee")
    with pytest.raises(ValueError, match=r"needs a number above 0; got none in Minifloat\("):
        Minifloat(1, 0, specials="nan")
    with pytest.raises(ValueError, match=r"must be a float32, .* largest exponent of 128\."):
        Minifloat(8, 3)
    with pytest.raises(ValueError, match=r"must be a float32, .*\(bias=150\)"):
        Minifloat(3, 2, 150)
    for bits, fraction in ((1, 0), (17, 6), (8, 9), (8, -1)):
        with pytest.raises(ValueError, match=r"`(fraction_)?bits` must be from \d+ to \d+; got"):
            FixedPoint(bits, fraction)
    with pytest.raises(TypeError, match=r"`bits` must be an integer; got 8\.0"):
        FixedPoint(8.0)


@pytest.mark.parametrize("fmt", [get("fp8_e4m3"), get("int8")])
def test_bad_arguments_are_refused(fmt):
    x = torch.randn(3, 4)
    with pytest.raises(ValueError, match=r"from -2 to 1; got axis=2 for shape \(3, 4\)"):
        fmt.quantize(x, axis=2)
    with pytest.raises(ValueError, match=r"`block` must be 1 or more.*got block=0 for shape"):
        fmt.quantize(x, block=0)
    with pytest.raises(ValueError, match=r"`axis` or `block`, not both; got axis=0 and block=2"):
        fmt.encode(x, axis=0, block=2)
    with pytest.raises(ValueError, match=r"`scale` of blocks of 2 must have shape \(3, 2\)"):
        fmt.quantize(x, block=2, scale=torch.ones(3))
    for scale in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"`scale` must be positive and finite; got 1 of 1"):
            fmt.quantize(x, scale=scale)
    with pytest.raises(ValueError, match=r"'amax' \(from the largest magnitude\) or None; got 'x'"):
        fmt.quantize(x, scale="x")
    with pytest.raises(ValueError, match=r"`scale` must broadcast to the tensor's shape \(3, 4\)"):
        fmt.quantize(x, scale=torch.ones(3))
    with pytest.raises(ValueError, match=r"`rounding` must be 'nearest' or 'stochastic'; got 'up'"):
        fmt.encode(x, rounding="up")
    with pytest.raises(ValueError, match=r"`rounding='stochastic'` needs a `generator`; got None"):
        fmt.quantize(x, rounding="stochastic")
    with pytest.raises(TypeError, match=r"real floating-point tensor; got torch\.int64"):
        fmt.quantize(torch.arange(3))


def test_lazily_negated_input_is_read_with_its_signs():
    x = torch.randn(6, dtype=torch.complex64).conj().imag
    assert x.is_neg()
    for name in ("fp8_e4m3", "bf16"):
        assert torch.equal(get(name).quantize(x), get(name).quantize(x.clone()))

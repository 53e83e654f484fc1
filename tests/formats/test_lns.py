import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import lns_float64

from rung.formats import LNS, CounterSource, get, name_of, names
from rung.formats.reference import lns_decode, lns_encode
from rung.kernels.lns import exponents, is_negative

REQUIRED = [(8, 8), (8, 1), (6, 4), (4, 2), (16, 2048)]
FORMATS = [
    LNS(8, 8),
    LNS(8, 8, zero=True),
    LNS(8, 8, zero=True, underflow="flush"),
    LNS(6, 4, power_of_two_scale=True),
    LNS(4, 2),
    LNS(3, 1, zero=True),
    LNS(8, 1),
    LNS(12, 128),
    LNS(16, 2048, zero=True),
]


def spread(count, seed=0, octaves=30):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, generator=generator) * torch.exp2(
        torch.rand(count, generator=generator) * octaves - octaves
    )


def compare_with_float64(bits, gamma, count):
    fmt = LNS(bits, gamma)
    x = spread(count)
    encoded = fmt.encode(x)
    amax = float(x.abs().max())
    position, wanted = lns_float64.encode(x.numpy(), bits, gamma, amax)
    e = exponents(encoded.codes, bits).numpy()
    # float64 logarithms can't decide what lies nearer to a boundary than they are wrong.
    tie = np.abs(position - np.floor(position) - 0.5) < 1e-8
    assert tie.mean() < 1e-4
    np.testing.assert_array_equal(e[~tie], wanted[~tie])
    assert np.abs(e[tie] - wanted[tie]).max(initial=0) <= 1
    values = lns_float64.decode(x.numpy() < 0, e, bits, gamma, amax)
    normal = np.abs(values) > 1e-37
    quantized = fmt.quantize(x).numpy()
    np.testing.assert_allclose(quantized[normal], values[normal], rtol=2.0**-22)
    np.testing.assert_allclose(quantized[~normal], values[~normal], atol=1e-37)


@pytest.mark.parametrize(("bits", "gamma"), REQUIRED)
def test_quantizing_equals_the_float64_oracle(bits, gamma):
    compare_with_float64(bits, gamma, 200_000)


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "gamma"), REQUIRED)
def test_quantizing_equals_the_float64_oracle_on_ten_million_values(bits, gamma):
    compare_with_float64(bits, gamma, 10_000_000)


@pytest.mark.parametrize("fmt", FORMATS, ids=name_of)
def test_quantizing_equals_the_scalar_oracle(fmt):
    x = torch.cat((spread(300), torch.zeros(2), -torch.zeros(1)))
    encoded = fmt.encode(x)
    scale = float(encoded.scale)
    for value, code, result in zip(x, encoded.codes, fmt.decode(encoded), strict=True):
        sign, e = lns_encode(float(value), fmt, scale)
        assert int(exponents(code, fmt.bits)) == e
        assert bool(is_negative(code, fmt.bits)) == (sign < 0)
        assert float(result) == lns_decode(sign, e, fmt, scale)


@pytest.mark.parametrize("fmt", FORMATS, ids=name_of)
def test_every_code_decodes_and_encodes_to_itself(fmt):
    codes = torch.arange(1 << fmt.bits, dtype=torch.int32).to(fmt.code_dtype)
    scale = torch.tensor(1.0 if fmt.power_of_two_scale else 1.37)
    values = fmt.decode_codes(codes, scale)
    if fmt.octaves < 120:
        again = fmt.encode(values, scale=scale)
        assert torch.equal(again.codes, codes)
    magnitudes = values[: fmt.levels]
    assert float(magnitudes[-1]) == float(scale)
    assert bool((magnitudes.diff() > 0).all())
    assert torch.equal(values[fmt.levels :], -magnitudes)
    assert (float(magnitudes[0]) == 0) == (fmt.zero or fmt.octaves > 149)
    smallest = float(magnitudes[int(fmt.zero)])
    assert smallest == pytest.approx(float(scale) * fmt.smallest, rel=1e-6, abs=1e-44)


@pytest.mark.parametrize("fmt", FORMATS, ids=name_of)
def test_quantizing_twice_changes_nothing(fmt):
    x = spread(5000).reshape(50, 100)
    for groups in ({}, {"axis": 0}, {"axis": 1}, {"axis": (0,)}, {"block": 32}):
        once = fmt.quantize(x, **groups)
        assert torch.equal(fmt.quantize(once, **groups), once)


@pytest.mark.parametrize("fmt", FORMATS, ids=name_of)
def test_quantizing_is_monotone_and_symmetric(fmt):
    x = spread(5000).sort().values
    quantized = fmt.quantize(x)
    assert bool((quantized.abs()[x > 0].diff() >= 0).all())
    assert torch.equal(fmt.quantize(-x), -quantized)


@given(st.integers(-20, 20), st.sampled_from(FORMATS), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_scaling_by_octaves_scales_the_result(octaves, fmt, seed):
    x = spread(200, seed, octaves=12)
    once = fmt.quantize(x)
    assert torch.equal(fmt.quantize(x * 2.0**octaves), once * 2.0**octaves)


@given(st.integers(-30, 30), st.sampled_from([LNS(8, 8), LNS(6, 4), LNS(16, 2048)]))
@settings(max_examples=60, deadline=None)
def test_scaling_by_a_power_of_the_base_moves_codes(rungs, fmt):
    # x on rungs: boundaries are half a rung away, so that rounding the factor can't matter.
    e = torch.arange(max(0, -rungs), min(fmt.levels, fmt.levels - rungs))
    x = fmt.decode_codes(e.to(fmt.code_dtype), torch.tensor(1.0))
    moved = fmt.encode(x * 2.0 ** (rungs / fmt.base_factor), scale=1.0)
    assert torch.equal(exponents(moved.codes, fmt.bits), (e + rungs).to(torch.int32))


@given(st.floats(2.0**-14, 1.0, width=32), st.sampled_from(FORMATS))
@settings(max_examples=200, deadline=None)
def test_the_relative_error_stays_within_its_bound(value, fmt):
    if value < fmt.smallest:
        return
    quantized = float(fmt.quantize(torch.tensor([value, 1.0]))[0])
    assert abs(quantized - value) / value <= fmt.max_relative_error * (1 + 1e-5)


def test_every_float32_next_to_a_boundary_rounds_to_the_right_side():
    fmt, scale = LNS(8, 8), np.float32(1.3)
    for e in range(1, 127):
        # (x / scale)^16 against 2^(2 (e - last) - 1): exact in Python's integers.
        boundary = float(scale) * 2.0 ** ((e - 127 - 0.5) / 8)
        x = np.float32(boundary)
        values = [x]
        for _ in range(4):
            values = [np.nextafter(values[0], np.float32(0)), *values]
            values.append(np.nextafter(values[-1], np.float32(2)))
        codes = fmt.encode(torch.tensor(np.array(values)), scale=float(scale)).codes.tolist()
        for value, code in zip(values, codes, strict=True):
            m, s = float(value).as_integer_ratio(), float(scale).as_integer_ratio()
            left = (m[0] * s[1]) ** 16 << (2 * (127 - e) + 1)
            assert code == (e if left > (m[1] * s[0]) ** 16 else e - 1)


@pytest.mark.parametrize("fmt", [LNS(8, 8), LNS(8, 8, zero=True, underflow="flush"), LNS(4, 2)])
def test_stochastic_rounding_keeps_the_mean(fmt):
    count = 200_000
    for value in (0.7, 0.013, 0.3 * fmt.smallest if fmt.underflow == "flush" else 0.5):
        x = torch.full((count,), value)
        source = CounterSource(3, str(value))
        rounded = fmt.quantize(x, rounding="stochastic", generator=source, scale=1.0)
        kinds = rounded.unique()
        assert 1 <= len(kinds) <= 2
        if value < fmt.smallest and fmt.underflow == "saturate":
            continue
        spread_of_mean = float(rounded.double().std()) / math.sqrt(count)
        assert abs(float(rounded.double().mean()) - value) <= 4.5 * spread_of_mean + 1e-7 * value


def test_stochastic_codes_depend_on_the_element_alone():
    fmt, x = LNS(8, 8), spread(1000)
    whole = fmt.encode(
        x, rounding="stochastic", generator=CounterSource(1, "w"), scale=float(x.abs().max())
    )
    part = fmt.encode(
        x[600:],
        rounding="stochastic",
        generator=CounterSource(1, "w", 600),
        scale=float(x.abs().max()),
    )
    assert torch.equal(whole.codes[600:], part.codes)
    torch.manual_seed(0)
    transposed = fmt.encode(
        x.reshape(50, 20), 1, rounding="stochastic", generator=CounterSource(1, "w")
    )
    own = x.reshape(50, 20).abs().amax(0, keepdim=True)
    direct = fmt.encode(
        x.reshape(50, 20), rounding="stochastic", generator=CounterSource(1, "w"), scale=own
    )
    assert torch.equal(transposed.codes, direct.codes)


def test_zeros_become_the_smallest_code_or_stay_zero():
    x = torch.tensor([1.0, 0.0, -0.0, 1e-30, -1e-30])
    without = LNS(8, 8).quantize(x)
    assert bool((without != 0).all())
    assert torch.equal(without.abs()[1:], torch.full((4,), float(np.float32(LNS(8, 8).smallest))))
    saturating = LNS(8, 8, zero=True).quantize(x)
    assert (saturating != 0).tolist() == [True, False, False, True, True]
    assert LNS(8, 8, zero=True, underflow="flush").quantize(x).tolist() == [1, 0, 0, 0, 0]


@pytest.mark.parametrize("zero", [False, True])
def test_groups_of_zeros_stay_zero(zero):
    x = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    fmt = LNS(8, 8, zero=zero)
    encoded = fmt.encode(x, axis=0)
    assert encoded.scale.flatten().tolist() == [0.0, 2.0]
    assert torch.equal(fmt.decode(encoded)[0], torch.zeros(2))
    assert torch.equal(fmt.quantize(torch.zeros(3)), torch.zeros(3))


def test_scales_by_tensor_channel_row_and_block():
    x = spread(2 * 3 * 10).reshape(2, 3, 10)
    fmt = LNS(8, 8)
    assert fmt.encode(x).scale.shape == ()
    assert fmt.encode(x, axis=1).scale.shape == (1, 3, 1)
    assert fmt.encode(x, axis=(0, 1)).scale.shape == (2, 3, 1)
    encoded = fmt.encode(x, block=4)
    assert encoded.scale.shape == (2, 3, 3)
    assert torch.equal(encoded.scale[..., 2], x[..., 8:].abs().amax(-1))
    assert torch.equal(fmt.decode(encoded), fmt.quantize(x, block=4))
    assert torch.equal(fmt.encode(x, block=4, scale=encoded.scale).codes, encoded.codes)
    row = fmt.quantize(x, axis=(0, 1))
    assert torch.equal(row[1, 2], fmt.quantize(x[1, 2]))


@pytest.mark.parametrize("fmt", FORMATS, ids=name_of)
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
def test_any_shape_and_stride(fmt, x):
    encoded = fmt.encode(x)
    assert encoded.codes.shape == x.shape
    assert encoded.codes.is_contiguous()
    quantized = fmt.quantize(x)
    assert torch.equal(fmt.decode(encoded), quantized)
    assert torch.equal(fmt.quantize(x.clone().contiguous()), quantized)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_dtypes_keep_theirs_and_have_the_codes_of_float32(dtype):
    x = torch.randn(500).to(dtype)
    fmt = LNS(8, 8)
    assert fmt.quantize(x).dtype == dtype
    assert torch.equal(fmt.encode(x).codes, fmt.encode(x.float()).codes)


def test_a_power_of_two_scale_keeps_one_grid():
    fmt = LNS(8, 8, power_of_two_scale=True)
    x = torch.tensor([3.0, 1.0, 0.3])
    assert float(fmt.encode(x).scale) == 4.0
    assert float(fmt.encode(torch.tensor([2.0])).scale) == 2.0
    grid = fmt.quantize(x)
    # A larger neighbour moves the scale and re-rounds nothing.
    assert torch.equal(fmt.quantize(torch.cat((grid, torch.tensor([50.0]))))[:3], grid)


def test_nan_and_infinity_are_refused_or_spoil_their_group():
    x = torch.tensor([[1.0, float("nan")], [1.0, 2.0], [float("inf"), 1.0]])
    for fmt in (LNS(8, 8), LNS(8, 8, zero=True)):
        with pytest.raises(ValueError, match=r"must be finite; got 2 NaN or infinite of 6 values"):
            fmt.quantize(x)
        passed = fmt.quantize(x, axis=0, nonfinite="propagate")
        assert torch.isnan(passed).tolist() == [[True] * 2, [False] * 2, [True] * 2]
        encoded = fmt.encode(x, axis=0, nonfinite="propagate")
        assert torch.equal(torch.isnan(fmt.decode(encoded)), torch.isnan(passed))
        with pytest.raises(ValueError, match=r"`nonfinite` must be 'raise' or 'propagate'; got ''"):
            fmt.quantize(x, nonfinite="")


def test_shifting_gives_the_nearest_of_the_coarse_system():
    fine, coarse = LNS(16, 2048), LNS(8, 8)
    assert coarse.shift_from(fine) == 8
    assert coarse.shift_from(LNS(10, 32)) == 2
    assert coarse.shift_from(coarse) == 0
    for other in (LNS(16, 1024), LNS(6, 2), LNS(16, 2048, zero=True)):
        assert coarse.shift_from(other) is None
    x = spread(4000, octaves=12)
    encoded = fine.encode(x)
    codes, scale = coarse.shifted(encoded.codes, encoded.scale, fine)
    # The same s: scale * 2^(-last / gamma).
    s = float(encoded.scale) * 2.0 ** (-32767 / 2048)
    assert float(scale) == pytest.approx(s * 2.0 ** (127 / 8), rel=1e-6)
    values = coarse.decode_shifted(encoded.codes, encoded.scale, fine)
    assert torch.equal(values, coarse.decode_codes(codes, scale))
    inside = (x.abs() < float(scale)) & (x.abs() > s)
    error = ((values - x) / x).abs()[inside]
    assert len(error) > 3000
    assert float(error.max()) <= coarse.max_relative_error + fine.max_relative_error
    with pytest.raises(ValueError, match=r"gamma_fine = gamma \* 2\^\(B_fine - B\).*got LNS\("):
        coarse.shifted(encoded.codes, encoded.scale, LNS(16, 1024))


def test_derived_numbers():
    fmt = LNS(8, 8)
    assert (fmt.levels, fmt.octaves) == (128, 15.875)
    assert fmt.dynamic_range == pytest.approx(2**15.875)
    assert fmt.max_relative_error == pytest.approx(0.0443, abs=1e-4)
    assert fmt.with_zero().octaves == 15.75
    assert LNS(16, 1).dynamic_range == math.inf
    assert LNS(16, 1).smallest == 0.0


def test_names_and_formats_are_one_to_one():
    assert get("lns8") == LNS(8, 8)
    assert [get(f"lns{bits}").base_factor for bits in range(4, 17)] == [
        1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048,
    ]  # fmt: skip
    assert {"lns4", "lns16"} <= set(names())
    for name in (*names(), "lns8_b4", "lns3", "lns8+zero", "lns6_b1+zero"):
        fmt = get(name)
        assert get(name_of(fmt)) == fmt
        assert hash(fmt) == hash(get(name))
    assert name_of(LNS(8, 8, True, "flush")).startswith("LNS(bits=8, base_factor=8, zero=True")
    assert eval(repr(fmt)) == fmt


def test_bad_numbers_are_refused():
    for bits in (2, 17):
        with pytest.raises(ValueError, match=rf"`bits` must be from 3 to 16; got bits={bits}"):
            LNS(bits, 8)
    for factor in (0, 3, 4096, -8):
        with pytest.raises(ValueError, match=rf"power of two from 1 to 2048.*base_factor={factor}"):
            LNS(8, factor)
    with pytest.raises(TypeError, match=r"`base_factor` must be an integer; got 8\.0"):
        LNS(8, 8.0)
    with pytest.raises(TypeError, match=r"`bits` must be an integer; got True"):
        LNS(True, 8)
    with pytest.raises(ValueError, match=r"`underflow` must be 'saturate' or 'flush'; got 'zero'"):
        LNS(8, 8, underflow="zero")
    with pytest.raises(ValueError, match=r"'flush'` needs a zero to flush to; got zero=False"):
        LNS(8, 8, underflow="flush")


def test_bad_arguments_are_refused():
    fmt, x = LNS(8, 8), torch.randn(3, 4)
    with pytest.raises(ValueError, match=r"from -2 to 1; got axis=2 for shape \(3, 4\)"):
        fmt.quantize(x, axis=2)
    with pytest.raises(ValueError, match=r"name each dimension once; got axis=\(0, -2\)"):
        fmt.quantize(x, axis=(0, -2))
    with pytest.raises(TypeError, match=r"`axis` must be an integer; got 1\.0"):
        fmt.quantize(x, axis=1.0)
    with pytest.raises(ValueError, match=r"`block` must be 1 or more.*got block=0 for shape"):
        fmt.quantize(x, block=0)
    with pytest.raises(ValueError, match=r"`axis` or `block`, not both; got axis=0 and block=2"):
        fmt.quantize(x, axis=0, block=2)
    with pytest.raises(ValueError, match=r"`scale` of blocks of 2 must have shape \(3, 2\)"):
        fmt.quantize(x, block=2, scale=torch.ones(3))
    with pytest.raises(ValueError, match=r"`scale` must be 0 or positive, and finite; got 1 of 1"):
        fmt.quantize(x, scale=-1.0)
    with pytest.raises(ValueError, match=r"`scale` must broadcast to the tensor's shape \(3, 4\)"):
        fmt.quantize(x, scale=torch.ones(3))
    with pytest.raises(ValueError, match=r"`rounding` must be 'nearest' or 'stochastic'; got 'up'"):
        fmt.quantize(x, rounding="up")
    with pytest.raises(ValueError, match=r"`rounding='stochastic'` needs a `generator`; got None"):
        fmt.quantize(x, rounding="stochastic")
    with pytest.raises(TypeError, match=r"real floating-point tensor; got torch\.int64"):
        fmt.quantize(torch.arange(3))
    with pytest.raises(ValueError, match=r"Unknown format 'lns8_x'; the formats are: ladder2,"):
        get("lns8_x")


def test_blocks_longer_than_a_row_take_no_more_than_the_row():
    x = torch.randn(4, 3)
    long = LNS(8, 8).encode(x, block=1 << 40)
    assert torch.equal(long.scale, x.abs().amax(1, keepdim=True))
    assert torch.equal(LNS(8, 8).decode(long), LNS(8, 8).quantize(x, axis=0))


def test_finite_values_stay_finite_in_narrow_dtypes():
    x = torch.tensor([65504.0, 1.0], dtype=torch.float16)
    assert torch.isfinite(LNS(8, 8, power_of_two_scale=True).quantize(x)).all()
    assert torch.isfinite(LNS(8, 8).quantize(x, scale=70000.0)).all()
    wide = torch.tensor([1e300, 1.0], dtype=torch.float64)
    rounded = LNS(12, 128, power_of_two_scale=True).quantize(wide)
    assert rounded[0].item() == pytest.approx(1e300, rel=0.01)


def test_defaults_of_the_process_change_nothing():
    x = torch.randn(8, 8)
    wanted = LNS(13, 256).quantize(x)
    codes = LNS(13, 256).encode(x)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            assert torch.equal(LNS(13, 256).quantize(x), wanted)
            assert torch.equal(LNS(13, 256).decode(codes), wanted)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(LNS(13, 256).decode(codes), wanted)


def test_an_axis_that_is_not_there_is_refused_beside_a_scale_too():
    with pytest.raises(ValueError, match=r"from -2 to 1; got axis=9"):
        LNS(8, 8).quantize(torch.ones(2, 2), axis=9, scale=1.0)


def test_lazily_negated_input_is_read_with_its_signs():
    x = torch.randn(6, dtype=torch.complex64).conj().imag
    assert x.is_neg()
    assert torch.equal(LNS(8, 8).quantize(x), LNS(8, 8).quantize(x.clone()))

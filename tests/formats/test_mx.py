import dataclasses
import math
from fractions import Fraction

import gfloat
import numpy as np
import pytest
import torch
from gfloat import formats as gfloat_formats
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import mx_integers, mx_scalar

from rung.formats import LNS, MX, CounterSource, Encoded, FixedPoint, Minifloat, get, name_of

NAMES = tuple(mx_scalar.BITS)
RULES = mx_scalar.RULES
CASES = [(name, rule) for name in NAMES for rule in RULES]


def blocks(count, seed, size=32):
    """Blocks of float32 of every kind: numbers, ties, subnormals, zeros, NaN, infinity."""
    random = np.random.default_rng(seed)
    mantissas = random.integers(0, 1 << 23, (count, size), dtype=np.int32)
    few = random.integers(0, 1 << 23, (count, 1), dtype=np.int32) & 0x1F
    kinds = random.integers(0, 16, (count, 1))
    # Few mantissa bits make ties and largest magnitudes at a rule's threshold.
    mantissas = np.where(kinds < 6, mantissas >> few << few, mantissas)
    near = random.integers(-1, 2, (count, size), dtype=np.int32)
    top = random.integers(0, 255, (count, 1), dtype=np.int32)
    top = np.where(kinds == 6, 0, np.where(kinds == 7, 254, top))
    spread = random.integers(0, 2 + kinds, (count, size), dtype=np.int64)
    exponents = np.maximum(top - spread, 0).astype(np.int32)
    bits = (exponents << 23 | mantissas) + np.where(kinds == 5, near, 0).astype(np.int32)
    bits = np.clip(bits, 0, 0x7F7FFFFF)
    bits = np.where(random.random((count, size)) < 0.02, 0, bits)
    bits = np.where(kinds == 8, 0, bits)
    odd = (kinds == 9) & (random.random((count, size)) < 0.03)
    bits = np.where(odd, 0x7F800000 | np.where(mantissas & 1, mantissas, 0), bits)
    negative = random.random((count, size)) < 0.5
    return np.where(negative, bits | np.int32(-(1 << 31)), bits).astype(np.int32).view(np.float32)


def same_bits(left, right):
    left, right = left.contiguous(), right.contiguous()
    nan = torch.isnan(left)
    assert torch.equal(nan, torch.isnan(right))
    assert torch.equal(left.view(torch.int32)[~nan], right.view(torch.int32)[~nan])


# -- against the oracles -------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "rule"), CASES)
def test_blocks_equal_the_fractions_oracle(name, rule):
    x = torch.from_numpy(blocks(40, 1))
    fmt = MX(name, 32, rule)
    encoded = fmt.encode(x, nonfinite="propagate")
    values = fmt.quantize(x, nonfinite="propagate")
    for row in range(len(x)):
        scale, codes = mx_scalar.encode_block(name, x[row].tolist(), rule)
        assert encoded.scale[row].tolist() == [scale]
        assert encoded.codes[row].tolist() == codes
        same_bits(values[row], torch.tensor(mx_scalar.decode_block(name, scale, codes)))
    same_bits(fmt.decode(encoded), values)


@pytest.mark.parametrize(("name", "rule"), CASES)
def test_the_integer_oracle_equals_the_fractions_oracle(name, rule):
    x = blocks(60, 2, 8)
    scales, codes = mx_integers.encode(name, x, rule)
    values = mx_integers.decode(name, scales, codes)
    for row in range(len(x)):
        wanted = mx_scalar.encode_block(name, x[row].tolist(), rule)
        assert (scales[row], codes[row].tolist()) == wanted
        same_bits(
            torch.from_numpy(values[row]), torch.tensor(mx_scalar.decode_block(name, *wanted))
        )


def compare_with_integers(name, rule, count, seed):
    fmt = MX(name, 32, rule)
    x = blocks(count, seed)
    scales, codes = mx_integers.encode(name, x, rule)
    encoded = fmt.encode(torch.from_numpy(x), nonfinite="propagate")
    np.testing.assert_array_equal(encoded.scale.numpy()[:, 0], scales)
    np.testing.assert_array_equal(encoded.codes.numpy(), codes)
    wanted = mx_integers.decode(name, scales, codes)
    values = fmt.quantize(torch.from_numpy(x), nonfinite="propagate")
    same_bits(values, torch.from_numpy(wanted))
    same_bits(fmt.decode(encoded), torch.from_numpy(wanted))


@pytest.mark.parametrize(("name", "rule"), CASES)
def test_many_blocks_equal_the_integer_oracle(name, rule):
    compare_with_integers(name, rule, 2000, 3)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rule"), CASES)
def test_a_million_blocks_equal_the_integer_oracle(name, rule):
    for piece in range(50):
        compare_with_integers(name, rule, 20_000, 100 + piece)


def test_the_samples_hold_every_kind_of_block():
    x = torch.from_numpy(blocks(2000, 3))
    largest = x.abs().amax(1)
    assert (largest == 0).sum() > 50
    assert ((largest > 0) & (largest < 2.0**-126)).sum() > 50
    assert torch.isnan(largest).sum() > 20
    assert torch.isinf(largest).sum() > 5
    assert (largest > 2.0**127).sum() > 50


@pytest.mark.parametrize("name", NAMES)
def test_blocks_equal_gfloat_by_its_rule(name):
    info = getattr(gfloat_formats, {"fp4_e2m1": "format_info_mxfp4_e2m1"}.get(
        name, f"format_info_mx{name}"))  # fmt: skip
    fmt = MX(name)
    generator = torch.Generator().manual_seed(0)
    for row in range(12):
        x = torch.randn(32, generator=generator, dtype=torch.float64) * 2.0 ** (5 * row - 30)
        x[3] = 0.0
        wanted = gfloat.quantize_block(info, x.numpy(), gfloat.compute_scale_amax)
        values = fmt.quantize(x)
        # Its INT8 has -128; the specification leaves open whether it is used.
        lowest = torch.from_numpy(wanted) == -2.0 * 2.0 ** (int(fmt.encode(x).scale) - 127)
        agree = ~lowest if name == "int8" else torch.ones(32, dtype=torch.bool)
        assert torch.equal(values[agree], torch.from_numpy(wanted)[agree])


@pytest.mark.parametrize("name", NAMES)
def test_the_elements_are_those_of_the_specification(name):
    fmt = get(name)
    assert (fmt.bits, fmt.emax) == (mx_scalar.BITS[name], mx_scalar.EMAX[name])
    assert Fraction(fmt.largest) == mx_scalar.LARGEST[name]
    assert MX(name).element == fmt
    assert MX(fmt) == MX(name)
    one = torch.tensor([[127]], dtype=torch.uint8)
    for code in range(1 << fmt.bits):
        decoded = float(MX(name).decode_codes(torch.tensor([[code]], dtype=torch.uint8), one))
        wanted = float(mx_scalar.value(name, code))
        assert decoded == wanted or (math.isnan(decoded) and math.isnan(wanted))


# -- dimensions, blocks, dtypes ------------------------------------------------------------------


@given(
    name=st.sampled_from(NAMES),
    rule=st.sampled_from(RULES),
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    block=st.integers(1, 9),
    place=st.integers(0, 3),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=120, deadline=None)
def test_blocks_along_any_dimension_of_any_dtype(name, rule, shape, block, place, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    exponents = torch.randint(-12, 13, shape, generator=generator)
    x = torch.randn(shape, generator=generator, dtype=torch.float64) * torch.exp2(exponents)
    x, dim, fmt = x.to(dtype), place % len(shape), MX(name, block, rule)
    encoded = fmt.encode(x, dim=dim)
    values = fmt.quantize(x, dim=dim - len(shape))
    assert values.dtype == dtype
    assert values.shape == encoded.codes.shape == x.shape
    count = -(-shape[dim] // block)
    assert encoded.scale.shape == (*shape[:dim], count, *shape[dim + 1 :])
    assert encoded.dim == dim
    assert torch.equal(fmt.decode(encoded), values)
    moved, codes = x.movedim(dim, -1), encoded.codes.movedim(dim, -1)
    scales, results = encoded.scale.movedim(dim, -1), values.movedim(dim, -1)
    for place in np.ndindex(*moved.shape[:-1]):
        for index, start in enumerate(range(0, shape[dim], block)):
            part = slice(start, start + block)
            numbers = moved[place][part].double().tolist()
            scale, wanted = mx_scalar.encode_block(name, numbers, rule)
            assert int(scales[place][index]) == scale
            assert codes[place][part].tolist() == wanted
            most = Fraction(torch.finfo(dtype).max)
            decoded = mx_scalar.decode_block(name, scale, wanted, most)
            assert results[place][part].double().tolist() == decoded


@pytest.mark.parametrize("name", NAMES)
def test_double_precision_is_rounded_once(name):
    fmt, element = MX(name), get(name)
    # A tie of two neighbours and a little more than float32 can tell.
    codes = torch.arange(8, 12, dtype=torch.uint8).unsqueeze(1)
    values = element.decode(Encoded(codes, None, torch.ones(()), torch.float64)).flatten()
    tie = (values[1:] + values[:-1]) / 2
    if name == "fp4_e2m1":
        tie = torch.tensor([0.75, 2.5], dtype=torch.float64)
    top = torch.full((len(tie),), element.largest, dtype=torch.float64)
    above = torch.stack((tie * (1 + 2.0**-40), top), 1)
    below = torch.stack((tie * (1 - 2.0**-40), top), 1)
    assert bool((fmt.quantize(above)[:, 0].abs() > tie.abs()).all())
    for x in (above, below):
        for row in x.tolist():
            scale, wanted = mx_scalar.encode_block(name, row, "floor")
            encoded = fmt.encode(torch.tensor(row, dtype=torch.float64))
            assert (encoded.scale.tolist(), encoded.codes.tolist()) == ([scale], wanted)


@pytest.mark.parametrize(
    "x",
    [
        torch.empty(0),
        torch.empty(0, 4),
        torch.empty(4, 0),
        torch.randn(3, 4, 5, 2, 2),
        torch.randn(6, 80).t(),
        torch.randn(90)[::2],
        torch.randn(4, 1).expand(4, 33),
    ],
    ids=["empty", "no rows", "no columns", "5d", "transposed", "strided", "expanded"],
)
@pytest.mark.parametrize("dim", [0, -1])
def test_any_shape_and_stride(x, dim):
    fmt = MX("fp6_e3m2")
    encoded = fmt.encode(x, dim=dim)
    assert encoded.codes.is_contiguous()
    quantized = fmt.quantize(x, dim=dim)
    assert torch.equal(fmt.decode(encoded), quantized)
    assert torch.equal(fmt.quantize(x.clone().contiguous(), dim=dim), quantized)
    assert torch.equal(fmt.decode(fmt.unpack(fmt.pack(encoded))), quantized)


def test_blocks_longer_than_a_row_take_no_more_than_the_row():
    x = torch.randn(4, 3)
    assert torch.equal(MX("fp4_e2m1", 1 << 40).quantize(x), MX("fp4_e2m1", 3).quantize(x))


@pytest.mark.parametrize(("name", "rule"), CASES)
def test_quantizing_again_changes_nothing_by_floor_nor_the_second_time_by_other_rules(name, rule):
    x = torch.from_numpy(blocks(500, 5))
    x = x[torch.isfinite(x).all(1)]
    fmt = MX(name, 32, rule)
    once = fmt.quantize(x)
    if rule == "floor":
        same_bits(fmt.quantize(once), once)
    # Another rule may give a block whose largest magnitude got smaller a finer scale.
    twice = fmt.quantize(fmt.quantize(once))
    same_bits(fmt.quantize(twice), twice)


def test_quantizing_is_symmetric():
    x = torch.from_numpy(blocks(300, 6))
    x = x[torch.isfinite(x).all(1)]
    for name in NAMES:
        fmt = MX(name)
        assert torch.equal(fmt.quantize(-x), -fmt.quantize(x))


def test_no_rule_but_floor_saturates_more_than_half_a_step():
    x = torch.full((100, 1), 1.0) + torch.arange(100).unsqueeze(1) / 100
    for name in NAMES:
        largest = get(name).largest
        for rule in ("ceil", "rceil"):
            fmt = MX(name, 1, rule)
            scale = torch.exp2(fmt.encode(x).scale.double() - 127)
            assert bool((x.double() <= largest * scale).all())
    assert float(MX("fp4_e2m1", 1).quantize(torch.tensor([7.9]))) == 6.0
    assert float(MX("fp4_e2m1", 1, "ceil").quantize(torch.tensor([7.9]))) == 8.0
    assert float(MX("fp4_e2m1", 1, "rceil").quantize(torch.tensor([7.9]))) == 8.0
    assert float(MX("fp4_e2m1", 1, "even").quantize(torch.tensor([7.9]))) == 8.0
    assert float(MX("fp4_e2m1", 1, "even").quantize(torch.tensor([6.9]))) == 6.0


def test_values_stay_finite_at_the_end_of_the_range():
    most = torch.finfo(torch.float32).max
    x = torch.tensor([most, -most, 1.0])
    for name, rule in CASES:
        assert torch.isfinite(MX(name, 32, rule).quantize(x)).all()
        encoded = MX(name, 32, rule).encode(x)
        assert torch.isfinite(MX(name, 32, rule).decode(encoded)).all()
        for dtype in (torch.float16, torch.bfloat16):
            narrow = torch.tensor([torch.finfo(dtype).max, 1.0], dtype=dtype)
            assert torch.isfinite(MX(name, 32, rule).quantize(narrow)).all()


# -- NaN and infinity ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_a_block_with_nan_or_infinity_becomes_nan_and_no_other(name, dtype):
    x = torch.ones(3, 64, dtype=dtype)
    x[0, 5], x[1, 40] = math.nan, -math.inf
    fmt = MX(name)
    encoded = fmt.encode(x, nonfinite="propagate")
    assert encoded.scale.eq(255).tolist() == [[True, False], [False, True], [False, False]]
    assert not encoded.codes[encoded.scale.eq(255).repeat_interleave(32, 1)].any()
    values = fmt.quantize(x, nonfinite="propagate")
    assert torch.equal(torch.isnan(values), encoded.scale.eq(255).repeat_interleave(32, 1))
    assert torch.equal(torch.isnan(fmt.decode(encoded)), torch.isnan(values))
    for call in (fmt.quantize, fmt.encode):
        with pytest.raises(ValueError, match=r"must be finite; got 2 NaN or infinite of 192"):
            call(x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_infinity_saturates_as_the_largest_number_of_its_dtype(dtype):
    largest = torch.finfo(dtype).max
    x = torch.tensor([math.inf, -math.inf, 1.0, -largest / 8], dtype=dtype)
    finite = torch.tensor([largest, -largest, 1.0, -largest / 8], dtype=dtype)
    for fmt in map(MX, NAMES):
        assert torch.equal(fmt.quantize(x, nonfinite="saturate"), fmt.quantize(finite))
        codes, wanted = fmt.encode(x, nonfinite="saturate"), fmt.encode(finite)
        assert torch.equal(codes.codes, wanted.codes)
        assert torch.equal(codes.scale, wanted.scale)
        with pytest.raises(ValueError, match=r"no NaN with nonfinite='saturate'.*got 1 NaN of 2"):
            fmt.quantize(torch.tensor([math.nan, math.inf]), nonfinite="saturate")


# -- stochastic rounding -------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_stochastic_rounding_keeps_the_mean_and_takes_a_neighbour(name):
    element, count = get(name), 20_000
    codes = torch.arange(1 << (element.bits - 1), dtype=torch.uint8)
    values = element.decode(Encoded(codes, None, torch.ones(()), torch.float64))
    values = values[torch.isfinite(values)].sort().values
    for value in (0.3, 0.9, 1e-3, 0.77 * element.largest):
        x = torch.full((count, 2), value)
        x[:, 1] = element.largest  # keeps the scale at 1
        x[::2] *= -1
        fmt = MX(name, 2)
        rounded = fmt.quantize(x, rounding="stochastic", generator=CounterSource(1, str(value)))
        assert torch.equal(rounded[:, 1], x[:, 1])
        sizes, x = rounded[:, 0].double().abs(), float(x[1, 0])
        below, above = values[values <= x].max(), values[values >= x].min()
        assert bool(((sizes == below) | (sizes == above)).all())
        chance = float((x - below) / (above - below)) if above > below else 0.0
        sigma = math.sqrt(chance * (1 - chance) / count) * float(above - below)
        assert abs(float(sizes.mean()) - x) <= 3 * sigma + 1e-7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stochastic_codes_depend_on_the_elements_index_alone(dtype):
    x = torch.randn(6, 70, dtype=dtype)
    fmt, source = MX("fp4_e2m1"), CounterSource(1, "w")
    rows = fmt.quantize(x, rounding="stochastic", generator=source)
    encoded = fmt.encode(x, rounding="stochastic", generator=source)
    assert torch.equal(fmt.decode(encoded), rows)
    part = fmt.quantize(x[2:], rounding="stochastic", generator=CounterSource(1, "w", 140))
    assert torch.equal(rows[2:], part)
    single = MX("fp4_e2m1", 1)
    across = single.quantize(x, rounding="stochastic", generator=source, dim=0)
    assert torch.equal(across, single.quantize(x, rounding="stochastic", generator=source))
    torch_generator = torch.Generator().manual_seed(0)
    first = fmt.quantize(x, rounding="stochastic", generator=torch_generator)
    assert not torch.equal(first, fmt.quantize(x, rounding="stochastic", generator=torch_generator))


# -- storage, names, errors ----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "rule"), CASES)
@pytest.mark.parametrize(("shape", "dim", "block"), [((5, 70), 1, 32), ((70, 3, 2), 0, 7)])
def test_packing_keeps_every_code_in_as_many_bytes_as_there_are_bits(name, rule, shape, dim, block):
    fmt = MX(name, block, rule)
    encoded = fmt.encode(torch.randn(shape), dim=dim)
    packed = fmt.pack(encoded)
    rows = math.prod(shape) // shape[dim]
    whole, rest = divmod(shape[dim], block)
    each, last = -(-block * fmt.bits // 8), -(-rest * fmt.bits // 8)
    assert packed.nbytes == rows * (whole * each + last + -(-shape[dim] // block))
    again = fmt.unpack(packed)
    assert torch.equal(again.codes, encoded.codes)
    assert torch.equal(again.scale, encoded.scale)
    assert (again.dtype, again.block, again.dim) == (encoded.dtype, block, dim)
    assert torch.equal(fmt.decode(again), fmt.decode(encoded))


def test_a_packed_mxfp4_tensor_takes_17_bytes_a_block():
    fmt = get("mxfp4")
    packed = fmt.pack(fmt.encode(torch.randn(64, 1024)))
    assert packed.nbytes == 64 * 32 * 17
    assert packed.nbytes * 8 == 64 * 1024 * fmt.bits_per_element


FOREIGN = [
    (
        {"block": 16},
        r"must have blocks of 32 along a dimension of \(4, 40\); got block=16 and dim=1",
    ),
    ({"block": None}, r"got block=None and dim=1\. Give what this format's `encode` returned"),
    ({"dim": None}, r"got block=32 and dim=None"),
    ({"dim": 2}, r"got block=32 and dim=2"),
    ({"dim": -1}, r"got block=32 and dim=-1"),
    (
        {"dim": 0},
        r"along dim=0 must have shape \(1, 40\) for codes of shape \(4, 40\); got \(4, 2\)",
    ),
    ({"scale": torch.zeros(4, 1).byte()}, r"must have shape \(4, 2\) for .* got \(4, 1\)"),
    ({"scale": torch.ones(4, 2)}, r"must be uint8, 127 \+ s for 2\^s; got torch\.float32"),
    ({"codes": torch.ones(4, 40).short()}, r"Codes of MX\(.*\) must be uint8; got torch\.int16"),
    ({"codes": torch.ones(4, 40).int()}, r"Codes of MX\(.*\) must be uint8; got torch\.int32"),
    ({"codes": torch.full((4, 40), 16).byte()}, r"'floor'\) have 4 bits, are under 16; got 16"),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize(("changes", "text"), FOREIGN)
def test_codes_of_another_format_are_refused(changes, text, dtype):
    fmt = MX("fp4_e2m1")
    foreign = dataclasses.replace(fmt.encode(torch.randn(4, 40).to(dtype)), **changes)
    for call in (fmt.decode, fmt.pack):
        with pytest.raises(TypeError if "uint8" in text else ValueError, match=text):
            call(foreign)


def test_decoding_with_an_element_of_fewer_bits_is_refused():
    wide = get("mxfp6_e3m2").encode(torch.randn(4, 32))
    with pytest.raises(ValueError, match=r"MX\('fp4_e2m1', 32, 'floor'\) have 4 bits, are under"):
        get("mxfp4").decode(wide)
    with pytest.raises(ValueError, match=r"Decode codes with the format that encoded them"):
        get("mxfp4").decode_codes(wide.codes, wide.scale)
    with pytest.raises(TypeError, match=r"must be uint8; got torch\.int16"):
        get("mxfp4").decode_codes(wide.codes.short(), wide.scale)
    with pytest.raises(TypeError, match=r"must be uint8, 127 \+ s for 2\^s; got torch\.float32"):
        get("mxfp4").decode_codes(wide.codes, wide.scale.float())


def test_bytes_that_do_not_fit_the_shape_are_refused():
    fmt = MX("fp6_e3m2", 8)
    packed = fmt.pack(fmt.encode(torch.randn(4, 20)))
    for changes, text in (
        ({"codes": packed.codes[:, 1:]}, r"must have shape \(4, 15\), .*\(4, 20\); got \(4, 14\)"),
        ({"codes": packed.codes[:3]}, r"got \(3, 15\)\. Unpack them with the format that packed"),
        ({"codes": packed.codes[0]}, r"must have shape \(4, 15\), .*; got \(15,\)"),
        (
            {"shape": torch.Size((4, 21))},
            r"must have shape \(4, 16\), rows and bytes, for a tensor",
        ),
        ({"shape": torch.Size((2, 40))}, r"must have shape \(2, 5\) for codes of shape \(2, 40\)"),
        ({"scale": packed.scale[:, 1:]}, r"must have shape \(4, 3\) for .* got \(4, 2\)"),
        ({"dim": 2}, r"got dim=2 for shape \(4, 20\)"),
    ):
        with pytest.raises(ValueError, match=text):
            fmt.unpack(dataclasses.replace(packed, **changes))
    with pytest.raises(ValueError, match=r"must have shape \(4, 3\) .* got \(4, 20\)"):
        fmt.unpack(MX("fp6_e3m2", 1).pack(MX("fp6_e3m2", 1).encode(torch.randn(4, 20))))
    with pytest.raises(ValueError, match=r"must have shape \(4, 10\), rows and bytes"):
        MX("fp4_e2m1", 8).unpack(packed)
    for changes, text in (
        (
            {"codes": packed.codes.int()},
            r"Packed codes of MX\(.*\) must be uint8; got torch\.int32",
        ),
        ({"scale": packed.scale.float()}, r"must be uint8, 127 \+ s for 2\^s; got torch\.float32"),
    ):
        with pytest.raises(TypeError, match=text):
            fmt.unpack(dataclasses.replace(packed, **changes))


@pytest.mark.parametrize(("name", "rule"), CASES)
def test_no_normal_number_is_off_by_more_than_the_worst_error(name, rule):
    # The largest number of a block, over its octave and up to where the next scale begins.
    x = 1 + torch.arange(1 << 14, dtype=torch.float64).unsqueeze(1) / (1 << 14)
    fmt = MX(name, 1, rule)
    worst = float(((fmt.quantize(x) - x).abs() / x).max())
    assert worst <= fmt.max_relative_error
    if fmt.max_relative_error > fmt.element.max_relative_error:
        assert worst == pytest.approx(fmt.max_relative_error, rel=2e-3)


def test_saturation_counts_in_the_worst_error():
    assert MX("fp4_e2m1").max_relative_error == 0.25
    assert MX("fp8_e4m3", scale_rule="even").max_relative_error == 1 - 448 / 496
    for rule in ("ceil", "rceil"):
        assert MX("fp4_e2m1", scale_rule=rule).max_relative_error == 0.2


def test_names_and_formats_are_one_to_one():
    assert get("mxfp4") == get("mxfp4_e2m1") == MX("fp4_e2m1")
    assert get("mxfp4_k16") == MX("fp4_e2m1", 16)
    assert get("mxfp4+ceil") == MX("fp4_e2m1", scale_rule="ceil")
    assert get("mxfp6_e2m3_k8+rceil") == MX("fp6_e2m3", 8, "rceil")
    assert get("mxfp4_e2m1_k16+even") == MX("fp4_e2m1", 16, "even")
    for name in (
        "mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2", "mxfp6_e2m3", "mxfp4", "mxint8", "mxfp4_k16",
        "mxint8+ceil", "mxfp8_e5m2_k7+even",
    ):  # fmt: skip
        fmt = get(name)
        assert name_of(fmt) == name
        assert eval(repr(fmt)) == fmt
        assert hash(fmt) == hash(get(name))
    for wrong in ("mxfp4_e3m0", "mxfp5", "mxfp4-k16", "mx"):
        with pytest.raises(ValueError, match=r"Unknown format .* like 'mxfp4_k16\+ceil'"):
            get(wrong)
    with pytest.raises(ValueError, match=r"`block_size` must be 1 or more elements; got .*=0"):
        get("mxfp4_k0")
    with pytest.raises(ValueError, match=r"`scale_rule` must be one of 'floor', .*; got 'up'"):
        get("mxfp4+up")


def test_elements_that_mx_does_not_define_are_refused():
    six = "fp8_e4m3, fp8_e5m2, fp6_e3m2, fp6_e2m3, fp4_e2m1, int8"
    for element in (
        "fp4_e3m0", "bf16", Minifloat(3, 0), Minifloat(4, 3, specials="nan", overflow="nonfinite"),
        FixedPoint(4, 2), LNS(8, 8), 4, None, ["int8"],
    ):  # fmt: skip
        with pytest.raises(ValueError, match=rf"`element` must be one that MX defines: {six}; got"):
            MX(element)


def test_bad_numbers_are_refused():
    for size in (0, -32):
        with pytest.raises(ValueError, match=rf"1 or more elements; got block_size={size}\."):
            MX("int8", size)
    for size in (32.0, True, "32"):
        with pytest.raises(TypeError, match=r"`block_size` must be an integer; got"):
            MX("int8", size)
    with pytest.raises(ValueError, match=r"one of 'floor', 'ceil', 'even', 'rceil'; got 'nearest'"):
        MX("int8", scale_rule="nearest")


def test_bad_arguments_are_refused():
    fmt, x = MX("fp4_e2m1"), torch.randn(3, 4)
    for call in (fmt.quantize, fmt.encode):
        for name, value in (("axis", 0), ("scale", 1.0), ("block", 32)):
            with pytest.raises(
                ValueError, match=rf"a scale for every block of its own, `{name}` must be None"
            ):
                call(x, **{name: value})
        with pytest.raises(ValueError, match=r"got dim=2 for shape \(3, 4\)\. Give one from -2"):
            call(x, dim=2)
        with pytest.raises(TypeError, match=r"`dim` must be an integer; got None"):
            call(x, dim=None)
        with pytest.raises(ValueError, match=r"got dim=-1 for shape \(\)\. Give the tensor a dim"):
            call(torch.tensor(1.0))
        with pytest.raises(ValueError, match=r"'raise', 'propagate' or 'saturate'; got 'keep'"):
            call(x, nonfinite="keep")
        with pytest.raises(ValueError, match=r"`rounding` must be 'nearest' or 'stochastic'"):
            call(x, rounding="up")
        with pytest.raises(TypeError, match=r"real floating-point tensor; got torch\.int64"):
            call(torch.arange(3))
    codes = torch.zeros(3, 40, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"must have shape \(3, 2\) for codes of shape \(3, 40\)"):
        fmt.decode_codes(codes, codes)


def test_lazily_negated_input_is_read_with_its_signs():
    x = torch.randn(6, dtype=torch.complex64).conj().imag
    assert x.is_neg()
    assert torch.equal(MX("int8").quantize(x), MX("int8").quantize(x.clone()))


def test_defaults_of_the_process_change_nothing():
    x = torch.randn(8, 40)
    fmt = MX("fp8_e5m2", 16, "rceil")
    wanted, codes = fmt.quantize(x), fmt.encode(x)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            assert torch.equal(fmt.quantize(x), wanted)
            assert torch.equal(fmt.quantize(x.double()), wanted.double())
            assert torch.equal(fmt.decode(codes), wanted)
            assert torch.equal(fmt.decode(fmt.unpack(fmt.pack(codes))), wanted)
    finally:
        torch.set_default_dtype(torch.float32)

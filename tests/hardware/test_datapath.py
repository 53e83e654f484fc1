"""The public datapath: numbers of LNS tensors, designs, refusals."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from oracles.integer_datapath import element

import rung
from rung.formats import LNS, get
from rung.hardware import datapath
from rung.hardware.datapath import Datapath

WIDE = Datapath(fraction_bits=16, accumulator_bits=40)
FORMAT = get("lns8")


def encoded(*shape, seed=0):
    return FORMAT.encode(torch.randn(shape, generator=torch.Generator().manual_seed(seed)))


def test_a_design_is_a_frozen_value_with_the_stated_defaults():
    design = Datapath()
    assert design == Datapath(
        base_factor=8, conversion="lut", table_size=None, fraction_bits=8, accumulator_bits=24,
        dropped_bits=0, overflow="saturate",
    )  # fmt: skip
    assert hash(design) == hash(Datapath())
    with pytest.raises(dataclasses.FrozenInstanceError, match="base_factor"):
        design.base_factor = 4


def test_constants_are_rounded_roots_of_two():
    assert Datapath().constants == (256, 279, 304, 332, 362, 395, 431, 470)
    assert Datapath(conversion="mitchell").constants == (256,)
    assert Datapath(conversion="hybrid").constants == (256, 304, 362, 431)
    assert Datapath(conversion="hybrid", table_size=2).constants == (256, 362)


def test_results_are_int64_in_units_of_a_fraction_of_the_smallest_product():
    one = torch.zeros((1, 1), dtype=torch.uint8)  # two smallest exponents
    assert datapath.matmul(one, one, Datapath()).tolist() == [[256]]
    assert datapath.matmul(one, one + 128, Datapath(fraction_bits=4)).tolist() == [[-16]]
    assert datapath.matmul(one + 8, one + 12, Datapath()).tolist() == [[4 * 362]]
    assert datapath.matmul(one, one, Datapath()).dtype == torch.int64


def test_a_wide_datapath_computes_the_product_of_the_decoded_numbers():
    x, w = encoded(5, 64), encoded(7, 64, seed=1)
    sums = datapath.linear(x.codes, w.codes, WIDE)
    assert sums.shape == (5, 7)
    got = datapath.to_float(sums, WIDE, FORMAT, x, w)
    a, b = FORMAT.decode(x).double(), FORMAT.decode(w).double()
    # Constants are rounded to 2^-17 of them; decoded values to float32.
    torch.testing.assert_close(got, a @ b.T, rtol=0, atol=float((a.abs() @ b.abs().T).max()) * 1e-5)


def test_scales_of_output_channels_broadcast():
    x, w = encoded(5, 64), torch.randn(7, 64) * torch.arange(1, 8)[:, None]
    coded = FORMAT.encode(w, axis=0)
    sums = datapath.linear(x.codes, coded.codes, WIDE)
    turned = dataclasses.replace(coded, scale=coded.scale.reshape(1, 7))
    got = datapath.to_float(sums, WIDE, FORMAT, x, turned)
    expected = FORMAT.decode(x).double() @ FORMAT.decode(coded).double().T
    torch.testing.assert_close(got, expected, rtol=0, atol=float(expected.abs().max()) * 1e-4)


def test_dot_is_the_plain_integer_model():
    x, w = encoded(300).codes, encoded(300, seed=1).codes
    for design in (Datapath(), Datapath(dropped_bits=9), Datapath(overflow="wrap")):
        own = {"dropped": design.dropped_bits, "wrap": design.overflow == "wrap"}
        expected, _ = element(x.tolist(), w.tolist(), **own)
        assert int(datapath.dot(x, w, design)) == expected


def test_vector_length_writes_partial_sums_out():
    top = torch.full((1, 32), 127, dtype=torch.uint8)
    narrow = Datapath(accumulator_bits=24, dropped_bits=9)
    # A bin holds one such product and saturates at the second.
    once = datapath.matmul(top, top.T, narrow)
    parts = datapath.matmul(top, top.T, dataclasses.replace(narrow, vector_length=1))
    assert int(parts) == 32 * int(datapath.matmul(top[:, :1], top[:, :1].T, narrow))
    assert int(once) < int(parts) / 10


def test_overflows_are_counted():
    top = torch.full((1, 9), 127, dtype=torch.uint8)
    sums = datapath.matmul_counted(top, top.T, Datapath(dropped_bits=9))
    assert int(sums.overflows) == 8  # 2^22 fits once: 2^23 - 1 is the largest
    assert int(datapath.matmul_counted(top, top.T, WIDE).overflows) == 0


CONVOLUTIONS = [
    {},
    {"padding": 1},
    {"stride": 2, "padding": (2, 0)},
    {"groups": 2, "padding": 1},
    {"dilation": 2, "padding": 2},
    {"groups": 4, "stride": (2, 1), "padding": (0, 1), "dilation": (1, 2)},
]


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_convolutions_are_those_of_the_decoded_numbers(options):
    x = encoded(2, 4, 9, 8)
    w = encoded(8, 4 // options.get("groups", 1), 3, 3, seed=1)
    sums = datapath.conv2d(x.codes, w.codes, WIDE, **options)
    got = datapath.to_float(sums, WIDE, FORMAT, x, w)
    expected = F.conv2d(FORMAT.decode(x).double(), FORMAT.decode(w).double(), **options)
    torch.testing.assert_close(got, expected, rtol=0, atol=float(expected.abs().max()) * 1e-4)


def test_a_convolution_adds_its_products_in_order():
    x, w = encoded(1, 2, 3, 3), encoded(1, 2, 3, 3, seed=1)
    design = Datapath(dropped_bits=9, accumulator_bits=20)
    expected, overflows = element(
        x.codes.flatten().tolist(), w.codes.flatten().tolist(), dropped=9, width=20
    )
    assert overflows > 0
    assert datapath.conv2d(x.codes, w.codes, design).tolist() == [[[[expected]]]]


def test_codes_of_a_format_with_zero():
    fmt = LNS(8, 8, zero=True)
    design = dataclasses.replace(WIDE, zero=True)
    x, w = fmt.encode(torch.tensor([[0.0, 1.0, -2.0]])), fmt.encode(torch.tensor([[3.0, 0.0, 1.0]]))
    sums = datapath.linear(x.codes, w.codes, design)
    got = float(datapath.to_float(sums, design, fmt, x, w))
    assert got == pytest.approx(float(fmt.decode(x)[0, 2] * fmt.decode(w)[0, 2]), rel=1e-4)


def test_narrow_and_wide_codes():
    for name, design in (
        ("lns6", Datapath(base_factor=get("lns6").base_factor, bits=6, accumulator_bits=40)),
        ("lns12", Datapath(base_factor=get("lns12").base_factor, bits=12, accumulator_bits=40)),
        ("lns16", Datapath(base_factor=2048, conversion="hybrid", table_size=8,
                           accumulator_bits=46)),
    ):  # fmt: skip
        fmt = get(name)
        x, w = fmt.encode(torch.randn(3, 20)), fmt.encode(torch.randn(2, 20))
        sums = datapath.linear(x.codes, w.codes, design)
        got = datapath.to_float(sums, design, fmt, x, w)
        expected = fmt.decode(x).double() @ fmt.decode(w).double().T
        torch.testing.assert_close(got, expected, rtol=0, atol=0.02 * float(expected.abs().max()))


BAD_DESIGNS = [
    ({"table_size": 3}, "power of two that divides base_factor=8; got table_size=3. Take one of 1"),
    ({"conversion": "hybrid", "table_size": 16}, "divides base_factor=8; got table_size=16"),
    ({"table_size": 4}, "'lut' has 8 table entries .* use conversion='hybrid'"),
    ({"conversion": "mitchell", "table_size": 2}, "'mitchell' has 1 table entry"),
    ({"conversion": "table"}, "`conversion` must be one of 'lut', 'mitchell', 'hybrid'; got"),
    ({"overflow": "clip"}, "`overflow` must be one of 'saturate', 'wrap'; got 'clip'"),
    ({"base_factor": 6}, "`base_factor` must be a power of two from 1 to 2048"),
    ({"fraction_bits": 17}, "`fraction_bits` must be from 0 to 16; got fraction_bits=17"),
    ({"accumulator_bits": 64}, "`accumulator_bits` must be from 4 to 48"),
    ({"accumulator_bits": 9}, "must hold one product .* 10 bits .* got accumulator_bits=9. Widen"),
    ({"dropped_bits": -1}, "`dropped_bits` must be from 0 to 47"),
    ({"vector_length": 0}, "`vector_length` must be from 1"),
    ({"bits": 2}, "`bits` must be from 3 to 16"),
]


@pytest.mark.parametrize(("numbers", "text"), BAD_DESIGNS, ids=str)
def test_designs_that_cannot_be_are_refused(numbers, text):
    with pytest.raises(ValueError, match=text):
        Datapath(**numbers)


def test_a_number_that_is_no_integer_is_refused():
    with pytest.raises(TypeError, match=r"`accumulator_bits` must be an integer; got 24\.0"):
        Datapath(accumulator_bits=24.0)


def test_accumulators_too_narrow_for_one_product_are_refused_with_two_ways_out():
    assert Datapath().product_bits(8) == 33
    text = "24 bits are too narrow for one product of 8-bit codes .* Use accumulator_bits=33, or "
    with pytest.raises(ValueError, match=text + "dropped_bits=9"):
        Datapath().require_room(8)
    Datapath(accumulator_bits=33).require_room(8)
    Datapath(dropped_bits=9).require_room(8)
    assert Datapath(conversion="mitchell").product_bits(8) == 36


def test_codes_of_another_format_are_refused():
    wide, narrow = torch.zeros((2, 2), dtype=torch.int16), torch.zeros((2, 2), dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"in one format; got codes of torch\.uint8 and torch"):
        datapath.matmul(narrow, wide, Datapath())
    with pytest.raises(TypeError, match=r"LNS codes, uint8 or int16; got torch\.float32\. Encode"):
        datapath.matmul(narrow, narrow.float(), Datapath())
    with pytest.raises(TypeError, match="got list"):
        datapath.matmul([[1]], narrow, Datapath())
    with pytest.raises(ValueError, match="6 bits are stored as uint8; got torch.int16"):
        datapath.matmul(wide, wide, Datapath(bits=6))
    with pytest.raises(ValueError, match="must be codes of bits=6, from 0 to 63; got 200 to 200"):
        datapath.matmul(narrow, narrow + 200, Datapath(bits=6))


def test_negative_codes_of_twelve_bits_are_refused():
    codes = torch.full((1, 1), -1, dtype=torch.int16)
    with pytest.raises(ValueError, match="must be codes of bits=12, from 0 to 4095; got -1 to -1"):
        datapath.matmul(codes, codes, Datapath(bits=12))


def test_a_way_out_that_does_not_exist_is_not_named():
    with pytest.raises(ValueError, match="takes 256. Use a larger base_factor"):
        Datapath(base_factor=1).require_room(8)


def test_windows_that_lie_in_the_padding_have_no_products():
    image, kernel = (torch.full((1, 1, n, n), 8, dtype=torch.uint8) for n in (2, 1))
    sums = datapath.conv2d(image, kernel, WIDE, padding=1)
    assert sums.shape == (1, 1, 4, 4)
    assert int((sums != 0).sum()) == 4
    empty = torch.zeros((3, 0), dtype=torch.uint8)
    assert datapath.linear(empty, empty, WIDE).tolist() == [[0] * 3] * 3


@pytest.mark.parametrize("design", [Datapath(dropped_bits=9), WIDE], ids=["narrow", "wide"])
def test_modes_and_default_devices_change_nothing(design):
    model = torch.nn.Linear(64, 7)
    rung.nn.convert_(model, rung.nn.Policy())
    x, w = encoded(5, 64).codes, encoded(7, 64, seed=1).codes
    expected = datapath.linear(x, w, design)
    model.register_forward_hook(lambda *_: datapath.linear(x, w, design))
    assert torch.equal(model(torch.randn(2, 64)), expected)
    with torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
        assert torch.equal(datapath.linear(x, w, design), expected)


def test_shapes_that_do_not_go_together_are_refused():
    codes = torch.zeros((2, 3), dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"\(M, K\) and \(K, N\); got \(2, 3\) and \(2, 3\)"):
        datapath.matmul(codes, codes, Datapath())
    with pytest.raises(ValueError, match=r"`a_codes` must have one dimension; got shape \(2, 3\)"):
        datapath.dot(codes, codes[0], Datapath())
    image, kernel = codes.reshape(1, 1, 2, 3), torch.zeros((1, 2, 1, 1), dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"\(batch, in, height, width\) .* with groups=1"):
        datapath.conv2d(image, kernel, Datapath())
    with pytest.raises(ValueError, match="a kernel of 3 taps .* must fit the padded input of 2"):
        datapath.conv2d(image, torch.zeros((1, 1, 3, 3), dtype=torch.uint8), Datapath())
    pair = codes.reshape(1, 2, 1, 3)
    with pytest.raises(ValueError, match="`groups` must divide the output channels, 3; got"):
        datapath.conv2d(pair, torch.zeros((3, 1, 1, 1), dtype=torch.uint8), Datapath(), groups=2)


def test_numbers_of_another_format_are_refused():
    x = encoded(1, 4)
    with pytest.raises(ValueError, match=r"base_factor and zero, \(8, False\); got \(4, False\)"):
        datapath.to_float(torch.zeros(1), WIDE, LNS(8, 4), x, x)


WRONG_WINDOWS = [
    ({"stride": 0}, "`stride` must be an integer of 1 or more, .* got stride=0"),
    ({"padding": -1}, "`padding` must be an integer of 0 or more, .* got padding=-1"),
    ({"padding": "same"}, "`padding` must be .* got padding='same'. Give numbers, not words"),
    ({"dilation": (1, 0)}, r"`dilation` must be .* got dilation=\(1, 0\)"),
    ({"stride": (1, 1, 2)}, r"`stride` must be .* got stride=\(1, 1, 2\)"),
    ({"stride": 1.5}, "`stride` must be .* got stride=1.5"),
]


@pytest.mark.parametrize(("options", "text"), WRONG_WINDOWS, ids=str)
def test_windows_that_cannot_move_are_refused(options, text):
    x, w = encoded(1, 1, 4, 4).codes, encoded(1, 1, 2, 2).codes
    with pytest.raises(ValueError, match=text):
        datapath.conv2d(x, w, WIDE, **options)


def test_results_wider_than_64_bits_are_refused():
    with pytest.raises(ValueError, match="1 partial sum must fit 64 bits; got up to 71 from accum"):
        Datapath(accumulator_bits=48, dropped_bits=11)
    codes = torch.zeros((1, 64), dtype=torch.uint8)
    wide = Datapath(accumulator_bits=48, dropped_bits=4, vector_length=4)
    with pytest.raises(ValueError, match="16 partial sums must fit 64 bits; got up to 68 from acc"):
        datapath.matmul(codes, codes.T, wide)

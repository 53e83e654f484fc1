import math
from fractions import Fraction

import pytest
import torch

from rung.formats import LNS, get
from rung.hardware import analysis
from rung.hardware import datapath as paths
from rung.hardware.datapath import Datapath

ROOMY = {"accumulator_bits": 40}
DESIGNS = {
    "lut": Datapath(**ROOMY),
    "lut, dropped": Datapath(dropped_bits=9),
    "mitchell": Datapath(conversion="mitchell", dropped_bits=5, **ROOMY),
    "hybrid": Datapath(conversion="hybrid", table_size=4, fraction_bits=5, **ROOMY),
    "too narrow": Datapath(accumulator_bits=20),
    "wraps": Datapath(conversion="mitchell", accumulator_bits=20, overflow="wrap", zero=True),
}


@pytest.mark.parametrize("name", DESIGNS)
def test_product_errors_are_those_of_every_pair_of_codes(name):
    design, bits = DESIGNS[name], 6
    codes = torch.arange(2**bits, dtype=torch.uint8)
    a, b = codes.repeat_interleave(2**bits), codes.repeat(2**bits)
    last = 2 ** (bits - 1) - 1
    # Exponents reach where 20 bits overflow only if the base factor is small.
    small = Datapath(**{**vars(design), "base_factor": 4, "bits": bits, "table_size": None})
    relative, units, lost, over = [], [], 0, 0
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        if small.zero and 0 in (x & last, y & last):
            continue
        exponent = (x & last) + (y & last)
        exact = 2.0 ** (exponent / 4 + small.fraction_bits)
        sign = -1 if (x ^ y) > last else 1
        one = pair(small, x, y)
        units.append(sign * one[0] - exact)
        relative.append(units[-1] / exact)
        lost += one[0] == 0
        over += one[1]
    found = analysis.conversion_error(small, bits).product
    assert found.pairs == len(units)
    assert found.worst_relative == pytest.approx(max(map(abs, relative)), rel=1e-9, abs=1e-12)
    assert found.mean_relative == pytest.approx(mean(map(abs, relative)), rel=1e-9, abs=1e-12)
    assert found.bias == pytest.approx(mean(relative), rel=1e-9, abs=1e-12)
    assert found.worst_units == pytest.approx(max(map(abs, units)), rel=1e-9, abs=1e-9)
    assert found.mean_units == pytest.approx(mean(map(abs, units)), rel=1e-9, abs=1e-9)
    assert found.overflows == pytest.approx(over / len(units))
    if not over:
        assert found.lost == pytest.approx(lost / len(units))


PAIRS = {}


def pair(design, x, y):
    """Result and overflows of one product, of a table of all."""
    if design not in PAIRS:
        codes = torch.arange(2**design.bits, dtype=torch.uint8)
        sums = paths.matmul_counted(codes[:, None], codes[None], design)
        PAIRS[design] = sums.values.tolist(), sums.overflows.tolist()
    values, overflows = PAIRS[design]
    return values[x][y], overflows[x][y]


def mean(values):
    values = list(values)
    return sum(values) / len(values)


@pytest.mark.parametrize("gamma", [1, 2, 8, 64, 2048])
def test_mitchells_error_is_that_of_one_plus_x(gamma):
    found = analysis.conversion_error(Datapath(gamma, "mitchell", accumulator_bits=48))
    errors = [(1 + r / gamma) / 2 ** (r / gamma) - 1 for r in range(gamma)]
    assert found.remainders == pytest.approx(errors, abs=1e-14)
    assert found.worst == pytest.approx(max(errors), abs=1e-14)
    assert 0 <= found.bias == pytest.approx(found.mean)
    assert found.worst < 0.0615


@pytest.mark.parametrize("fraction_bits", [0, 3, 8, 16])
@pytest.mark.parametrize("gamma", [8, 256])
def test_a_full_tables_error_is_half_a_unit_at_most(gamma, fraction_bits):
    found = analysis.conversion_error(Datapath(gamma, fraction_bits=fraction_bits))
    assert found.worst <= 2.0 ** -(fraction_bits + 1)
    for r, error in enumerate(found.remainders):
        # Exact: a constant is nearest if its neighbours' powers lie around 2^r.
        near = Fraction(round((1 + error) * 2 ** (r / gamma) * 2**fraction_bits))
        low, high = near - Fraction(1, 2), near + Fraction(1, 2)
        assert low**gamma <= 2 ** (r + gamma * fraction_bits) <= high**gamma


def test_larger_tables_have_smaller_errors():
    found = [
        analysis.conversion_error(
            Datapath(64, "hybrid", table_size=1 << k, fraction_bits=16, accumulator_bits=40)
        )
        for k in range(7)
    ]
    means = [error.mean for error in found]
    # Two constants are no better than none: 1 + x is exact again at the end of an octave.
    assert means[1:] == sorted(means[1:], reverse=True)
    assert means[2] < means[0] < means[1]
    for k, error in enumerate(found[:-1]):
        # 1 + x runs from one entry to the next, and is furthest off at x = 1 / ln 2 - 1 = 0.44.
        x = min((64 - 2**k) / 64 / 2**k, 28 / 64)
        assert error.worst == pytest.approx((1 + x) / 2**x - 1, abs=2e-5)


def test_one_product_of_the_default_width_saturates():
    found = analysis.conversion_error(Datapath()).product
    shifts = [(e + f) // 8 for e in range(128) for f in range(128)]
    # A bin of 24 bits holds -2^23 but not 2^23.
    over = sum(q >= 23 for q in shifts) + sum(q >= 24 for q in shifts)
    assert found.overflows == over / (2 * 128**2)
    assert found.lost == 0
    assert 0.99 < found.worst_relative < 1


def test_dots_separate_the_errors_of_format_and_datapath():
    fmt = get("lns8")
    exact = Datapath(fraction_bits=16, accumulator_bits=42)
    errors = analysis.dot_error(exact, fmt, lengths=[16, 256], samples=200, seed=1)
    assert [(error.length, error.outputs) for error in errors] == [(16, 225), (256, 225)]
    for error in errors:
        assert 28 < error.format_db < 33
        assert error.datapath_db > 90
        assert error.total_db == pytest.approx(error.format_db, abs=0.01)
        assert error.overflows == 0
    coarse = Datapath(conversion="mitchell", accumulator_bits=42)
    error = analysis.dot_error(coarse, fmt, lengths=[256], samples=200, seed=1)[0]
    assert error.format_db == errors[1].format_db
    assert 25 < error.datapath_db < 30
    assert 1.03 < error.gain < 1.05
    assert error.corrected_db > error.datapath_db + 5
    narrow = Datapath(dropped_bits=0)
    error = analysis.dot_error(narrow, fmt, lengths=[256], samples=200, seed=1)[0]
    assert error.overflows == 1
    assert error.datapath_db < 6


def test_given_numbers_are_compared_by_definition():
    fmt, design = LNS(6, 4, zero=True), Datapath(4, bits=6, zero=True, accumulator_bits=20)
    a, b = torch.randn(3, 10), torch.randn(10, 4)
    a[0, :5] = 0
    found = analysis.matmul_error(design, fmt, a, b)
    x, y = fmt.encode(a, axis=0), fmt.encode(b, axis=1)
    computed = paths.to_float(paths.matmul(x.codes, y.codes, design), design, fmt, x, y)
    right = a.double() @ b.double()
    decoded = fmt.decode(x).double() @ fmt.decode(y).double()
    for ratio, truth, value in (
        (found.format_db, right, decoded),
        (found.datapath_db, decoded, computed),
        (found.total_db, right, computed),
    ):
        noise = (value - truth).square().sum() / truth.square().sum()
        assert ratio == pytest.approx(-10 * math.log10(noise), abs=0.01)
    assert found.overflows == 0
    gain = (computed * decoded).sum() / decoded.square().sum()
    assert found.gain == pytest.approx(float(gain), rel=1e-6)
    noise = (computed / gain - decoded).square().sum() / decoded.square().sum()
    assert found.corrected_db == pytest.approx(-10 * math.log10(noise), abs=0.01)
    assert found.corrected_db >= found.datapath_db


def operands(length, bits=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.uint8 if bits <= 8 else torch.int16
    shape = ((5, length), (length, 6))
    a, b = (torch.randint(0, 1 << bits, s, generator=generator) for s in shape)
    return tuple((codes - ((codes >> 15) << 16)).to(dtype) for codes in (a, b))


@pytest.mark.parametrize(
    "design",
    [
        Datapath(dropped_bits=9),
        Datapath(conversion="hybrid", table_size=2, dropped_bits=12, vector_length=7),
        Datapath(base_factor=128, bits=12, zero=True, fraction_bits=2),
        Datapath(base_factor=2048, conversion="mitchell", bits=16, overflow="wrap"),
    ],
)
def test_bins_take_what_a_list_of_integers_takes(design):
    bits = design.bits or 8
    a, b = operands(40, bits)
    numbers, last = design.design(bits), 2 ** (bits - 1) - 1
    bins, outputs = [0] * 64, [0] * 64
    for i in range(5):
        for j in range(6):
            widest = 0
            for start in range(0, 40, design.vector_length or 40):
                content = [0] * numbers.table_size
                took = [1] * numbers.table_size
                for k in range(start, min(40, start + (design.vector_length or 40))):
                    x, y = int(a[i, k]) & (2 * last + 1), int(b[k, j]) & (2 * last + 1)
                    if design.zero and 0 in (x & last, y & last):
                        continue
                    q, r = divmod((x & last) + (y & last), numbers.base_factor)
                    span = numbers.base_factor // numbers.table_size
                    m = (1 << numbers.guard_bits) + (r % span if span > 1 else 0)
                    v = (m << q) >> design.dropped_bits
                    t = r // span
                    content[t] += -v if (x > last) != (y > last) else v
                    n = content[t]
                    took[t] = max(took[t], 1 + (n if n >= 0 else -n - 1).bit_length())
                for width in took:
                    bins[width] += 1
                widest = max(widest, *took)
            outputs[widest] += 1
    found = analysis.partial_sums(design, a, b)
    assert found.bins == tuple(bins)
    assert found.outputs == tuple(outputs)


@pytest.mark.parametrize("overflow", ["saturate", "wrap"])
@pytest.mark.parametrize("vector_length", [None, 9])
def test_partial_sums_say_at_which_widths_outputs_overflow(overflow, vector_length):
    design = Datapath(dropped_bits=9, overflow=overflow, vector_length=vector_length)
    a, b = operands(100)
    sums = analysis.partial_sums(design, a, b)
    counted = analysis.overflows(design, a, b, widths=range(18, 32))
    for one in counted:
        assert one.outputs == pytest.approx(sums.overflowing(one.accumulator_bits))
        assert (one.additions == 0) == (one.outputs == 0)
        assert one.share == one.additions / (100 * 30)
    assert counted[0].outputs == 1
    assert counted[-1].outputs == 0
    for share in (0.0, 0.1, 0.5):
        width = analysis.smallest_accumulator(design, a, b, share)
        assert sums.overflowing(width) <= share < sums.overflowing(width - 1)
        assert sums.quantile(1 - share) == width
        narrow = Datapath(overflow=overflow, vector_length=vector_length, accumulator_bits=20)
        dropped = analysis.fewest_dropped_bits(narrow, a, b, share)
        least = [
            analysis.overflows(Datapath(**{**vars(narrow), "dropped_bits": d}), a, b)[0].outputs
            for d in (dropped - 1, dropped)
        ]
        assert least[0] > share >= least[1]


def test_wide_outputs_are_followed_in_pieces(monkeypatch):
    a, b = operands(30)
    design = Datapath(dropped_bits=9)
    whole = analysis.partial_sums(design, a, b)
    monkeypatch.setattr("rung.hardware._partial_sums._PIECE", 1)
    assert analysis.partial_sums(design, a, b) == whole


def refused(call, text, error=ValueError):
    with pytest.raises(error, match=text):
        call()


def test_refusals():
    design, (a, b) = Datapath(dropped_bits=9), operands(4)
    lns8 = get("lns8")
    refused(lambda: analysis.conversion_error(design, 2), "`bits` must be from 3 to 16; got bits=2")
    refused(
        lambda: analysis.conversion_error(design, 8.0), "must be an integer; got 8.0", TypeError
    )
    refused(
        lambda: analysis.conversion_error(Datapath(bits=6), 8),
        "must be those of the datapath's codes, 6; got bits=8",
    )
    refused(lambda: analysis.dot_error(design, lns8, [0]), "`lengths` must be at least 1; got 0")
    refused(
        lambda: analysis.dot_error(design, lns8, [4], samples=1.5),
        "`samples` must be integers; got 1.5",
        TypeError,
    )
    refused(
        lambda: analysis.dot_error(design, LNS(8, 4)),
        r"the same base_factor; got 8 and 4. Use dataclasses.replace\(datapath, base_factor=4\)",
    )
    refused(lambda: analysis.dot_error(design, lns8.with_zero()), "the same zero; got False and Tr")
    refused(
        lambda: analysis.dot_error(Datapath(bits=6), lns8), "must have the same bits; got 6 and 8"
    )
    refused(
        lambda: analysis.matmul_error(design, lns8, torch.ones(2, 3), torch.ones(2, 3)),
        r"shapes \(M, K\) and \(K, N\), none of them 0; got \(2, 3\) and \(2, 3\)",
    )
    for function in (
        analysis.partial_sums,
        analysis.overflows,
        analysis.smallest_accumulator,
        analysis.fewest_dropped_bits,
    ):
        refused(lambda f=function: f(design, a, b[:0]), r"\(K, N\), none of them 0; got \(5, 4\)")
        refused(lambda f=function: f(design, a.float(), b), "tensor of LNS codes", TypeError)
    for function in (analysis.smallest_accumulator, analysis.fewest_dropped_bits):
        refused(lambda f=function: f(design, a, b, 1.5), "`share` must be from 0 to 1; got 1.5")
    sums = analysis.partial_sums(design, a, b)
    refused(lambda: sums.quantile(-0.1), "`share` must be from 0 to 1; got -0.1")
    refused(
        lambda: analysis.partial_sums(Datapath(base_factor=2), a, b),
        r"at most 62 bits to be followed; got up to 131 for 4 products .* Use dropped_bits=69",
    )

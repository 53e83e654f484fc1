"""Every implementation of the datapath gives the integers of the plain Python model."""

import pytest
import torch
from kernels.datapath_cases import DESIGNS, KINDS, codes, keywords, name
from oracles.integer_datapath import element, nearest_constant

from rung.kernels import datapath
from rung.kernels.cpu import datapath as cpu
from rung.kernels.cpu import datapath_rows as by_rows
from rung.kernels.datapath import Design

IMPLEMENTATIONS = {"reference": datapath.reference, "numba": cpu.matmul}


def outputs(compute, a, b, design, length=None):
    return compute(a, b, *datapath.tables(design), length or max(1, a.shape[1]), *design)


def model(a, b, design, length=None):
    rows, columns = (a.to(torch.int64) & 0xFFFF).tolist(), (b.to(torch.int64) & 0xFFFF).T.tolist()
    own = keywords(design)
    found = [[element(row, column, length=length, **own) for column in columns] for row in rows]
    return torch.tensor(found).reshape(len(rows), len(columns), 2).unbind(2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("design", DESIGNS, ids=name)
@pytest.mark.parametrize("compute", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
def test_sums_and_overflows_are_those_of_the_integer_model(compute, design, kind):
    for rows, depth, columns, length in ((3, 40, 19, None), (2, 37, 5, 16), (1, 1, 1, None)):
        a = codes((rows, depth), design, kind)
        b = codes((depth, columns), design, kind, seed=1)
        expected = model(a, b, design, length)
        for got, wanted in zip(outputs(compute, a, b, design, length), expected, strict=True):
            assert torch.equal(got, wanted)


@pytest.mark.parametrize("design", DESIGNS[:9], ids=name)
def test_every_pair_of_codes_gives_the_product_of_the_integer_model(design):
    every = torch.arange(256, dtype=torch.uint8)
    got = outputs(cpu.matmul, every[:, None], every[None], design)
    expected = model(every[:, None], every[None], design)
    for result, wanted in zip(got, expected, strict=True):
        assert torch.equal(result, wanted)


@pytest.mark.parametrize("length", [2, 17, 256, 1000, 4096])
def test_long_sums_are_those_of_the_integer_model(length):
    for design in DESIGNS[:9]:
        for kind in ("all", "gaussian"):
            a, b = codes((1, length), design, kind), codes((length, 2), design, kind, seed=1)
            expected = model(a, b, design)
            for got, wanted in zip(outputs(cpu.matmul, a, b, design), expected, strict=True):
                assert torch.equal(got, wanted)


@pytest.mark.parametrize("bits", [9, 12, 16])
def test_wide_codes_in_int16(bits):
    for gamma, size in ((16, 16), (256, 4), (2048, 1)):
        design = Design(bits, gamma, size, 8, 30, 2, False, False)
        a, b = codes((3, 21), design, "all"), codes((21, 4), design, "all", seed=1)
        expected = model(a, b, design)
        for compute in IMPLEMENTATIONS.values():
            for got, wanted in zip(outputs(compute, a, b, design), expected, strict=True):
                assert torch.equal(got, wanted)


def test_results_do_not_depend_on_threads_strides_or_where_a_tile_ends():
    threads = torch.get_num_threads()
    for design in DESIGNS[:3]:
        a, b = codes((70, 130), design, "gaussian"), codes((130, 101), design, "gaussian", seed=1)
        expected = outputs(datapath.reference, a, b, design)
        try:
            for count in (1, 2, 5):
                torch.set_num_threads(count)
                got = outputs(cpu.matmul, a.T.contiguous().T, b.T.contiguous().T, design)
                assert all(torch.equal(x, y) for x, y in zip(got, expected, strict=True))
        finally:
            torch.set_num_threads(threads)


ROWS = [design for design in DESIGNS if by_rows.rows_of(design) is not None]


def by_bins(a, b, design, length):
    """Every output through the loop that serves bins that may overflow."""
    shape = (a.shape[0], b.shape[1])
    total, overflows = (torch.zeros(shape, dtype=torch.int64) for _ in range(2))
    rows = by_rows.rows_of(design)
    for start in range(0, a.shape[1], length):
        part = slice(start, start + length)
        by_rows.add(a[:, part], b[part], rows, design, None, total, overflows)
    return total, overflows


@pytest.mark.parametrize("design", ROWS, ids=name)
def test_bins_in_order_are_those_of_every_pair_and_of_any_shape(design):
    every = torch.arange(256, dtype=torch.uint8)
    pairs = by_bins(every[:, None], every[None], design, 1)
    for got, wanted in zip(pairs, outputs(datapath.reference, every[:, None], every[None], design),
                           strict=True):  # fmt: skip
        assert torch.equal(got, wanted)
    for rows, depth, columns, length in (
        (1, 1, 1, 1), (3, 15, 5, 15), (2, 16, 4, 16), (7, 17, 9, 17), (5, 129, 3, 129),
        (3, 300, 6, 37), (1, 4096, 3, 4096), (2, 1000, 1, 333),
    ):  # fmt: skip
        for kind in KINDS:
            a = codes((rows, depth), design, kind)
            b = codes((depth, columns), design, kind, seed=1)
            expected = outputs(datapath.reference, a, b, design, length)
            for got, wanted in zip(by_bins(a, b, design, length), expected, strict=True):
                assert torch.equal(got, wanted)


@pytest.mark.parametrize("width", [10, 16, 23, 24, 25, 30, 36, 49, 50])
@pytest.mark.parametrize("wraps", [False, True])
def test_bins_that_are_full_in_both_directions_count_every_overflow(width, wraps):
    """Terms of every size up to twice a bin's range, at both of its ends."""
    for dropped in {0, 31 - width, 33 - width, 35 - width} & set(range(26)):
        for gamma, size in ((8, 8), (8, 1), (1, 1)):
            design = Design(8, gamma, size, 8, width, dropped, wraps, False)
            if gamma == 1 and width < 40:
                design = design._replace(bits=6, dropped_bits=max(0, 50 - width))
            a, b = codes((3, 200), design, "top"), codes((200, 9), design, "all", seed=1)
            a[:, ::3] = codes((3, 67), design, "low", seed=2)
            half = design.last + 1
            a[0] |= half  # most signs alike: at an end for long
            b[:, :4] &= half - 1
            expected = outputs(datapath.reference, a, b, design)
            for got, wanted in zip(by_bins(a, b, design, 200), expected, strict=True):
                assert torch.equal(got, wanted)


def test_bins_in_order_are_served_up_to_their_widest_and_no_further():
    assert by_rows.rows_of(Design(8, 8, 8, 8, 50, 0, True, False)) is not None
    assert by_rows.rows_of(Design(8, 8, 8, 8, 51, 0, False, False)) is None
    assert by_rows.rows_of(Design(8, 16, 16, 8, 24, 0, False, False)) is None
    assert by_rows.rows_of(Design(9, 8, 8, 8, 24, 0, False, False)) is None


def test_outputs_that_may_overflow_and_that_may_not_share_a_tile():
    design = Design(8, 8, 8, 8, 24, 9, False, False)
    a, b = codes((4, 64), design, "low"), codes((64, 40), design, "low", seed=1)
    a[1], b[:, 7] = 127, 127
    got, expected = outputs(cpu.matmul, a, b, design), model(a, b, design)
    assert all(torch.equal(x, y) for x, y in zip(got, expected, strict=True))
    assert int((got[1] > 0).sum()) == 1


def test_bounds_hold_for_every_pair():
    """No sum is trusted to float64 of which a bin could overflow."""
    every = torch.arange(256, dtype=torch.uint8)
    for design in DESIGNS:
        if design.bits == 8:
            bound = (
                cpu._magnitudes(every[:, None], design) * cpu._magnitudes(every[None], design)
            ).double()
            exponent = (every & 127).long()
            unit = 2**design.dropped_bits
            wanted = torch.tensor(
                [
                    [datapath.term(design._replace(dropped_bits=0), int(e + f))[0] / unit
                     for f in exponent.tolist()]
                    for e in exponent.tolist()
                ],
                dtype=torch.float64,
            )  # fmt: skip
            if design.zero:
                wanted *= (exponent > 0)[:, None] & (exponent > 0)
            assert bool((bound * 1.001 >= wanted).all())


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16, 64, 2048])
def test_constants_are_nearest(size):
    for fraction in (0, 1, 8, 12, 16):
        design = Design(8, size, size, fraction, 24, 0, False, False)
        for index in {0, 1, size // 3, size // 2, size - 1} - {size}:
            assert datapath.constant(design, index) == nearest_constant(index, size, fraction)


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3), (2, 4, 0)])
def test_empty_operands_give_zeros(shape):
    rows, depth, columns = shape
    design = DESIGNS[0]
    a = torch.zeros((rows, depth), dtype=torch.uint8)
    b = torch.zeros((depth, columns), dtype=torch.uint8)
    numbers = (*datapath.tables(design), max(1, depth), *design)
    for result in datapath.matmul(a, b, *numbers):
        assert result.shape == (rows, columns)
        assert not result.any()


def test_the_operator_is_seen_by_torch():
    design = DESIGNS[1]
    a, b = codes((3, 20), design, "all"), codes((20, 4), design, "all", seed=1)
    arguments = (a, b, *datapath.tables(design), 20, *design)
    torch.library.opcheck(torch.ops.rung.datapath_matmul, arguments)
    compiled = torch.compile(
        lambda *xs: torch.ops.rung.datapath_matmul(*xs)[0] + 1, fullgraph=True, backend="aot_eager"
    )
    assert torch.equal(compiled(*arguments), datapath.matmul(*arguments)[0] + 1)

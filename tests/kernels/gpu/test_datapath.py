"""The GPU's datapath against the reference: every integer."""

import pytest
import torch
from kernels.datapath_cases import DESIGNS, codes, name
from kernels.gpu.samples import DEVICE

from rung.kernels import datapath
from rung.kernels.datapath import Design
from rung.kernels.gpu import datapath as gpu


def both(design, kind, length):
    a, b = codes((5, 9), design, kind), codes((9, 19), design, kind, seed=1)
    tables = datapath.tables(design)
    expected = datapath.reference(a, b, *tables, length, *design)
    moved = [tensor.to(DEVICE) for tensor in (a, b, *tables)]
    got = gpu.matmul(*moved, length, *design)
    return [x.cpu() for x in got], expected


@pytest.mark.parametrize("kind", ["all", "low"])
@pytest.mark.parametrize("design", DESIGNS, ids=name)
def test_sums_and_overflows_are_the_references(design, kind):
    for length in (9, 4):
        for got, wanted in zip(*both(design, kind, length), strict=True):
            assert torch.equal(got, wanted)


def test_where_nothing_overflows_a_product_of_float64_is_exact():
    design = Design(8, 8, 8, 8, 48, 0, False, True)
    a, b = codes((5, 9), design, "all"), codes((9, 7), design, "all", seed=1)
    sums = gpu.exact(a.to(DEVICE), b.to(DEVICE), design)
    expected = datapath.reference(a, b, *datapath.tables(design), 9, *design)
    assert torch.equal(sums.cpu(), expected[0])
    assert int(expected[1].sum()) == 0


def test_a_product_of_float64_is_not_trusted_where_a_bin_may_overflow():
    design = Design(8, 8, 8, 8, 36, 0, False, False)
    top = torch.full((1, 16), 127, dtype=torch.uint8)
    assert gpu.exact(top[:, :8], top[:, :8].T, design) is not None
    assert gpu.exact(top, top.T, design) is None
    assert gpu.exact(top, top.T, design._replace(dropped_bits=2)) is None

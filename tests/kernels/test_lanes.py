"""Helpers that Python writes into the loops: operations, loops and branches of the running code."""

import numpy as np
import pytest

pytest.importorskip("numba")

from rung.kernels.cpu.arrays import on_stack
from rung.kernels.cpu.jit import inlined, jit, lane
from rung.kernels.cpu.lane_control import Variable, either, loop, when
from rung.kernels.cpu.lane_operands import choose


@lane
def _sum_of_odd(values, scale):
    total, last = Variable(np.float64(0)), on_stack(np.int64(0))
    last[0] = -1
    for i in loop(0, values.size):
        with when((values[i] % 2) != 0):
            total.now = total.now + values[i]
            last[0] = i
    product = total.now if scale is None else total.now * scale
    return product, min(max(last[0], 2), 5)


@jit
def _summed(values, scale):
    return _sum_of_odd(values, scale)


@pytest.mark.parametrize("scale", [None, 3.0])
def test_loops_and_branches_run_in_the_compiled_function(scale):
    values = np.arange(10)
    assert _summed(values, scale) == (25 * (scale or 1), 5)
    assert _summed(values[:2], scale) == (1 * (scale or 1), 2)
    assert _summed(values[:0], scale) == (0, 2)


@lane
def _sides(x):
    low, high = Variable(np.int64(0)), Variable(np.int64(0))
    with either(x < 0) as (negative, other):
        with negative:
            low.now = x
        with other:
            high.now = x
    return low.now, high.now, choose(x < 0, 1.5, 2)


@jit
def _both_sides(x):
    return _sides(x)


def test_either_takes_one_side_and_choose_gives_both_one_type():
    assert _both_sides(-3) == (-3, 0, 1.5)
    assert _both_sides(4) == (0, 4, 2.0)


@lane
def _branching(x):
    return x if x > 0 else -x


@inlined
def _inlined(x):
    return x if x > 0 else -x


def test_a_lane_must_not_branch_on_what_the_loop_computes():
    @jit
    def wrong(x):
        return _branching(x)

    @jit
    def right(x):
        return _inlined(x)

    with pytest.raises(TypeError, match="must not branch on a number that only the running loop"):
        wrong(1.0)
    assert right(-2.0) == 2.0

"""Helpers that Python writes into the loops: operations, loops and branches of the running code."""

import numpy as np
import pytest

pytest.importorskip("numba")

from numba.core.caching import NullCache
from numba.core.errors import TypingError

from rung.kernels.cpu.arrays import array_at, on_stack
from rung.kernels.cpu.jit import called, inlined, jit, lane
from rung.kernels.cpu.lane_control import Variable, during, either, loop, when
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
def _never_and_always(x):
    taken = Variable(np.int64(0))
    with when(np.bool_(False)):
        taken.now = taken.now + x
    with either(np.bool_(True)) as (yes, no):
        with yes:
            taken.now = taken.now + 2 * x
        with no:
            taken.now = taken.now + 4 * x
    return taken.now


def test_conditions_that_are_known_while_the_code_is_written_decide_branches_too():
    @jit
    def compiled(x):
        return _never_and_always(x)

    assert compiled(5) == 10


@lane
def _digits(number):
    left, count = Variable(number), Variable(np.int64(0))
    for _ in during(lambda: left.now > 0):
        left.now, count.now = left.now // 10, count.now + 1
    return count.now


@jit
def _digits_of(number):
    return _digits(number)


@pytest.mark.parametrize(("number", "digits"), [(0, 0), (7, 1), (1234, 4)])
def test_during_repeats_while_its_condition_holds(number, digits):
    assert _digits_of(number) == digits


@lane
def _collatz(start):
    """A loop in a branch in a loop, and a `Variable` made inside of one."""
    longest = Variable(np.int64(0))
    for first in loop(1, start + 1):
        number, steps = Variable(first), Variable(np.int64(0))
        for _ in during(lambda number=number: number.now != 1):
            with either((number.now & 1) == 0) as (even, odd):
                with even:
                    number.now = number.now // 2
                with odd:
                    number.now = 3 * number.now + 1
            steps.now = steps.now + 1
        longest.now = max(longest.now, steps.now)
    return longest.now


def test_loops_and_branches_nest():
    @jit
    def compiled(start):
        return _collatz(start)

    assert compiled(10) == 19  # of 9
    assert compiled(27) == 111


@lane
def _pair(numbers, nothing):
    (a, b), c = numbers
    assert nothing is None
    return (a + b, (c, None)), a * c


@jit
def _pairs(numbers, nothing):
    return _pair(numbers, nothing)


def test_tuples_and_none_are_pythons_own():
    assert _pairs(((1, 2.5), 3), None) == ((3.5, (3, None)), 3)


@called
def _power(x, times, scale):
    result = Variable(x)
    for _ in loop(1, times):
        result.now = result.now * x
    return (result.now, scale) if scale is not None else (result.now, times)


@lane
def _powers(x):
    cube, three = _power(x, np.int64(3), None)
    square, scale = _power(x, np.int64(2), np.float64(0.5))
    again, two = _power(x, np.int64(2), None)
    return cube, three, square, scale, again, two


def test_called_lanes_are_functions_of_the_module_one_for_each_kind_of_arguments():
    @jit
    def compiled(x):
        return _powers(x)

    compiled._cache = NullCache()  # what comes from the disk can't be looked at
    assert compiled(3) == (27, 3, 9, 0.5, 9, 2)
    assert compiled(1.5) == (3.375, 3, 2.25, 0.5, 2.25, 2)
    (code, _) = compiled.inspect_llvm().values()
    assert code.count("define internal") == 2


def test_arrays_at_addresses_are_the_memory_there():
    @jit
    def compiled(address, size):
        array = array_at(address, np.float32(0), size)
        array[1] = array[0] + np.float32(1)
        return array.size

    memory = np.array([2, 0, 5], np.float32)
    assert compiled(memory.ctypes.data, 3) == 3
    np.testing.assert_array_equal(memory, np.array([2, 3, 5], np.float32))


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

    with pytest.raises(
        TypeError,
        match="must not branch on a number that only the running loop knows, a bool.*; use select, "
        "choose or when, or declare the helper with `inlined` instead of `lane`",
    ):
        wrong(1.0)
    assert right(-2.0) == 2.0


@lane
def _unknown(x):
    return x.imaginary_friend


@lane
def _senseless(x):
    return x + None


@pytest.mark.parametrize(
    ("helper", "error", "message"),
    [
        (_unknown, AttributeError, "numba knows no 'imaginary_friend' of a float64"),
        (_senseless, TypingError, "No implementation of function Function.*add"),
    ],
)
def test_what_numba_does_not_know_says_so(helper, error, message):
    @jit
    def wrong(x):
        return helper(x)

    with pytest.raises(error, match=message):
        wrong(1.0)

import os
import subprocess
import sys
import threading
import time

import pytest
import torch

from rung.kernels.cpu.threads import run, split


@pytest.fixture
def threads():
    """Sets the number of threads; puts it back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("number", [1, 2, 3, 7])
@pytest.mark.parametrize("multiple", [1, 8, 16, 1000])
@pytest.mark.parametrize("grain", [1, 50, 2**16])
def test_ranges_cover_everything_once_in_order_at_multiples(threads, number, multiple, grain):
    threads(number)
    for count in (0, 1, 7, 8, 9, 100, 1001, 2**16, 2**20 + 3):
        ranges = split(count, multiple, grain)
        assert [begin for begin, _ in ranges] == [0, *(end for _, end in ranges[:-1])]
        assert ranges[-1][1] == count
        assert all(end % multiple == 0 for _, end in ranges[:-1])
        assert all(begin < end for begin, end in ranges) or ranges == [(0, 0)]
        assert len(ranges) <= max(1, min(number, count // grain))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_range_is_worked_on_once_the_last_by_the_caller(count):
    ranges = [(i, i + 1) for i in range(count)]
    who = {}

    def work(begin, end):
        assert (begin, end) not in who
        who[begin, end] = threading.get_ident()

    run(work, ranges)
    assert sorted(who) == ranges
    assert who[ranges[-1]] == threading.get_ident()
    assert all(who[part] != threading.get_ident() for part in ranges[:-1])


def test_ranges_are_worked_on_at_the_same_time():
    together = threading.Barrier(3, timeout=30)
    run(lambda begin, end: together.wait(), [(0, 1), (1, 2), (2, 3)])


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_error_reaches_the_caller_after_all_work_is_done(failing):
    done = []

    def work(begin, end):
        if begin == failing:
            raise RuntimeError(f"range {begin} failed")
        time.sleep(0.05)
        done.append(begin)

    with pytest.raises(RuntimeError, match=f"range {failing} failed"):
        run(work, [(0, 1), (1, 2), (2, 3)])
    assert sorted(done) == [i for i in range(3) if i != failing]
    run(work, [(3, 4), (4, 5)])  # and the pool still works
    assert sorted(done)[2:] == [3, 4]


FORKS = """
import os
from rung.kernels.cpu.threads import run
def count():
    seen = []
    run(lambda begin, end: seen.append(begin), [(0, 1), (1, 2), (2, 3)])
    return sorted(seen) == [0, 1, 2]
assert count()
child = os.fork()
if child == 0:
    os._exit(0 if count() else 1)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0
assert count()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_has_threads_of_its_own():
    # In a process of its own: this one has other libraries' threads.
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKS], check=True, timeout=120)

import pytest

from rung.bench.measure import CLOCKS, digits, interleave, ratios, spread


def test_steps_take_turns_and_change_their_order_every_round():
    order = []
    steps = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    times = interleave(steps, "wall", seconds=0.0, rounds=(3, 9))
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert [len(values) for values in times.values()] == [3, 3]


def test_rounds_end_with_the_time_or_their_number(monkeypatch):
    steps = {"a": lambda: None}
    assert len(interleave(steps, "cpu", seconds=60.0, rounds=(2, 4))["a"]) == 4
    assert len(interleave(steps, "cpu", seconds=0.0, rounds=(2, 4))["a"]) == 2


def test_a_clock_times_the_step_alone(monkeypatch):
    now = iter([0.0, 1.0, 10.0, 13.0])
    monkeypatch.setitem(CLOCKS, "wall", lambda: next(now))
    times = interleave({"a": lambda: None, "b": lambda: None}, "wall", seconds=0.0, rounds=(1, 1))
    assert times == {"a": [1.0], "b": [3.0]}


def test_ratios_are_those_of_a_round_and_their_median_is_no_ratio_of_medians():
    times = {"ours": [1.0, 8.0, 3.0], "theirs": [2.0, 4.0, 12.0]}
    found = ratios(times, "ours", "theirs")
    assert found == [0.5, 2.0, 0.25]
    assert spread(found).median == 0.5
    assert ratios({"a": [0.0], "b": [0.0]}, "a", "b") == [1.0]


@pytest.mark.parametrize(
    ("values", "quartiles"), [([3.0], (3.0, 3.0)), ([1.0, 2.0, 3.0, 4.0, 5.0], (2.0, 4.0))]
)
def test_spread(values, quartiles):
    found = spread(values)
    assert found.quartiles == quartiles
    assert found.record()["range"] == [min(values), max(values)]


def test_digits():
    assert digits(0.0123456) == 0.01235
    assert digits(123456.0) == 123500.0

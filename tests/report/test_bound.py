import math

import pytest

from rung.report.bound import judge
from rung.report.facts import layer_bound
from rung.report.run import read_run
from rung.theory import descent_bound

from .run_folders import edit_json


def judged(folder, **diagnostics):
    edit_json(folder / "diagnostics.json", lambda value: value.update(diagnostics))
    return judge(read_run(folder))


def test_a_rate_above_the_bound_is_said_plainly(make_run):
    verdict = judged(make_run(lr=0.01), lr=0.01, descent_bound=0.005)
    assert verdict.level == "above"
    assert "step 600, 0.01, is above the Theorem 1 bound of 0.005 (2 times" in verdict.headline
    assert "does not promise" in verdict.detail


def test_a_rate_within_the_bound_is_said_plainly(make_run):
    verdict = judged(make_run(lr=0.01), lr=0.002, descent_bound=0.05)
    assert verdict.level == "below"
    assert "is within the Theorem 1 bound of 0.05" in verdict.headline
    assert "The run began at 0.01, which is within it." in verdict.detail


def test_a_start_above_the_bound_is_told_too(make_run):
    verdict = judged(make_run(lr=0.01), lr=0.002, descent_bound=0.005)
    assert verdict.level == "below"
    assert "The run began at 0.01, which is above it." in verdict.detail


def test_a_schedule_that_ended_at_zero_is_judged_by_its_start(make_run):
    folder = make_run(lr=0.01)
    above = judged(folder, lr=0.0, descent_bound=0.005)
    assert above.level == "above"
    assert "at the start, 0.01, is above" in above.headline
    assert "measured at step 600" in above.detail
    assert judged(folder, lr=0.0, descent_bound=0.02).level == "below"


def test_a_bound_of_zero_is_below_every_rate(make_run):
    verdict = judged(make_run(), lr=0.01, descent_bound=0.0)
    assert verdict.headline.endswith("is above the Theorem 1 bound of 0.")


def test_an_additive_optimizer_is_not_judged(make_run):
    verdict = judged(make_run(optimizer="sgd", format=None), lr=1.0, descent_bound=0.01)
    assert verdict.level == "none"
    assert "does not apply to sgd" in verdict.headline


def test_a_step_through_zero_is_not_judged(make_run):
    verdict = judged(make_run(optimizer="signed-madam", format="sinh8"), lr=1.0, descent_bound=0.01)
    assert verdict.level == "none"
    assert "does not apply to signed-madam" in verdict.headline
    assert "adds to small ones" in verdict.detail


def test_no_angle_gives_no_bound(make_run):
    verdict = judged(make_run(), descent_bound=None)
    assert verdict.level == "none"
    assert "gives no bound" in verdict.headline


def test_nothing_measured_gives_no_verdict(make_run):
    folder = make_run()
    (folder / "diagnostics.json").unlink()
    assert judge(read_run(folder)) is None


@pytest.mark.parametrize("gamma", [0.0, 0.4, math.pi / 4, 1.5, math.pi / 2])
def test_the_bound_of_a_layer_is_the_theory_of_one_angle(gamma):
    assert layer_bound(gamma, 7) == pytest.approx(descent_bound([gamma], depth=7), abs=1e-16)
    assert layer_bound(None, 7) is None

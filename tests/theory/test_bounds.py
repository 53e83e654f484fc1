import math

import pytest

from rung.theory import descent_bound


@pytest.mark.parametrize(("depth", "printed"), [(50, 0.01), (500, 0.001), (5000, 0.0001)])
def test_bound_for_pi_over_four_is_the_one_the_paper_prints(depth, printed):
    bound = descent_bound([math.pi / 4], depth=depth)
    assert bound >= printed
    assert float(f"{bound:.0e}") == pytest.approx(printed)


def test_depth_is_the_number_of_angles_unless_given():
    angles = [math.pi / 4] * 50
    assert descent_bound(angles) == descent_bound([math.pi / 4], depth=50)
    assert descent_bound(angles, depth=500) == descent_bound([math.pi / 4], depth=500)


def test_bound_is_the_formula_at_its_worst_layer():
    angles = [0.3, 1.2, 0.9]
    expected = min((1 + math.cos(gamma)) ** (1 / 3) - 1 for gamma in angles)
    assert descent_bound(angles) == pytest.approx(expected, rel=1e-14)


def test_bound_runs_from_zero_at_a_right_angle_to_one_for_one_aligned_layer():
    assert descent_bound([0.0]) == pytest.approx(1.0)
    assert descent_bound([math.pi / 2, 0.0]) == pytest.approx(0.0, abs=1e-16)


def test_small_bounds_keep_their_digits():
    # log(1 + cos 0) / L to first order.
    assert descent_bound([0.0], depth=10**12) == pytest.approx(math.log(2) / 10**12, rel=1e-11)


def test_no_angles_are_refused():
    with pytest.raises(ValueError, match="`angles` must hold at least one angle; got none"):
        descent_bound([])


@pytest.mark.parametrize("bad", [-0.1, 1.6, 45.0, float("nan")])
def test_angles_outside_the_quadrant_are_refused(bad):
    with pytest.raises(ValueError, match=r"between 0 and pi/2 radians; got .* math\.radians"):
        descent_bound([0.5, bad])


def test_depth_below_one_is_refused():
    with pytest.raises(ValueError, match="`depth` must be at least 1; got 0"):
        descent_bound([0.5], depth=0)

import pytest
import torch

from rung.train.tasks.frechet import Moments, frechet_distance, moments


def rotation(size, seed=0):
    draws = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, generator=draws, dtype=torch.float64))[0]


def normal(mean, variances, turn):
    covariance = turn @ torch.diag(torch.tensor(variances, dtype=torch.float64)) @ turn.T
    return Moments(torch.tensor(mean, dtype=torch.float64), covariance)


def test_normals_with_common_axes_have_the_known_distance():
    turn = rotation(3)
    first, second = [1.0, 4.0, 0.25], [9.0, 1.0, 0.25]
    found = frechet_distance(
        normal([0.0, 1.0, 2.0], first, turn), normal([1.0, 1.0, 0.0], second, turn)
    )
    # |m1 - m2|^2 = 1 + 4; per axis (s1 - s2)^2 of the standard deviations = 4 + 1 + 0.
    assert found == pytest.approx(5 + 5, abs=1e-9)


def test_covariances_of_other_axes_have_the_distance_of_their_product_root():
    one, two = (
        normal([0.0] * 4, [1.0, 2.0, 3.0, 4.0], rotation(4, 1)),
        normal([0.0] * 4, [5.0, 0.5, 2.0, 1.0], rotation(4, 2)),
    )
    eigenvalues = torch.linalg.eigvals(one.covariance @ two.covariance).real
    expected = float(one.covariance.trace() + two.covariance.trace() - 2 * eigenvalues.sqrt().sum())
    assert frechet_distance(one, two) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(two, one) == pytest.approx(expected, rel=1e-9)


def test_the_same_features_have_distance_zero():
    features = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    # Fewer images than features: the covariance is singular.
    for part in (features, features[:4]):
        assert frechet_distance(moments(part), moments(part)) == pytest.approx(0, abs=1e-6)


def test_moments_are_those_of_the_features():
    features = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    found = moments(features)
    assert found.mean.dtype == torch.float64
    torch.testing.assert_close(found.mean, features.double().mean(0))
    torch.testing.assert_close(found.covariance, torch.cov(features.double().T))
    assert found.finite
    assert not moments(features / 0).finite


def test_a_shift_of_all_features_is_the_whole_distance():
    features = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).double()
    found = frechet_distance(moments(features), moments(features + 2))
    assert found == pytest.approx(12, rel=1e-9)


@pytest.mark.parametrize("shape", [(1, 3), (5,), (2, 3, 4)])
def test_features_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"`features` must have shape \(N, D\) with N of at least"):
        moments(torch.zeros(shape))


def test_features_of_two_networks_are_refused():
    with pytest.raises(ValueError, match="must be of the same features; got 3 and 4"):
        frechet_distance(moments(torch.zeros(5, 3)), moments(torch.zeros(5, 4)))

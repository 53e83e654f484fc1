import math

import pytest
import torch
from scipy import stats

from rung.theory import normal_fit


@pytest.mark.parametrize("count", [3, 1000])
def test_the_normal_fit_is_that_of_scipy(count):
    values = torch.randn(count, generator=torch.Generator().manual_seed(3)).exp()
    fit, sample = normal_fit(values), values.double().numpy()
    assert (fit.mean, fit.std) == pytest.approx((sample.mean(), sample.std()))
    assert fit.skewness == pytest.approx(stats.skew(sample))
    assert fit.excess_kurtosis == pytest.approx(stats.kurtosis(sample))
    expected = stats.kstest(sample, stats.norm(sample.mean(), sample.std()).cdf).statistic
    assert fit.ks == pytest.approx(expected)


def test_logarithms_of_log_normal_values_fit():
    noise = torch.randn(20_000, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    fit = normal_fit((0.5 * noise - 2.0).exp().log())
    assert fit.ks < 0.01
    assert normal_fit((0.5 * noise - 2.0).exp()).ks > 0.05


def test_equal_values_have_no_shape():
    fit = normal_fit(torch.full((10,), 0.1))
    assert (fit.std, fit.skewness, fit.excess_kurtosis, fit.ks) == (0.0, None, None, None)


@pytest.mark.parametrize(
    ("values", "found"), [([], "none"), ([1.0, math.inf], "NaN or infinity"), ([math.nan], "NaN")]
)
def test_a_fit_needs_finite_values(values, found):
    with pytest.raises(ValueError, match=f"`values` must hold finite numbers; got {found}"):
        normal_fit(torch.tensor(values))

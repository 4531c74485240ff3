import numpy as np

from repurpose.domain.distributions.standardization import Standardization, covariance

rows = np.random.default_rng(0).normal(3, 2, (30, 4))


def test_means_are_0_and_variances_1_and_constant_columns_stay_finite() -> None:
    with_constant = np.column_stack([rows, np.full(30, 1e6 + 0.1, np.float32)])
    standardized = Standardization.of(with_constant).apply(with_constant)
    assert np.allclose(standardized.mean(axis=0), 0, atol=1e-9)
    assert np.allclose(standardized[:, :4].var(axis=0), 1)
    assert np.abs(standardized[:, 4]).max() < 1e-6


def test_a_row_of_weight_2_is_the_row_twice() -> None:
    weights = np.arange(30) % 3
    by_weight, by_rows = Standardization.of(rows, weights), Standardization.of(np.repeat(rows, weights, axis=0))
    assert np.allclose(by_weight.means, by_rows.means)
    assert np.allclose(by_weight.deviations, by_rows.deviations)
    repeated = by_rows.apply(np.repeat(rows, weights, axis=0))
    assert np.allclose(covariance(by_weight.apply(rows), weights), np.cov(repeated.T, bias=True))

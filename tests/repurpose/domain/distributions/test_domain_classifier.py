import numpy as np
import pytest
from scipy.stats import spearmanr

from repurpose.domain.distributions.domain_classifier import effective_sample_size, fit_log_linear_ratio, warn_of_few
from tests.repurpose.examples import identity_network

rng = np.random.default_rng(0)


def test_ratios_rise_with_the_true_ratio_and_are_1_on_average() -> None:
    source, target = (rng.normal(size=(200, 2)).astype(np.float32) + move for move in (0, np.float32([1, 0])))
    weights = rng.uniform(0.5, 1.5, 200)
    ratios = fit_log_linear_ratio(source, target, weights, identity_network(), 0).at(source)
    assert np.isclose(np.average(ratios, weights=weights), 1)
    assert spearmanr(ratios, source[:, 0]).statistic > 0.9
    slope = np.polyfit(source[:, 0], np.log(ratios), 1)[0]
    assert 0.6 < slope < 1.4  # the logarithm of the true ratio is x - 1/2


def test_domains_that_are_the_same_are_not_told_apart() -> None:
    source, target = (rng.normal(size=(100, 20)).astype(np.float32) for _ in range(2))
    ratios = fit_log_linear_ratio(source, target, np.ones(100), identity_network(), 0).at(source)
    assert effective_sample_size(ratios) > 50


def test_the_effective_sample_size_counts_equal_rows_and_few_give_a_warning() -> None:
    assert effective_sample_size(np.array([1.0, 1.0, 0.0, 0.0])) == 2
    warn_of_few(np.ones(20), "advice")
    with pytest.warns(UserWarning, match="20 source rows have an effective sample size of 1.0.* advice"):
        warn_of_few(np.eye(20)[0], "advice")


def test_rows_of_a_group_are_held_out_together_where_c_is_chosen() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 6)
    source = rng.normal(size=(60, 12))
    target = rng.normal(size=(10, 12))[groups] + 0.05 * rng.normal(size=(60, 12))
    of_all = np.concatenate([100 + np.arange(60), groups])
    with_groups, without = (
        fit_log_linear_ratio(source, target, np.ones(60), identity_network(), 0, given) for given in (of_all, None)
    )
    assert np.abs(with_groups.coefficients).max() < np.abs(without.coefficients).max()

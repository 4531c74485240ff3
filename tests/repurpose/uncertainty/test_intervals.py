import numpy as np
import pytest
from scipy.stats import beta, norm
from sklearn.metrics import roc_auc_score

from repurpose.uncertainty.intervals import (
    auroc_interval,
    bootstrap_interval,
    fpr95_interval,
    largest_unseen_share,
    share_interval,
)


@pytest.mark.parametrize(("n_hits", "n_rows"), [(0, 1), (3, 10), (30, 30), (95, 100)])
def test_a_share_has_the_interval_of_clopper_and_pearson(n_hits: int, n_rows: int) -> None:
    low = 0 if n_hits == 0 else beta.ppf(0.025, n_hits, n_rows - n_hits + 1)
    high = 1 if n_hits == n_rows else beta.ppf(0.975, n_hits + 1, n_rows - n_hits)
    assert share_interval(n_hits, n_rows) == pytest.approx((low, high))
    if n_hits == 0:
        assert largest_unseen_share(n_rows) == pytest.approx(high)


@pytest.mark.parametrize(("auroc", "n", "m"), [(0.0, 5, 8), (0.3, 20, 3), (0.5, 1, 1), (0.97, 30, 12), (1.0, 30, 30)])
def test_the_limits_of_auroc_solve_newcombes_equation(auroc: float, n: int, m: int) -> None:
    low, high = auroc_interval(auroc, n, m)
    assert 0 <= low <= auroc <= high <= 1
    assert high - low > 0.01
    for limit in (low, high):
        if 0 < limit < 1:  # by the variance in Hanley and McNeil's own words
            q1, q2 = limit / (2 - limit), 2 * limit**2 / (1 + limit)
            both = (n + m) / 2 - 1
            variance = (limit * (1 - limit) + both * (q1 - limit**2) + both * (q2 - limit**2)) / (n * m)
            assert abs(auroc - limit) / np.sqrt(variance) == pytest.approx(norm.ppf(0.975), rel=1e-6)
    mirrored = auroc_interval(1 - auroc, n, m)
    assert (1 - high, 1 - low) == pytest.approx(mirrored, abs=1e-9)


@pytest.mark.parametrize(("n_familiar", "n_unfamiliar", "distance"), [(30, 80, 2.0), (300, 80, 3.0), (60, 90, 6.0)])
def test_intervals_of_scores_hold_the_true_values(n_familiar: int, n_unfamiliar: int, distance: float) -> None:
    rng, bootstrap_rng, held = np.random.default_rng(0), np.random.RandomState(0), []
    true = norm.cdf(distance / np.sqrt(2)), norm.sf(norm.ppf(0.05, loc=distance))
    truth = np.repeat([0, 1], [n_familiar, n_unfamiliar])
    for _ in range(150):
        familiar, strange = rng.normal(size=n_familiar), rng.normal(distance, 1, size=n_unfamiliar)
        auroc = roc_auc_score(truth, np.concatenate([familiar, strange]))
        limits = auroc_interval(auroc, n_familiar, n_unfamiliar), fpr95_interval(familiar, strange, 400, bootstrap_rng)
        held.append([low <= value <= high for value, (low, high) in zip(true, limits)])
    # 0.95 less three standard errors of 150 repetitions
    assert np.mean(held, axis=0).min() > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 150)


def test_the_bootstrap_moves_to_the_value_and_stays_in_range() -> None:
    assert bootstrap_interval([0.2, 0.4], 0.1, 1.0) == pytest.approx((0.005, 0.195))
    assert bootstrap_interval([0.2, 0.8], 0.9, 1.0)[1] == 1.0

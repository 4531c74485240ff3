import numpy as np
import pytest
from scipy.stats import binom

from repurpose.labelling.watching.target_error import TargetError, largest_error, weight_levels


def test_the_largest_error_leaves_as_few_or_fewer_errors_the_probability_alpha() -> None:
    assert binom.cdf(4, 100, largest_error(4, 100, 0.01)) == pytest.approx(0.01)
    assert largest_error(0, 100, 0.05) == pytest.approx(1 - 0.05**0.01)
    assert largest_error(3, 3, 0.05) == 1.0


def test_capital_is_the_mean_over_stakes_of_products_over_rows() -> None:
    rng = np.random.default_rng(0)
    errors, levels = rng.random(12) < 0.4, weight_levels(0.1)
    chosen = rng.integers(16, size=12)
    found = TargetError.at_start(0.1).follow(errors, levels[chosen], rng.random(12), 0.9, np.inf)
    stakes = np.geomspace(0.01, 0.95, 24)
    by_hand = np.mean([np.prod(1 + u * levels[chosen] * (errors / 0.3 - 1)) for u in stakes])
    assert np.exp(found.log_capital_against(0.3)) == pytest.approx(by_hand)
    assert found.estimate == pytest.approx(levels[chosen] @ errors / levels[chosen].sum())


def test_limits_are_where_the_capital_reaches_its_limit() -> None:
    found = TargetError.at_start(None).follow(np.arange(100) % 5 == 0, np.ones(100), np.zeros(100), 0.9, np.inf)
    lower, upper = found.limits(0.05)
    assert 0.08 < lower < 0.2 < upper < 0.35
    assert np.exp(found.log_capital_against(lower)) == pytest.approx(20)
    assert TargetError.at_start(None).limits(0.05) == (0.0, 1.0)


@pytest.mark.parametrize("least", [None, 0.1])
def test_the_true_error_is_hardly_ever_left_out_at_any_time(least: float | None) -> None:
    rng, n_wrong = np.random.default_rng(0), 0
    for _ in range(60):
        # rows of which those that are wrong are more likely to be chosen
        errors = rng.random(1000) < 0.2
        chosen = np.full(1000, 0.2) if least is None else np.where(errors, 0.8, rng.choice([0.1, 0.3], size=1000))
        labelled = rng.random(1000) < chosen
        weights = np.ones(1000) if least is None else least / chosen
        found = TargetError.at_start(least).follow(
            errors[labelled], weights[labelled], rng.random(labelled.sum()), 0.2, np.log(20)
        )
        n_wrong += found.alarm_row is not None
        lower, upper = found.limits(0.025)
        n_wrong += not lower <= 0.2 <= upper
    assert n_wrong <= 12  # 6 are expected at most


def test_more_errors_than_allowed_are_told_at_the_row_that_tells_it() -> None:
    errors = np.random.default_rng(0).random(200) < 0.5
    whole = TargetError.at_start(None).follow(errors, np.ones(200), np.zeros(200), 0.2, np.log(100))
    assert whole.alarm_row is not None
    assert whole.alarm_row < 60
    parts = TargetError.at_start(None)
    for part in np.split(errors, [3, 50, 51]):
        parts = parts.follow(part, np.ones(len(part)), np.zeros(len(part)), 0.2, np.log(100))
    assert (parts.alarm_row, parts.largest) == (whole.alarm_row, whole.largest)


def test_weights_are_rounded_without_bias() -> None:
    taus = (np.arange(10_000) + 0.5) / 10_000
    found = TargetError.at_start(0.1).follow(np.zeros(10_000, bool), np.full(10_000, 0.37), taus, 1.0, np.inf)
    assert weight_levels(0.1) @ found.n_rows / 10_000 == pytest.approx(0.37, abs=1e-4)

import numpy as np
import pytest
from scipy.stats import kstest

from repurpose.labelling.watching.martingale import Curve, Martingale, cells_of, online_p_values


def test_p_values_are_ranks_among_all_rows_so_far() -> None:
    rng = np.random.default_rng(0)
    grid = np.sort(rng.normal(size=9))
    known, stream, taus = rng.normal(size=20), rng.normal(size=30), rng.random(30)
    counts = np.bincount(cells_of(grid, known), minlength=10)
    p_values, after = online_p_values(cells_of(grid, stream), taus, counts)
    for n in range(30):
        seen = np.digitize([*known, *stream[: n + 1]], grid)  # the row itself is among them
        by_hand = ((seen > seen[-1]).sum() + taus[n] * (seen == seen[-1]).sum()) / len(seen)
        assert p_values[n] == pytest.approx(by_hand, abs=1e-12)
    assert np.array_equal(after, np.bincount(np.digitize([*known, *stream], grid), minlength=10))


@pytest.mark.parametrize("n_cells", [2, 40])
def test_p_values_are_uniform_and_independent_though_scores_are_coarse_and_rows_to_compare_with_few(
    n_cells: int,
) -> None:
    rng, found = np.random.default_rng(1), []
    for _ in range(500):
        scores = rng.normal(size=13)
        cells = cells_of(np.linspace(-1, 1, n_cells - 1), scores)
        found.append(online_p_values(cells[3:], rng.random(10), np.bincount(cells[:3], minlength=n_cells))[0])
    p_values = np.array(found)
    assert kstest(p_values.ravel(), "uniform").pvalue > 0.01
    assert np.abs(np.corrcoef(p_values.T) - np.eye(10)).max() < 0.17  # 3.8 standard errors


@pytest.mark.parametrize("seed", range(3))
def test_streams_of_the_same_kind_raise_false_alarms_rarely_and_others_soon(seed: int) -> None:
    rng, grid, n_false, delays = np.random.default_rng(seed), np.linspace(-3, 3, 60), 0, []
    for _ in range(60):
        martingale = Martingale.against(grid, rng.normal(size=30))
        n_false += martingale.follow(rng.normal(size=200), rng.random(200), np.log(20)).alarm_row is not None
        changed = martingale.follow(rng.normal(1.5, size=200), rng.random(200), np.log(20))
        delays.append(changed.alarm_row or 1000)
    assert n_false <= 7  # 3 are expected at most
    assert np.median(delays) < 40


def test_the_alarm_is_the_first_row_at_the_limit_and_stays() -> None:
    martingale = Martingale.against(np.linspace(-3, 3, 60), np.random.default_rng(0).normal(size=50))
    found = martingale
    for row in range(1, 400):
        found = found.follow(np.array([9.0 if row < 60 else 0.0]), np.array([0.5]), np.log(100))
        if found.largest >= np.log(100):
            break
    assert found.alarm_row == row
    later = found.follow(np.zeros(300), np.full(300, 0.5), np.log(100))
    assert later.alarm_row == row
    assert martingale.alarm_row is None
    assert later.begun_again().alarm_row is None
    assert later.begun_again().capital.n_rows == 0


def test_a_curve_keeps_few_points_and_the_same_ones_however_rows_come() -> None:
    series = np.arange(1.0, 1001.0)
    whole = Curve().follow(series, 0)
    parts = Curve()
    for start in range(0, 1000, 37):
        parts = parts.follow(series[start : start + 37], start)
    assert parts == whole
    assert 64 <= len(whole.values) <= 128
    assert whole.values == tuple(np.arange(whole.stride, 1001, whole.stride))


def test_scores_that_are_nan_are_refused() -> None:
    with pytest.raises(ValueError, match="scores of 1 rows are NaN, that of row 1"):
        cells_of(np.zeros(1), np.array([0.0, np.nan]))

import numpy as np
import pytest

from repurpose.labelling.watching.grids import (
    MOST_CELLS,
    certainty_grid,
    energy_grid,
    grid_around,
    scores_of_held_out_rows,
)
from repurpose.uncertainty.comparisons import ReferenceRows


@pytest.mark.parametrize(
    "grid",
    [
        certainty_grid(),
        energy_grid(2),
        grid_around(np.random.default_rng(0).normal(size=50)),
        grid_around(np.full(3, 7.0)),
        grid_around(np.array([-1e6])),
        grid_around(np.zeros(1)),
    ],
)
def test_grids_rise_and_are_small(grid: np.ndarray) -> None:
    assert (np.diff(grid) > 0).all()
    assert 40 < len(grid) < MOST_CELLS


def test_a_grid_parts_the_scores_that_it_is_made_of_evenly_and_reaches_far() -> None:
    scores = np.random.default_rng(0).gamma(3.0, size=1000)
    grid = grid_around(scores)
    assert np.bincount(np.searchsorted(grid, scores)).max() <= 10
    assert grid[-1] > 1e3 * scores.max()
    assert grid[0] < 0


def test_the_last_digits_of_scores_that_many_rows_share_change_no_cell() -> None:
    scores = np.concatenate([np.full(50, 1 / 3), np.full(30, 2.0), np.random.default_rng(0).gamma(3.0, size=120)])
    fractions = np.array([1 - part / whole for whole in range(2, 13) for part in range(1, whole)])
    for grid, shared in ((grid_around(scores), scores), (certainty_grid(), fractions)):
        # a network's float32 in another batch
        cells = [np.searchsorted(grid, shared * (1 + sign * 2e-7), side="right") for sign in (-1, 0, 1)]
        assert np.array_equal(cells[0], cells[1])
        assert np.array_equal(cells[1], cells[2])


def test_only_rows_that_a_scorer_did_not_see_are_scored() -> None:
    rows = ReferenceRows(np.arange(40.0)[:, None], np.arange(40) % 2)
    seen = []

    def scorer_of(others: ReferenceRows):
        seen.append(others)
        return lambda matrix: np.isin(matrix[:, 0], others.matrix[:, 0]).astype(float)

    assert not scores_of_held_out_rows(rows, scorer_of, np.random.RandomState(0)).any()
    assert len(seen) == 5  # all folds, as there are fewer than 200 rows

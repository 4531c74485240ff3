"""Grids turn scores into a few numbers that can be counted, so that a state is small however long the stream.

A grid is fixed by rows that are neither among those to compare with nor in the stream, or by no rows at all. So the
cell of a row is a function of this row alone, as its score is, and cells of exchangeable rows are exchangeable. That
is all that the test needs; rows in one cell are ties, which chance breaks. A grid that fits badly costs power alone.

Limits keep away from scores that many rows may share, as blank images do: their last digits change with the batch and
the processor, and would put all of these rows into another cell at once.
"""

from collections.abc import Callable

import numpy as np

from repurpose.data.folds import deal_folds
from repurpose.uncertainty.comparisons import ReferenceRows

__all__ = ["MOST_CELLS", "certainty_grid", "energy_grid", "grid_around", "scores_of_held_out_rows"]

MOST_CELLS = 256
_N_QUANTILES, _N_ABOVE, _N_BELOW = 200, 40, 12
_ENOUGH = 200  # rows whose quantiles are the grid
_DIGITS = 9  # that are written
_ROUNDING = 1e-6  # of the largest score: scores nearer to each other may be the same


def certainty_grid() -> np.ndarray:
    """Return a grid for 1 - max p: steps of .005, and below that, where a sure head's rows lie, of 35 %.

    No limit is a fraction of small numbers, such as 1/2 or 3/5, which votes of neighbours or of trees give.
    """
    return _distinct(np.concatenate([np.geomspace(1e-9, 0.0037, 52, endpoint=False), 0.0037 + 0.005 * np.arange(199)]))


def energy_grid(n_classes: int) -> np.ndarray:
    """Return a grid for the mean of log p over the classes, which is -log `n_classes` at most: in steps of 7 %."""
    return _distinct(-np.log(n_classes) - np.geomspace(1e-4, 750.0, 240))


def grid_around(scores: np.ndarray) -> np.ndarray:
    """Return a grid between quantiles of scores (n_rows,), and beyond them in steps that grow by a third or more."""
    ordered = np.sort(scores)
    gaps = np.diff(ordered)
    between = (ordered[:-1] + gaps / 2)[gaps > _ROUNDING * np.abs(ordered[[0, -1]]).max()]
    inner = between[:: len(between) // _N_QUANTILES + 1]
    span = max(ordered[-1] - ordered[0], 0.01 * abs(ordered[-1]), 1e-12)
    above = ordered[-1] + span * np.geomspace(0.02, 1e4, _N_ABOVE)
    below = ordered[0] - span * np.geomspace(0.02, 1e4, _N_BELOW)
    return _distinct(np.concatenate([inner, above, below]))


def scores_of_held_out_rows(
    seen: ReferenceRows,
    scorer_of: Callable[[ReferenceRows], Callable[[np.ndarray], np.ndarray]],
    rng: np.random.RandomState,
) -> np.ndarray:
    """Return scores of rows that a scorer of the others did not see, of at least 200 where there are so many.

    Rows that a detector was fitted to look too familiar to it: their scores would say nothing of those to come.
    """
    folds = deal_folds(seen.codes, rng, seen.groups)
    if folds is None:  # then nothing can be held out, and these must do
        return scorer_of(seen)(seen.matrix)
    found: list[np.ndarray] = []
    for fold in range(folds.max() + 1):
        found.append(scorer_of(seen[folds != fold])(seen.matrix[folds == fold]))
        if sum(map(len, found)) >= _ENOUGH:
            break
    return np.concatenate(found)


def _distinct(values: np.ndarray) -> np.ndarray:
    return np.unique([float(f"{value:.{_DIGITS}g}") for value in values.tolist()])

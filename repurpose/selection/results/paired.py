"""Candidates are compared on the same held-out rows: the folds for all of them, and how sure a difference is.

Two losses of the same rows rise and fall together, so that their difference is far surer than either: the standard
error belongs to the mean of the differences by row, and rows of one group count as the one draw that they are.
"""

import numpy as np

from repurpose.data.folds import deal_balanced_folds

__all__ = ["paired_error", "selection_folds"]

_N_DRAWS = 1000  # of the bootstrap: they leave a standard error of its own 2.2 % uncertain
_MAX_ELEMENTS = 2**22


def paired_error(differences: np.ndarray, rng: np.random.RandomState, groups: np.ndarray | None = None) -> float:
    """Return the standard error of the mean of paired differences, by bootstrap of rows, or of whole groups.

    The deviation over 1,000 draws with replacement of the mean; where groups are drawn, a mean is over the rows of the
    drawn groups, however many they are. NaN for a single row or group, which says nothing of how others differ.

    Parameters
    ----------
    differences : ndarray of shape (n_rows,)
        By how much a loss is larger than another one's on the same row; in any unit, which is that of the error too.
    rng : RandomState
        Moved on by the draws. Generators of one seed draw the same rows for each pair that is compared.
    groups : int ndarray of shape (n_rows,), optional
        The group of each row, whose rows are drawn together.
    """
    units = np.arange(len(differences)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sizes, sums = np.bincount(units), np.bincount(units, differences)
    n_units = len(sizes)
    if n_units < 2:
        return float("nan")
    means = []
    at_once = max(1, _MAX_ELEMENTS // n_units)
    for start in range(0, _N_DRAWS, at_once):
        n_draws = min(at_once, _N_DRAWS - start)
        drawn = rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=n_draws)
        means.append(drawn @ sums / (drawn @ sizes))
    return float(np.concatenate(means).std(ddof=1))


def selection_folds(codes: np.ndarray, rng: np.random.RandomState, groups: np.ndarray | None = None) -> np.ndarray:
    """Deal rows into the five folds that hold them out, the same for all that is compared: int, (n_rows,).

    Folds hold the classes alike, and keep a group together; -1 for a row that is never held out, as the only one of its
    class. `codes` are 0..n_classes-1, `groups` the group of each row. Raises ValueError where no class has two examples
    (or groups).
    """
    folds = deal_balanced_folds(codes, rng, groups)
    if folds is None:
        raise ValueError(
            "no class has two examples that could be told apart from one another: to compare anything, give at least "
            "two labelled rows (in two groups, where there are groups) of a class"
        )
    return folds

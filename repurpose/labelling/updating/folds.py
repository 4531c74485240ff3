"""New training rows are dealt to the folds that there are; rows that have become all of a class are held out no more.

Each other row stays in its fold, so that what was learned without the fold goes on holding it out.
"""

import numpy as np

__all__ = ["folds_of_changed_rows"]


def folds_of_changed_rows(
    folds_before: np.ndarray, came_from: np.ndarray, codes: np.ndarray, groups: np.ndarray | None
) -> np.ndarray:
    """Return the fold of each row, (n_rows,), -1 where it is never held out; numbers are those of `folds_before`.

    A new row, or a whole new group, comes to the fold that has the fewest rows of its classes, and of such folds to the
    smallest. Where all rows of a class are in one fold, whose head would not know the class, these are not held out.

    Parameters
    ----------
    folds_before : int ndarray of shape (n_before,)
    came_from : int ndarray of shape (n_rows,)
        The number of each row among those before, or -1 for a new one.
    codes, groups : int ndarray of shape (n_rows,)
        Classes and groups of the rows; without groups each row is by itself.
    """
    of_row = np.arange(len(codes)) if groups is None else groups
    folds = np.where(came_from < 0, -1, folds_before[came_from])
    held_out = np.zeros((folds_before.max() + 1, codes.max() + 1), dtype=np.int64)
    np.add.at(held_out, (folds[folds >= 0], codes[folds >= 0]), 1)
    new_units = of_row[came_from < 0]
    for unit in new_units[np.sort(np.unique(new_units, return_index=True)[1])]:
        members = np.flatnonzero(of_row == unit)
        classes = np.unique(codes[members])
        fold = np.lexsort((held_out.sum(axis=1), held_out[:, classes].sum(axis=1)))[0]
        folds[members] = fold
        np.add.at(held_out, (fold, codes[members]), 1)
    return _known_outside(folds, codes, of_row)


def _known_outside(folds: np.ndarray, codes: np.ndarray, of_row: np.ndarray) -> np.ndarray:
    """Take out of its fold, with its groups, every class that has no row outside of it."""
    folds = folds.copy()
    for code in np.unique(codes):
        members = codes == code
        of_class = np.unique(folds[members])
        if len(of_class) == 1 and of_class[0] >= 0:
            folds[np.isin(of_row, of_row[members])] = -1
    return folds

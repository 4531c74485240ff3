"""Dealing labelled rows into folds, so that no fold has to predict a class that it never saw."""

import numpy as np

__all__ = ["N_FOLDS", "deal_folds"]

N_FOLDS = 5


def deal_folds(codes: np.ndarray, random_state: np.random.RandomState) -> np.ndarray | None:
    """The fold in which each row is held out, or -1 for never, shape (n_samples,); None if no class has two examples.

    Each class is shuffled and dealt out like cards, the next class starting where the last one ended. A class of fewer
    than five examples is spread over as many folds as it has examples; a class of one example is never held out.
    Classes are dealt in the order of their first rows, so that other names for them, sorted otherwise, change nothing.
    """
    counts = np.bincount(codes)
    if counts.max() < 2:
        return None
    folds = np.full(len(codes), -1)
    n_dealt = 0
    present, first_rows = np.unique(codes, return_index=True)
    for code in present[np.argsort(first_rows)]:
        if counts[code] < 2:
            continue
        members = random_state.permutation(np.flatnonzero(codes == code))
        folds[members] = (n_dealt + np.arange(len(members))) % N_FOLDS
        n_dealt += len(members)
    return folds

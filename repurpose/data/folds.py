"""Labelled rows are dealt into folds so that no fold has to predict a class that it never saw."""

import numpy as np

__all__ = ["N_FOLDS", "deal_balanced_folds", "deal_folds", "order_by_content"]

N_FOLDS = 5


def deal_folds(codes: np.ndarray, random_state: np.random.RandomState) -> np.ndarray | None:
    """Deal rows into folds that hold them out, -1 for never: shape (n_samples,); None if no class has two examples.

    Each class is shuffled and dealt out like cards, the next class starting where the last one ended. A class of fewer
    than five examples is spread over as many folds as it has examples; a class of one example is never held out.
    Classes are dealt in the order of their first rows, so that other names for them, sorted otherwise, change nothing.
    """
    return _deal(codes, random_state, each_from_the_first=False)


def deal_balanced_folds(codes: np.ndarray, random_state: np.random.RandomState) -> np.ndarray | None:
    """Deal folds as `deal_folds` does, but each class from the first fold on, so that folds hold classes alike.

    Holding out examples of one class alone makes just that class scarcer than the others, and a head that is to predict
    it for them says so: of two labels a class one is left, against two of every other. With two labels a class two
    folds hold out one of each.
    """
    return _deal(codes, random_state, each_from_the_first=True)


def order_by_content(
    rows: np.ndarray, codes: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return an order of the rows and of their classes that neither the order in which they come nor any name changes.

    Rows (n_samples, n_features) are ordered by their places on one fixed direction, which the last digit of a feature
    hardly changes. Of equal rows the first is that of the class that lies first on the whole, and of one class the
    lighter one. Classes are ordered by their first rows. Returns the numbers of the rows in that order, and in that
    order the class of each, as 0..n_classes-1.
    """
    direction = np.random.RandomState(0).standard_normal(rows.shape[1])
    # Not by BLAS, whose last digit depends on where a row stands: equal rows must have equal places.
    places = np.einsum("ij,j->i", rows.astype(np.float64, copy=False), direction)
    of_class = np.bincount(codes, places) / np.maximum(np.bincount(codes), 1)
    order = np.lexsort((np.zeros(len(rows)) if weights is None else weights, of_class[codes], places))
    _, first_rows, classes = np.unique(codes[order], return_index=True, return_inverse=True)
    return order, np.argsort(np.argsort(first_rows))[classes]


def _deal(codes: np.ndarray, random_state: np.random.RandomState, *, each_from_the_first: bool) -> np.ndarray | None:
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
        start = 0 if each_from_the_first else n_dealt
        folds[members] = (start + np.arange(len(members))) % N_FOLDS
        n_dealt += len(members)
    return folds

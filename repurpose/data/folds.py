"""Labelled rows are dealt into folds so that no fold has to predict a class that it never saw.

Rows of one group (`groups`) come into one fold, and a group that has all rows of a class is never held out.
"""

import numpy as np

from repurpose.data.groups import Grouping

__all__ = ["N_FOLDS", "deal_balanced_folds", "deal_folds", "deal_share", "order_by_content"]

N_FOLDS = 5


def deal_folds(
    codes: np.ndarray, random_state: np.random.RandomState, groups: np.ndarray | None = None
) -> np.ndarray | None:
    """Deal rows into folds that hold them out, -1 for never: shape (n_samples,); None if no class has two examples.

    Each class is shuffled and dealt out like cards, the next class starting where the last one ended. A class of fewer
    than five examples is spread over as many folds as it has examples; a class of one example is never held out.
    Classes are dealt in the order of their first rows, so that other names for them, sorted otherwise, change nothing.

    With `groups` (n_samples,), whole groups are dealt, each to the fold that has the smallest shares of its classes,
    and no fold holds out all rows of a class; None if no group can be held out. Groups of one row each are no groups.
    """
    return _deal(codes, random_state, groups, each_from_the_first=False)


def deal_balanced_folds(
    codes: np.ndarray, random_state: np.random.RandomState, groups: np.ndarray | None = None
) -> np.ndarray | None:
    """Deal folds as `deal_folds` does, but each class from the first fold on, so that folds hold classes alike.

    Holding out examples of one class alone makes just that class scarcer than the others, and a head that is to predict
    it for them says so: of two labels a class one is left, against two of every other. With two labels a class two
    folds hold out one of each.
    """
    return _deal(codes, random_state, groups, each_from_the_first=True)


def deal_share(
    codes: np.ndarray, fraction: float, random_state: np.random.RandomState, groups: np.ndarray | None = None
) -> np.ndarray:
    """Draw about a `fraction` of each class, rounded, and return the sorted numbers of these rows; there may be none.

    Every class keeps a row. With `groups` (n_samples,), whole groups are drawn: one after another, each that brings the
    shares of its classes nearer to what is wanted.
    """
    if groups is not None and len(np.unique(groups)) < len(groups):
        grouping = Grouping.of(codes, groups)
        return np.flatnonzero(_share_of_groups(grouping, fraction, random_state)[grouping.of_row])
    held_out = []
    for code in np.unique(codes):
        members = random_state.permutation(np.flatnonzero(codes == code))
        held_out.append(members[: min(round(fraction * len(members)), len(members) - 1)])
    return np.sort(np.concatenate(held_out))


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


def _deal(
    codes: np.ndarray, random_state: np.random.RandomState, groups: np.ndarray | None, *, each_from_the_first: bool
) -> np.ndarray | None:
    if groups is not None and len(np.unique(groups)) < len(groups):
        return _deal_groups(Grouping.of(codes, groups), random_state, each_from_the_first=each_from_the_first)
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


def _deal_groups(
    grouping: Grouping, random_state: np.random.RandomState, *, each_from_the_first: bool
) -> np.ndarray | None:
    """Deal groups as `_deal` deals rows: to the fold that has the smallest shares of the classes of a group.

    Of folds alike it is the first one, or else the one of fewest rows.
    """
    of_class = grouping.counts.sum(axis=0)
    held_out = np.zeros((N_FOLDS, len(of_class)), dtype=np.int64)
    folds = np.full(len(grouping.counts), -1)
    for group in grouping.in_turn(random_state):
        own = grouping.counts[group]
        shares = (held_out / of_class) @ (own / of_class)
        fullness = np.zeros(N_FOLDS) if each_from_the_first else held_out.sum(axis=1)
        leaves_none = (held_out + own == of_class).any(axis=1)
        order = np.lexsort((fullness, shares, leaves_none))
        if not leaves_none[order[0]]:
            folds[group] = order[0]
            held_out[order[0]] += own
    return None if folds.max() < 0 else folds[grouping.of_row]


def _share_of_groups(grouping: Grouping, fraction: float, random_state: np.random.RandomState) -> np.ndarray:
    """Tell which groups to hold out for a `fraction` of each class: bool (n_groups,)."""
    of_class = grouping.counts.sum(axis=0)
    shares, missing = grouping.counts / of_class, np.full(len(of_class), float(fraction))
    left, chosen = of_class.copy(), np.zeros(len(shares), dtype=bool)
    for group in random_state.permutation(grouping.in_turn(random_state)):
        helps = np.square(missing - shares[group]).sum() < np.square(missing).sum()
        if helps and (left > grouping.counts[group]).all():
            chosen[group] = True
            missing -= shares[group]
            left -= grouping.counts[group]
    return chosen

"""A stratified subset keeps fewer examples of the same classes, for what needs no more."""

import numpy as np

__all__ = ["class_sizes", "stratified_subset"]

_AT_LEAST = 2  # of each class, where it has them: one cannot be left out without leaving none


def stratified_subset(codes: np.ndarray, size: int, random_state: np.random.RandomState) -> np.ndarray:
    """Return sorted rows, about `size` of them and all where there are no more, in proportion to the classes.

    `codes` are sorted. Every class keeps two examples where it has them, unless there are too many classes for that:
    then classes are drawn, and the others left out.
    """
    if len(codes) <= size:
        return np.arange(len(codes))
    sizes = np.bincount(codes)
    starts = np.cumsum(sizes) - sizes
    kept = np.arange(len(sizes))
    if _AT_LEAST * len(kept) > size:
        kept = np.sort(random_state.permutation(kept)[: size // _AT_LEAST])
    share = size / sizes[kept].sum()
    rows = [
        starts[c] + random_state.permutation(sizes[c])[: max(min(_AT_LEAST, sizes[c]), int(share * sizes[c]))]
        for c in kept
    ]
    return np.sort(np.concatenate(rows))


def class_sizes(codes: np.ndarray) -> list[int]:
    """Return how many examples each class that occurs has; `codes` are sorted."""
    return np.unique(codes, return_counts=True)[1].tolist()

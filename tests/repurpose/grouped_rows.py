"""Rows with a planted group effect: those of a group are near copies, and groups differ as much as classes do."""

import numpy as np

from model_handler import Features

__all__ = ["grouped_features", "grouped_rows"]


def grouped_rows(
    seed: int = 0, n_groups: int = 16, per_group: int = 6, spread: float = 1.5, n_classes: int = 2
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows (n_rows, 6), the class of each and its group, in no order; every group is of one class."""
    rng = np.random.default_rng(seed)
    of_group = np.arange(n_groups) % n_classes
    centres = 0.7 * np.random.default_rng(99).normal(size=(n_classes, 6))[of_group] + spread * rng.normal(
        size=(n_groups, 6)
    )
    groups = rng.permutation(np.repeat(np.arange(n_groups), per_group))
    rows = centres[groups] + 0.1 * rng.normal(size=(len(groups), 6))
    return rows.astype(np.float32), of_group[groups], groups


def grouped_features(seed: int = 0, **how: int) -> tuple[Features, np.ndarray]:
    """Return the rows as features of the layer "0" with their classes, and their groups."""
    rows, codes, groups = grouped_rows(seed, **how)
    return Features({"0": rows}, codes), groups

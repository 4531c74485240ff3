"""`ChangedRows` tells a trained head how the rows that it learned from have changed: some are gone, others are new."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["ChangedRows"]


@dataclass(frozen=True, eq=False)
class ChangedRows:
    """The rows that a head is to know, and where each of them was among the rows that it knows.

    Attributes
    ----------
    matrix : float32 ndarray of shape (n_rows, n_features)
        The rows of features to know from now on.
    codes : int64 ndarray of shape (n_rows,)
        Their classes, as indices of `classes`.
    weights : float64 ndarray of shape (n_rows,) or None
        How many times each counts; None where each counts once.
    came_from : int64 ndarray of shape (n_rows,)
        The number of the row among those before, rising, or -1 for a new one.
    codes_before : int64 ndarray of shape (n_before,)
        The classes of the rows before, as they were numbered then.
    weights_before : float64 ndarray of shape (n_before,) or None
    classes : ndarray of shape (n_classes,)
        The labels from now on, sorted.
    new_code : int64 ndarray of shape (n_classes_before,)
        The number that each class of before has now, rising, or -1 for a class that is gone.
    indices_per_layer : mapping of str to int ndarray
        The columns of each layer.
    """

    matrix: np.ndarray
    codes: np.ndarray
    weights: np.ndarray | None
    came_from: np.ndarray
    codes_before: np.ndarray
    weights_before: np.ndarray | None
    classes: np.ndarray
    new_code: np.ndarray
    indices_per_layer: Mapping[str, np.ndarray]

    @cached_property
    def is_new(self) -> np.ndarray:
        """Which rows were not known before: bool (n_rows,)."""
        return self.came_from < 0

    @cached_property
    def is_gone(self) -> np.ndarray:
        """Which rows of before are no longer there: bool (n_before,)."""
        gone = np.ones(len(self.codes_before), dtype=bool)
        gone[self.came_from[~self.is_new]] = False
        return gone

    @property
    def has_same_classes(self) -> bool:
        """Whether no class is new or gone."""
        return len(self.classes) == len(self.new_code) and bool((self.new_code >= 0).all())

    @property
    def n_changes(self) -> int:
        """How many rows came or went."""
        return int(self.is_new.sum() + self.is_gone.sum())

"""What all candidates are judged by alike: the rows, the leave-outs and the folds, dealt once."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from repurpose.data.groups import warn_of_whole_classes
from repurpose.data.labels import encode_labels
from repurpose.meta_model.gp.calibration import deal_groups
from repurpose.meta_model.gp.left_out import rows_by_class
from repurpose.meta_model.gp.subset import class_sizes, stratified_subset
from repurpose.selection.results.paired import selection_folds

__all__ = ["N_DEALINGS", "Task"]

N_DEALINGS = 5
# Rows: each step of learning costs their cube, and of 1,000 digits 300 gave the losses of all to within a hundredth.
_TO_LEARN_FROM = 300


@dataclass(frozen=True, eq=False)
class Task:
    """Labelled rows sorted by class, and which of them are held out together.

    Attributes
    ----------
    order : int ndarray of shape (n_rows,)
        Their numbers among the rows that were read.
    codes : int64 ndarray of shape (n_rows,)
        Classes as 0..n_classes-1, sorted.
    groups : int ndarray of shape (n_rows,) or None
    dealings : list of list of int64 tensors
        Ways of leaving out one example (or group) of each class at a time: five, and fewer where some are the same.
    folds : int ndarray of shape (n_rows,)
        The fold that holds each row out, -1 for never.
    few : int ndarray of shape (n_few,)
        The rows from which kernels are learned.
    """

    order: np.ndarray
    codes: np.ndarray
    groups: np.ndarray | None
    dealings: list[list[Tensor]]
    folds: np.ndarray
    few: np.ndarray

    @classmethod
    def of(
        cls,
        matrix: np.ndarray,
        labels: np.ndarray,
        groups: np.ndarray | None,
        max_rows: int,
        random_state: np.random.RandomState,
    ) -> "Task":
        """Draw rows and deal them out by the content of features (n_samples, n_features), never by order or names.

        A UserWarning names classes whose rows are all of one group. Raises ValueError for labels that are no classes,
        and where no class has two examples (or groups).
        """
        encoded = encode_labels(labels)
        if groups is not None:
            warn_of_whole_classes(encoded.codes, groups, encoded.classes)
        order, codes = rows_by_class(matrix, encoded.codes, max_rows, random_state)
        return cls._dealt(order, codes, None if groups is None else groups[order], random_state)

    def part(self, rows: np.ndarray, random_state: np.random.RandomState) -> "Task":
        """Return the task of some rows of this one, (n_taken,) and growing, dealt out anew."""
        return self._dealt(rows, self.codes[rows], None if self.groups is None else self.groups[rows], random_state)

    @property
    def left_out(self) -> np.ndarray:
        """The rows that are ever left out, bool (n_rows,): the same in each dealing."""
        found = np.zeros(len(self.codes), dtype=bool)
        found[torch.cat(self.dealings[0]).numpy()] = True
        return found

    @property
    def sizes(self) -> list[int]:
        """How many rows each class has."""
        return class_sizes(self.codes)

    @classmethod
    def _dealt(
        cls, order: np.ndarray, codes: np.ndarray, groups: np.ndarray | None, random_state: np.random.RandomState
    ) -> "Task":
        codes = np.unique(codes, return_inverse=True)[1].astype(np.int64)  # a subset may lack classes
        folds = selection_folds(codes, random_state, groups)
        dealt = [deal_groups(class_sizes(codes), random_state, groups) for _ in range(N_DEALINGS)]
        # Few large groups come into the same sets again and again, each of which takes long.
        distinct = {frozenset(rows.numpy().tobytes() for rows in dealing): dealing for dealing in dealt}
        dealings = list(distinct.values())
        if not dealings[0]:
            raise ValueError(
                "no group can be left out whole: each has all rows of a class, or so many rows that it takes too long; "
                "give rows of each class from several groups, or a smaller max_rows"
            )
        return cls(order, codes, groups, dealings, folds, stratified_subset(codes, _TO_LEARN_FROM, random_state))

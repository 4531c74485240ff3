"""Scores of new rows are put beside those of reference rows, by heads and detectors that saw neither in training.

The rows are those given to `conformalize`, or training rows out of their folds (`reference`). The head of a fold and
the detector of a fold saw neither the rows that were held out nor the new one, so that both are judged alike.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from repurpose.threads import threads_for
from repurpose.uncertainty.conformal import Comparison
from repurpose.uncertainty.head import Head
from repurpose.uncertainty.out_of_fold import Fold
from repurpose.uncertainty.prediction_sets import nonconformity_of_labels
from repurpose.uncertainty.unfamiliarity import DETECTORS, Detector, energy

__all__ = [
    "METHODS",
    "KnownLabels",
    "ReferenceRows",
    "ScoreByDetector",
    "ScoreByHead",
    "Scorer",
    "compare_labels",
    "compare_unfamiliarity",
    "fit_detector",
    "known_labels",
    "out_of_fold_probabilities",
    "score_true_labels",
]

METHODS = (*DETECTORS, "energy", "variance")

Scorer = Callable[[np.ndarray], np.ndarray]  # rows (n_samples, n_features) to scores (n_samples,)


@dataclass(frozen=True, eq=False)
class ReferenceRows:
    """Rows of features with their classes.

    Attributes
    ----------
    matrix : float32 ndarray of shape (n_rows, n_features)
    codes : int ndarray of shape (n_rows,)
    weights : float64 ndarray of shape (n_rows,) or None
        How many times each row counts; None where each counts once.
    groups : int ndarray of shape (n_rows,) or None
        Which rows belong together; None where each is by itself.
    """

    matrix: np.ndarray
    codes: np.ndarray
    weights: np.ndarray | None = None
    groups: np.ndarray | None = None

    @property
    def shares(self) -> np.ndarray | None:
        """How much each row counts among those that another is compared with, (n_rows,); None where each counts once.

        A group counts as one row, its rows together: a new row of a new group is exchangeable with one drawn from each,
        and with no more. Lee, Barber and Willett (2023), arXiv:2306.06342, with one row to judge in a group.
        """
        if self.groups is None:
            return self.weights
        counts = np.ones(len(self)) if self.weights is None else self.weights
        _, of_row = np.unique(self.groups, return_inverse=True)
        return counts / np.bincount(of_row, counts)[of_row]

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: np.ndarray) -> "ReferenceRows":
        """Return some of the rows, by a mask or by number."""
        weights, groups = (None if of_rows is None else of_rows[rows] for of_rows in (self.weights, self.groups))
        return ReferenceRows(self.matrix[rows], self.codes[rows], weights, groups)


def fit_detector(
    method: str, seen: ReferenceRows, indices_per_layer: Mapping[str, np.ndarray], n_training_rows: int
) -> Detector:
    """Return the detector of that name fitted to the rows it may see, which are some of `n_training_rows`."""
    with threads_for(n_training_rows):
        return DETECTORS[method].fit(seen.matrix, seen.codes, indices_per_layer, seen.weights)


@dataclass(frozen=True, eq=False)
class ScoreByHead:
    """How unfamiliar rows are by the head itself: ``"energy"`` or ``"variance"``."""

    head: Head
    method: str

    def __call__(self, matrix: np.ndarray) -> np.ndarray:
        """Return the scores (n_samples,) of rows (n_samples, n_features)."""
        if self.method == "energy":
            return energy(self.head.head_probabilities(matrix))
        return self.head.head_variances(matrix)


@dataclass(frozen=True, eq=False)
class ScoreByDetector:
    """How unfamiliar rows are by a detector, which was fitted to some of `n_training_rows`."""

    detector: Detector
    n_training_rows: int

    def __call__(self, matrix: np.ndarray) -> np.ndarray:
        """Return the scores (n_samples,) of rows (n_samples, n_features)."""
        with threads_for(len(matrix), self.n_training_rows):
            return self.detector.score(matrix)


def compare_unfamiliarity(judges: Iterable[tuple[Scorer, ReferenceRows]], matrix: np.ndarray) -> Iterator[Comparison]:
    """Yield the scores of the rows of the matrix, beside those of rows that each scorer did not see."""
    for score, reference in judges:
        yield Comparison(score(reference.matrix), score(matrix), reference.shares)


def compare_labels(
    judges: Iterable[tuple[Head, ReferenceRows]],
    matrix: np.ndarray,
    calibrated: Callable[[np.ndarray], np.ndarray],
    score: str,
    rank_cost: tuple[int, float],
) -> Iterator[Comparison]:
    """Yield each label's nonconformity for each row, (n_samples, n_classes), beside that of other rows' true labels.

    `calibrated` turns the probabilities of a head, which did not see the rows beside it, into those that are asked for.
    """
    for known in known_labels(judges, calibrated, score, rank_cost):
        yield known.beside(matrix)


@dataclass(frozen=True, eq=False)
class KnownLabels:
    """The nonconformity of reference rows' true labels by one head, (n_reference,): computed once for any new rows.

    `nonconformity` gives that of each label for new rows, (n_samples, n_classes); `shares` as of `ReferenceRows`.
    """

    reference: np.ndarray
    nonconformity: Scorer
    shares: np.ndarray | None

    def beside(self, matrix: np.ndarray) -> Comparison:
        """Return each label's nonconformity for each row of a matrix, beside that of the reference rows."""
        return Comparison(self.reference, self.nonconformity(matrix), self.shares)


def known_labels(
    judges: Iterable[tuple[Head, ReferenceRows]],
    calibrated: Callable[[np.ndarray], np.ndarray],
    score: str,
    rank_cost: tuple[int, float],
) -> Iterator[KnownLabels]:
    """Yield the nonconformity of reference rows' true labels by each head; arguments as of `compare_labels`."""
    for head, reference in judges:

        def nonconformity(matrix: np.ndarray, head: Head = head) -> np.ndarray:
            return nonconformity_of_labels(calibrated(head.head_probabilities(matrix)), score, rank_cost)

        known = score_true_labels(head, reference, calibrated, score, rank_cost)
        yield KnownLabels(known, nonconformity, reference.shares)


def score_true_labels(
    head: Head,
    rows: ReferenceRows,
    calibrated: Callable[[np.ndarray], np.ndarray],
    score: str,
    rank_cost: tuple[int, float],
) -> np.ndarray:
    """Return the nonconformity of the true label of each row, (n_rows,), by a head that did not see it."""
    of_labels = nonconformity_of_labels(calibrated(head.head_probabilities(rows.matrix)), score, rank_cost)
    return of_labels[np.arange(len(rows)), rows.codes]


def out_of_fold_probabilities(folds: Iterable[Fold], training: ReferenceRows) -> tuple[np.ndarray, ReferenceRows]:
    """Return probabilities (n_rows, n_classes) of the training rows that were ever held out, and these rows.

    Each is by the head that was trained without its fold, not calibrated.
    """
    folds = list(folds)
    probabilities = [fold.head.head_probabilities(training.matrix[fold.held_out]) for fold in folds]
    return np.concatenate(probabilities), training[np.concatenate([fold.held_out for fold in folds])]

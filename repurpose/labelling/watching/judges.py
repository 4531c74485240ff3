"""What rows of a stream are judged by: scores fixed before it, and rows that took no part in them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

import numpy as np

from model_handler import Features
from model_handler.errors import first_few, with_fix
from model_handler.user_warnings import warn_user
from repurpose.labelling.watching.grids import certainty_grid, energy_grid, grid_around, scores_of_held_out_rows
from repurpose.seeding import RandomState, rng_at_prediction
from repurpose.uncertainty.comparisons import ReferenceRows, ScoreByHead, Scorer, fit_detector
from repurpose.uncertainty.out_of_fold import Fold
from repurpose.uncertainty.unfamiliarity import DETECTORS

__all__ = ["CERTAINTY", "UNFAMILIARITY", "Judges", "Watched", "judges_of"]

UNFAMILIARITY, CERTAINTY = "unfamiliarity", "certainty"
_PROBABILITY_HOOK = "_predict_probability_from_features"
_FEW = 2  # rows of a class, of which a fold leaves one at most
_CONFORMALIZE = "call conformalize(data) with labelled rows that were not used in training, and watch then"


class Watched(Protocol):
    """What a watch needs of a trained Repurposer."""

    random_state: RandomState
    classes_: np.ndarray
    class_names_: np.ndarray

    def training_rows(self) -> ReferenceRows: ...

    def heads_of_folds(self) -> Iterator[Fold]: ...

    def head_probabilities(self, matrix: np.ndarray) -> np.ndarray: ...

    def _check_is_repurposed(self) -> None: ...

    def _check_columns(self, data: object) -> None: ...

    def _conformal_rows(self) -> ReferenceRows | None: ...

    def _fold_of_each_row(self) -> np.ndarray: ...

    def _training_layers(self, training: ReferenceRows) -> dict[str, np.ndarray]: ...

    def _scorer_by_detector(self, method: str, fold: int | None) -> Scorer: ...

    def _features_for_head(self, data: object) -> Features: ...

    def _judged(self, data: object) -> object: ...

    def _defines(self, hook: str) -> bool: ...

    def _checked_method(self, method: str) -> str: ...


@dataclass(frozen=True, eq=False)
class Judges:
    """Scores of rows of features, and the rows to compare a stream with, which none of them saw.

    Attributes
    ----------
    head : Repurposer
        Its own, or the one of a fold.
    scorers : dict of str to callable
        By the name of what is watched: rows (n_rows, n_features) to scores (n_rows,), larger is stranger.
    method : str
        By which rows are unfamiliar.
    reference : ReferenceRows
        One of each group, where there are groups.
    seen : ReferenceRows or None
        The rows that the scores were made of; None where they were not kept.
    columns : dict of str to int ndarray
        Those of each layer in these rows.
    came_from : str
        ``"conformalize"``, or ``"a fold"`` of the training rows.
    """

    head: Any
    scorers: Mapping[str, Scorer]
    method: str
    reference: ReferenceRows
    seen: ReferenceRows | None
    columns: Mapping[str, np.ndarray]
    came_from: str
    _learned: tuple[object, ...]

    def grid(self, name: str, rng: np.random.RandomState) -> np.ndarray:
        """Return the grid of what is watched under this name."""
        if name == CERTAINTY:
            return certainty_grid()
        if self.method not in DETECTORS or self.seen is None:
            return energy_grid(len(self.head.classes_))

        def detector_of(rows: ReferenceRows) -> Scorer:
            return fit_detector(self.method, rows, self.columns, len(rows)).score

        return grid_around(scores_of_held_out_rows(self.seen, detector_of, rng))

    def reference_scores(self, name: str) -> np.ndarray:
        """Return the scores of the rows to compare with: (n_reference,)."""
        return self.scorers[name](self.reference.matrix)

    def predicted_codes(self, matrix: np.ndarray) -> np.ndarray:
        """Return the code of the label that the head predicts for each row of features: (n_rows,)."""
        calibration = vars(self.head).get("calibration_")
        codes: np.ndarray
        if hasattr(self.head, "_predict_label_from_features") and (calibration is None or calibration.keeps_order):
            codes = self.head._predict_label_from_features(matrix)
        else:
            codes = self.head._calibrated(self.head.head_probabilities(matrix)).argmax(axis=1)
        return codes

    def n_reference_errors(self) -> int:
        """Return how many of the rows to compare with the head gets wrong."""
        return int((self.predicted_codes(self.reference.matrix) != self.reference.codes).sum())

    def fingerprint(self) -> str:
        """Return what tells these rows and classes from others: 64 hexadecimal digits."""
        digest = sha256(f"{type(self.head).__qualname__} {self.head.classes_.tolist()!r} {self.came_from}".encode())
        for rows in (self.reference, self.seen):
            if rows is not None:
                digest.update(f"{rows.matrix.shape}".encode())
                digest.update(np.ascontiguousarray(rows.matrix).tobytes())
                digest.update(np.asarray(rows.codes, dtype=np.int64).tobytes())
        return digest.hexdigest()

    def still_stand(self, repurposer: Watched) -> bool:
        """Tell whether the repurposer has learned nothing since these were made of it."""
        return all(now is before for now, before in zip(_learned_by(repurposer), self._learned, strict=True))


def judges_of(repurposer: Watched, method: str) -> Judges:
    """Return what a stream is judged by.

    Raises ValueError where there are no rows to compare with that are exchangeable with those of a stream, and
    NotImplementedError where there is no score to watch. Gives a UserWarning where these rows come from a fold, and a
    class has two rows of training or fewer.
    """
    repurposer._check_is_repurposed()
    can_be_asked, has_rows = repurposer._defines(_PROBABILITY_HOOK), hasattr(repurposer, "training_features_")
    method = repurposer._checked_method(method)
    if method == "variance":
        raise ValueError(f'method="variance" cannot be watched: use one of {[*DETECTORS, "energy"]}')
    watches_features = has_rows if method in DETECTORS else can_be_asked
    if not (can_be_asked or watches_features):
        raise NotImplementedError(
            f"{type(repurposer).__name__} has neither probabilities nor rows of training, so that there is nothing to "
            "watch"
        )
    reference = repurposer._conformal_rows()
    seen = repurposer.training_rows() if has_rows else None
    head: Any = repurposer
    fold = None
    if reference is None:
        head, fold, reference, seen = _of_one_fold(repurposer)
    scorers: dict[str, Scorer] = {}
    if watches_features:
        by_detector = method in DETECTORS
        scorers[UNFAMILIARITY] = (
            repurposer._scorer_by_detector(method, fold) if by_detector else ScoreByHead(head, method)
        )
    if can_be_asked:
        scorers[CERTAINTY] = _doubt(head)
    columns = {} if seen is None else Features(repurposer._training_layers(seen)).indices_per_layer
    reference = _one_of_each_group(reference, rng_at_prediction(repurposer))
    came_from = "conformalize" if fold is None else "a fold"
    return Judges(head, scorers, method, reference, seen, columns, came_from, _learned_by(repurposer))


def _of_one_fold(repurposer: Watched) -> tuple[Any, int, ReferenceRows, ReferenceRows]:
    """Return the head of the fold that holds out most rows, its number, and the rows that it holds out and has seen."""
    if hasattr(repurposer, "training_domains_"):
        raise with_fix(
            ValueError,
            "rows of the target that were adapted to are not exchangeable with new ones",
            python=_CONFORMALIZE,
        )
    training = repurposer.training_rows()
    if training.weights is not None and len(np.unique(training.weights)) > 1:
        raise with_fix(
            ValueError,
            "rows of training have weights that differ: a row that counts as several has nothing like it in a stream",
            python=_CONFORMALIZE,
        )
    largest = max(repurposer.heads_of_folds(), key=lambda fold: len(fold.held_out))
    _tell_of_small_classes(repurposer, training)
    folds = repurposer._fold_of_each_row()
    number = int(folds[largest.held_out[0]])
    return largest.head, number, training[largest.held_out], training[folds != number]


def _tell_of_small_classes(repurposer: Watched, training: ReferenceRows) -> None:
    """Give a UserWarning for classes of which a fold leaves one row, or one group, to learn from, or none."""
    units = np.arange(len(training)) if training.groups is None else training.groups
    codes, _ = np.unique(np.stack([training.codes, units]), axis=1)
    small = np.flatnonzero(np.bincount(codes, minlength=len(repurposer.classes_)) <= _FEW)
    if not len(small):
        return
    kind = "rows" if training.groups is None else "groups"
    said = (
        f"{first_few([str(name) for name in repurposer.class_names_[small]], 5)} have {_FEW} {kind} of training or "
        "fewer: those that a fold holds out look odder than those of a stream, so that false alarms may come more "
        "often than alpha says"
    )
    warn_user(with_fix(UserWarning, said, python=_CONFORMALIZE))


def _one_of_each_group(rows: ReferenceRows, rng: np.random.RandomState) -> ReferenceRows:
    """Return rows drawn at random, one of each group: rows of a group are more alike than a new one is to them."""
    if rows.groups is None:
        return ReferenceRows(rows.matrix, rows.codes)
    shuffled = rng.permutation(len(rows))
    _, first = np.unique(rows.groups[shuffled], return_index=True)
    chosen = np.sort(shuffled[first])
    return ReferenceRows(rows.matrix[chosen], rows.codes[chosen])


def _doubt(head: Any) -> Scorer:
    # before any calibration, which may have seen the rows to compare with
    def score(matrix: np.ndarray) -> np.ndarray:
        doubt: np.ndarray = 1 - head.head_probabilities(matrix).max(axis=1).astype(np.float64)
        return doubt

    return score


def _learned_by(repurposer: Watched) -> tuple[object, ...]:
    names = ("classes_", "target_model_", "training_features_", "conformal_features_", "calibration_")
    return tuple(vars(repurposer).get(name) for name in names)

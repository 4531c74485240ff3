"""A Repurposer judges rows by reference rows, and fits heads and detectors to these when they are first needed.

Folds and the heads trained without them are made from the features that were kept in training; they are then part of
what was learned: saved, loaded and never made again. Detectors are made again in each process.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import numpy as np
from sklearn.base import clone

from model_handler import Features
from model_handler.errors import with_fix
from repurpose.data.groups import can_be_held_out
from repurpose.fitted import fitted_attributes
from repurpose.seeding import rng_at_prediction, seed_at_prediction
from repurpose.uncertainty import defaults
from repurpose.uncertainty.comparisons import ReferenceRows, ScoreByDetector, ScoreByHead, Scorer, fit_detector
from repurpose.uncertainty.head import Head, HeadMixin
from repurpose.uncertainty.out_of_fold import Fold, deal_out, folds_with_heads, learn_without_folds
from repurpose.uncertainty.unfamiliarity import DETECTORS, Detector

__all__ = ["ReferenceMixin"]

_NOT_OF_ONE_HEAD = ("classes_", "feature_layer_names_", "n_features_per_layer_", "n_features_in_")
_TRAINING = ("training_features_", "training_codes_")
_OF_ITS_ROWS = ("training_weights_", "training_groups_")
_NOT_OF_A_FOLD = (*_NOT_OF_ONE_HEAD, *_TRAINING, *_OF_ITS_ROWS, *defaults.CURRENT, "class_names_")


class ReferenceMixin(HeadMixin):
    """Training rows, their folds with heads and detectors, and the rows given to `conformalize`."""

    training_features_: np.ndarray
    training_codes_: np.ndarray
    n_features_per_layer_: dict[str, int]
    folds_: np.ndarray
    fold_heads_: list[dict[str, Any]]
    conformal_features_: np.ndarray
    conformal_codes_: np.ndarray
    _check_is_repurposed: Callable[[], None]
    _learn_rows: Callable[..., Self]

    def training_rows(self) -> ReferenceRows:
        """Return the rows of training, as the head learned from them.

        Raises NotFittedError before `repurpose`, and ValueError where they were not kept.
        """
        self._check_is_repurposed()
        if missing := [name for name in _TRAINING if not hasattr(self, name)]:
            raise with_fix(
                ValueError,
                f"this {type(self).__name__} has no {' and '.join(missing)}, which this needs",
                python=self._without_training_rows(),
                shell="--coverage and --p-values need what `repurpose train` saves: train it again",
                between=": ",
            )
        weights, groups = (vars(self).get(name) for name in _OF_ITS_ROWS)
        return ReferenceRows(self.training_features_, self.training_codes_, weights, groups)

    def heads_of_folds(self) -> Iterator[Fold]:
        """Pair each fold of the training rows with the head that was trained without it.

        The first time takes as long as five trainings of the head, which are kept in `fold_heads_`. Raises ValueError
        where training rows were not kept, or none of them can be held out.
        """
        folds = self._fold_of_each_row()
        if not hasattr(self, "fold_heads_"):
            self.fold_heads_ = learn_without_folds(self, folds)
        return folds_with_heads(self, folds, self.fold_heads_)

    def learn_from(self, rows: np.ndarray) -> dict[str, Any]:
        """Train a head of the same parameters on the training rows numbered `rows` (n_kept,): what it learned."""
        return self._learned_by(self._untrained(), rows)

    def learn_anew(self) -> dict[str, Any]:
        """Train a head of the same parameters on all training rows, searching again for what a search chose."""
        rows, head = np.arange(len(self.training_rows())), self._untrained()
        for name in self._parameters_of_folds():
            setattr(head, name, getattr(self, name))
        return self._learned_by(head, rows)

    def _learned_by(self, head: Self, rows: np.ndarray) -> dict[str, Any]:
        """Train the head on the training rows numbered `rows` (n_kept,), and return what it learned."""
        training = self.training_rows()
        features = Features(self._training_layers(training), self.classes_[training.codes])
        kept = training[rows]
        head._learn_rows(features[rows], kept.weights, kept.groups)
        return {name: value for name, value in fitted_attributes(head).items() if name not in _NOT_OF_A_FOLD}

    def with_learned(self, learned: Mapping[str, Any]) -> Self:
        """Return a head of the same parameters and classes that has learned what `learn_from` gave."""
        head = self._untrained()
        vars(head).update({name: vars(self)[name] for name in _NOT_OF_ONE_HEAD}, **learned)
        return head

    def _fold_of_each_row(self) -> np.ndarray:
        """Return the fold in which each training row is held out, or -1: (n_samples,); dealt once, into `folds_`."""
        if not hasattr(self, "folds_"):
            rows = self.training_rows()
            self.folds_ = deal_out(rows.codes, rng_at_prediction(self), rows.groups)
        return self.folds_

    def _untrained(self) -> Self:
        head = clone(self).set_params(**self._parameters_of_folds())
        head.random_state = seed_at_prediction(self)  # so that whoever trains these heads gets the same
        head.feature_layer_names = list(vars(self)["feature_layer_names_"])
        return head

    def _has_reference_rows(self) -> bool:
        if hasattr(self, "conformal_features_") or hasattr(self, "fold_heads_"):
            return True
        if not hasattr(self, "training_codes_"):
            return False
        return bool(can_be_held_out(self.training_codes_, vars(self).get("training_groups_")).any())

    def _conformal_rows(self) -> ReferenceRows | None:
        """Return the rows given to `conformalize`, if any were."""
        if not hasattr(self, "conformal_features_"):
            return None
        groups = vars(self).get("conformal_groups_")
        return ReferenceRows(self.conformal_features_, self.conformal_codes_, groups=groups)

    def _judged_by(self) -> str:
        """Name what counts once among the rows to judge by: "rows", or "groups" of them."""
        rows = self._conformal_rows()
        return "rows" if (self.training_rows() if rows is None else rows).groups is None else "groups"

    def _heads_with_unseen_rows(self) -> Iterator[tuple[Head, ReferenceRows]]:
        """Yield heads, each with rows that it did not see in training."""
        if (conformal := self._conformal_rows()) is not None:
            yield self, conformal
            return
        for fold in self.heads_of_folds():
            yield fold.head, self.training_rows()[fold.held_out]

    def _own_weights(self, matrix: np.ndarray) -> np.ndarray:
        """Return how much rows to judge count beside the rows that `_heads_with_unseen_rows` gives: (n_samples,)."""
        return np.ones(len(matrix))

    def _scorers_with_unseen_rows(self, method: str) -> Iterator[tuple[Scorer, ReferenceRows]]:
        """Yield scores of unfamiliarity, each with rows that what computes it did not see."""
        if (conformal := self._conformal_rows()) is not None:
            yield self._scorer(method), conformal
        elif method in DETECTORS:
            folds = self._fold_of_each_row()
            for fold in range(folds.max() + 1):
                yield self._scorer_by_detector(method, fold), self.training_rows()[folds == fold]
        else:
            for head, rows in self._heads_with_unseen_rows():
                yield ScoreByHead(head, method), rows

    def _scorer(self, method: str) -> Scorer:
        """Return how unfamiliar rows are to the head, or to all of its training rows."""
        return self._scorer_by_detector(method, None) if method in DETECTORS else ScoreByHead(self, method)

    def _scorer_by_detector(self, method: str, fold: int | None) -> Scorer:
        return ScoreByDetector(self._detector(method, fold), len(self.training_codes_))

    def _detector(self, method: str, fold: int | None) -> Detector:
        """Return the detector fitted to all training rows, or those outside a fold; kept while rows stay the same."""
        training = self.training_rows()
        fitted_to, detectors = vars(self).get("_cached_detectors", (None, {}))
        # By identity: training again, and loading, make another array, and no array is changed in place.
        if fitted_to is not self.training_features_:
            detectors = {}
            self._cached_detectors = (self.training_features_, detectors)
        if (method, fold) not in detectors:
            seen = training if fold is None else training[self._fold_of_each_row() != fold]
            indices_per_layer = Features(self._training_layers(training)).indices_per_layer
            detectors[method, fold] = fit_detector(method, seen, indices_per_layer, len(training))
        return detectors[method, fold]

    def _training_layers(self, training: ReferenceRows) -> dict[str, np.ndarray]:
        """Return the features of each layer: (n_samples, width) by its name."""
        ends = np.cumsum(list(self.n_features_per_layer_.values()))[:-1]
        return dict(zip(self.n_features_per_layer_, np.split(training.matrix, ends, axis=1)))

    def _parameters_of_folds(self) -> dict[str, Any]:
        """Return parameters to train with without a fold: what a costly search chose may be kept for all of them."""
        return {}

    def _without_training_rows(self) -> str:
        """Return why there are no rows of training to judge by, and what to do."""
        return "they were deleted, or it was saved by an older version; call repurpose again"

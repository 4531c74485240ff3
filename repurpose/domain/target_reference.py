"""Answers about a target domain are judged by labelled rows of the target, since rows of the source tell another story.

The head is trained again without each fold, on rows that are adapted already: what adapts them saw no labels.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from model_handler import Features
from model_handler.errors import with_fix
from repurpose.data.groups import can_be_held_out
from repurpose.meta_model.meta_model_repurposer import MetaModelRepurposer
from repurpose.persistence.values.schema import Array, Dict, Maybe, Table, Text, Whole
from repurpose.uncertainty.comparisons import ReferenceRows, Scorer
from repurpose.uncertainty.head import Head
from repurpose.uncertainty.out_of_fold import Fold
from repurpose.uncertainty.unfamiliarity import DETECTORS

__all__ = ["KEPT_HERE", "TARGET", "AdaptedFeatures", "TargetReference", "in_layers", "train_head"]

TARGET = -1  # among the domains of training rows
# Kept here, and not in the head a second time.
KEPT_HERE = ("training_features_", "training_codes_", "training_weights_", "training_groups_")
_NO_PROMISE = (
    "no labelled row of the target is there to judge by, and rows of the source promise nothing about another domain"
)
_log = logging.getLogger(__name__)


class AdaptedFeatures(Features):
    """Features of rows of the target as the head takes them; what is adapted already is not adapted again."""


class TargetReference(MetaModelRepurposer):
    """The part of a `DomainRepurposer` that trains its head without folds and says which rows answers are judged by."""

    _schema: ClassVar[Table] = {
        "training_features_": Maybe(Array("n_rows", "n_adapted", dtypes="float32")),
        "conformal_features_": Maybe(Array("n_conformal", "n_adapted", dtypes="float32")),
        "source_domains_": Dict(Text(), Whole()),
        "training_domains_": Array("n_rows", dtypes="i", least=TARGET),
        "adapted_widths_": Dict(Text(), Whole()),
        "n_target_rows_": Whole(),
        "n_target_labels_": Whole(),
    }

    training_domains_: np.ndarray
    adapted_widths_: dict[str, int]
    _adapt_rows: Callable[[np.ndarray], np.ndarray]
    _adapt_later_source: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

    def _raw_features(self, data: object) -> Features:
        """Return the features of data to predict before they are adapted, of the right width."""
        return super().features_to_judge(data)

    def learn_from(self, rows: np.ndarray) -> dict[str, Any]:
        training = self.training_rows()
        features = Features(self._training_layers(training), self.classes_[training.codes])
        kept = training[rows]
        head = train_head(self.target_model_._untrained(), features[rows], kept.weights, kept.groups)
        for name in KEPT_HERE:
            head.__dict__.pop(name, None)
        return {"target_model_": head}

    def heads_of_folds(self) -> Iterator[Fold]:
        """Pair each fold with its head as `MetaModelRepurposer` does, holding out labelled rows of the target alone.

        Where there are none, rows of the source are held out; the log says which.
        """
        of_target = self._target_rows_held_out()
        rows = f"{of_target.sum()} labelled rows of the target" if of_target.any() else "rows of the source"
        _log.info("%s judges by %s, each out of its fold", type(self).__name__, rows)
        if not of_target.any():
            yield from super().heads_of_folds()
            return
        for fold in super().heads_of_folds():
            if (held_out := fold.held_out[of_target[fold.held_out]]).size:
                yield Fold(fold.head, held_out)

    def _training_layers(self, training: ReferenceRows) -> dict[str, np.ndarray]:
        return in_layers(training.matrix, self.adapted_widths_)

    def _target_rows_held_out(self) -> np.ndarray:
        """Tell which training rows are of the target and held out by a fold: bool (n_rows,)."""
        return (self._fold_of_each_row() >= 0) & (self.training_domains_ == TARGET)

    def _has_reference_rows(self) -> bool:
        return self._has_target_rows()

    def _has_target_rows(self) -> bool:
        """Tell whether there are labelled rows of the target that no head saw in training, or that a fold holds out."""
        if hasattr(self, "conformal_features_"):
            return True
        can_be = can_be_held_out(self.training_codes_, vars(self).get("training_groups_"))
        return bool(can_be[self.training_domains_ == TARGET].any())

    def _check_promises(self) -> None:
        """Raise ValueError where no labelled row of the target is left to judge answers by."""
        self._check_is_repurposed()
        if not self._has_target_rows():
            raise with_fix(
                ValueError,
                _NO_PROMISE,
                python="call conformalize(data) with labelled rows of the target that were not used in training",
            )

    def _heads_with_unseen_rows(self) -> Iterator[tuple[Head, ReferenceRows]]:
        self._check_promises()
        yield from super()._heads_with_unseen_rows()

    def _scorers_with_unseen_rows(self, method: str) -> Iterator[tuple[Scorer, ReferenceRows]]:
        self._check_promises()
        if self._conformal_rows() is not None or method not in DETECTORS:
            yield from super()._scorers_with_unseen_rows(method)
            return
        folds, of_target = self._fold_of_each_row(), self._target_rows_held_out()
        for fold in np.unique(folds[of_target]).tolist():
            yield self._scorer_by_detector(method, fold), self.training_rows()[of_target & (folds == fold)]


def train_head(
    head: MetaModelRepurposer, features: Features, weights: np.ndarray | None, groups: np.ndarray | None
) -> MetaModelRepurposer:
    """Train the head on rows that have a label; weights that are all the same are no weights."""
    if weights is not None and (weights == 1).all():
        weights = None
    return head._learn_rows(features, weights, groups)


def in_layers(matrix: np.ndarray, widths: Mapping[str, int]) -> dict[str, np.ndarray]:
    ends = np.cumsum(list(widths.values()))[:-1]
    return dict(zip(widths, np.split(matrix, ends, axis=1)))

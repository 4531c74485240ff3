"""Logistic regression learns from minibatches: recent rows are kept and fitted exactly, older ones are folded in.

Up to 20,000 rows are kept. When there are more, the older ones are folded into a quadratic (`folded_rows`) at the
coefficients of the moment, which come from all rows so far, and the last 10,000 stay. So the optimum is that of all
rows up to 20,000, and beyond it stays close to that: on 100,000 simulated rows the log loss was within .001 of that of
a fit to all of them, from which a fit to the rows kept was .02 away.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if

from model_handler import Features
from model_handler.network.ambient_modes import undisturbed
from repurpose.data.class_weights import weight_of_each_row
from repurpose.data.feature_rows import check_rows
from repurpose.data.inputs import Inputs
from repurpose.data.kinds import inputs_of, is_sharded
from repurpose.data.labelled_data import REQUIRES_LABELS, needed_labels
from repurpose.data.labels import encode_labels, label_array, label_codes
from repurpose.data.row_shapes import SeenShapes
from repurpose.data.sample_weights import checked_counts, checked_weights, refuse_shuffling
from repurpose.data.scaling import BlockScaling
from repurpose.fitted import fitted_attributes
from repurpose.meta_model.gp.subset import stratified_subset
from repurpose.meta_model.sharded.folded_rows import FoldedRows, with_ones
from repurpose.meta_model.sharded.interface import N_IN_MEMORY, N_KEPT, TrainingSample, learns_in_parts
from repurpose.meta_model.sharded.regression import (
    as_logistic_regression,
    coefficients_of,
    minimize_in_blocks,
    moments_of,
)
from repurpose.persistence.values.schema import Maybe, Object, Table

__all__ = ["MinibatchTraining"]

# What speaks of rows that are no longer all; `add` forgets the same. The other things learned go on.
_OF_EARLIER_ROWS = ("folds_", "fold_heads_", "reference_answers_", "update_", "n_updates_", "training_files_")


class MinibatchTraining:
    """Gives logistic regression `partial_fit`.

    Attributes
    ----------
    folded_ : FoldedRows
        After `partial_fit` with more than 20,000 rows: what the rows that are not kept say.
    """

    _schema: ClassVar[Table] = {"folded_": Maybe(Object(FoldedRows))}

    classes_: np.ndarray
    c_: float

    @available_if(learns_in_parts)
    @undisturbed()
    def partial_fit(
        self,
        X: object,
        y: object = None,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Learn from one more minibatch of labelled rows, in place; an earlier result stays as it was if this fails.

        Up to 20,000 rows in all, the result is the fit to all of them, and the rows are `training_features_`. From then
        on the last 10,000 to 20,000 are, and what older ones say is kept as a quadratic; memory does not grow. So the
        order matters little for rows that come shuffled: shuffle what is sorted by class. Each call takes some passes
        over the rows kept, so that minibatches of a thousand rows are learned faster than as many of ten.

        ``c="auto"`` is chosen again, from about 5,000 of the rows, whenever their number has passed a power of two, and
        is held once there are more than 20,000. Goes on after `repurpose`, from its rows; rows given to `conformalize`
        and a calibration stay.

        Parameters
        ----------
        X : as `data` in `repurpose`
            Any labelled data, or inputs beside `y`; a `Features` too.
        y : array-like of shape (n_samples,), optional
        classes : array-like, optional
            All labels that there will be. Needed in the first call, and no others later.
        sample_weight : array-like of shape (n_samples,), optional
            How many times each row counts.

        Raises
        ------
        ValueError
            In the first call without `classes`; for labels not among them, features of another width, no rows, and
            where parameters need all rows: ``feature_layer_names="auto"``, ``class_weight="balanced"``, or groups in an
            earlier `repurpose`.

        Examples
        --------
        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import LrRepurposer
        >>> X, y = make_blobs(60, random_state=8)
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> repurposer = LrRepurposer(network, c=1.0)
        >>> for start in range(0, 60, 20):
        ...     _ = repurposer.partial_fit(X[start : start + 20], y[start : start + 20], classes=[0, 1, 2])
        >>> repurposer.score(X, y), repurposer.n_rows_seen_
        (1.0, 60)
        """
        repurposer: Any = self
        before = fitted_attributes(self)
        known = self._classes_of_stream(before, classes)
        if is_sharded(inputs_of(X)):
            raise TypeError(
                "partial_fit takes one minibatch: give the blocks of these shards in turn, for block in "
                "features.blocks(10_000); or give them to repurpose, which reads them in parts"
            )
        weights = checked_counts(sample_weight)
        if weights is not None:
            refuse_shuffling(X)
        if before:
            repurposer._check_columns(X)
        held = {name: value for name, value in before.items() if name not in _OF_EARLIER_ROWS}

        def learn(labelled: object) -> None:
            vars(self).update(held)
            self.classes_ = known
            self._learn_minibatch(labelled, weights)

        repurposer._learn_by(learn, X, y)
        vars(self).update({name: held[name] for name in ("class_names_", "feature_names_in_") if name in held})
        return self

    def _classes_of_stream(self, before: Mapping[str, Any], classes: ArrayLike | None) -> np.ndarray:
        """Return all classes, and refuse what cannot be learned from in turn."""
        repurposer: Any = self
        given = None if classes is None else encode_labels(classes).classes
        if "classes_" not in before:
            if given is None:
                raise ValueError(
                    "the first call of partial_fit needs classes, all labels that there will be, such as classes=[0, 1]"
                )
            if isinstance(repurposer.feature_layer_names, str):
                raise ValueError('feature_layer_names="auto" chooses by all rows; partial_fit needs names of layers')
        elif given is not None and not np.array_equal(given, before["classes_"]):
            raise ValueError(
                f"classes are {given.tolist()} and were {before['classes_'].tolist()} before; partial_fit needs all of "
                "them from the first call on. Call repurpose, or add, to begin with others"
            )
        if isinstance(repurposer.class_weight, str):
            raise ValueError(
                'class_weight="balanced" counts all rows, which partial_fit does not know; give a dict of weights'
            )
        if "classes_" in before:
            if repurposer.training_rows().groups is not None:
                raise ValueError("it was trained with groups, which partial_fit does not have; call repurpose or add")
            if "folded_" not in before:
                repurposer._refuse_rows_not_kept("partial_fit")
        return before["classes_"] if given is None else given

    def _learn_minibatch(self, labelled: Any, weights: np.ndarray | None) -> None:
        repurposer: Any = self
        before = dict(vars(self))
        goes_on, seen = "training_codes_" in before, SeenShapes()
        judge: Callable[[Inputs], None] = repurposer._judge_inputs if goes_on else seen.note
        names = before["feature_layer_names_"] if goes_on else repurposer._layers_to_extract(labelled)
        features: Features = repurposer._extract(labelled, names, judge)
        codes = self._codes_of_stream(features.labels)
        check_rows(features, codes)
        checked_weights(weights, len(features))
        if goes_on:
            repurposer._check_widths(features)
        else:
            repurposer._note_training()
            repurposer.feature_layer_names_ = features.layer_names
            repurposer.n_features_per_layer_ = {name: array.shape[1] for name, array in features.values.items()}
            repurposer.n_features_in_ = features.shape[1]
            if seen.shapes is not None:
                repurposer.row_shape_ = seen.shapes
        if weights is not None:
            features, codes, weights = features[weights > 0], codes[weights > 0], weights[weights > 0]
        n_before = int(before.get("n_rows_seen_", len(before.get("training_codes_", ()))))
        repurposer.n_rows_seen_ = n_before + len(codes)
        self._fit_window(self._window_with(features, codes, weights), n_before)

    def _codes_of_stream(self, labels: object) -> np.ndarray:
        given = label_array(needed_labels(labels, f"{type(self).__name__}.partial_fit {REQUIRES_LABELS}"))
        codes, unseen = label_codes(given, self.classes_)
        if unseen:
            names = ", ".join(map(repr, list(unseen)[:5])) + (", ..." if len(unseen) > 5 else "")
            raise ValueError(
                f"{unseen.total()} of {len(codes)} rows have labels that are not among the classes of the first call: "
                f"{names}. Call add for a new class, or repurpose"
            )
        return codes

    def _window_with(self, features: Features, codes: np.ndarray, weights: np.ndarray | None) -> TrainingSample:
        """Return the rows kept so far and new ones behind them, outliers in the range of the others."""
        repurposer: Any = self
        n_kept = 0
        if hasattr(self, "training_codes_"):
            kept = repurposer.training_rows()
            n_kept, layers = len(kept), repurposer._training_layers(kept)
            if weights is not None or kept.weights is not None:
                parts = [(kept.weights, n_kept), (weights, len(codes))]
                weights = np.concatenate([np.ones(n) if part is None else part for part, n in parts])
            values = {name: np.concatenate([layers[name], array]) for name, array in features.values.items()}
            features, codes = Features(values), np.concatenate([kept.codes, codes])
        name_of = lambda row: f"{row - n_kept} of this minibatch" if row >= n_kept else f"{row} of those kept"  # noqa: E731
        features = repurposer._without_outliers(features, codes, weights, name_of)
        return TrainingSample(features.matrix, codes, features.indices_per_layer, weights, None)

    def _fit_window(self, window: TrainingSample, n_before: int) -> None:
        """Fit the rows kept beside what those folded in say; keep no more than fit, in place."""
        repurposer: Any = self
        folded: FoldedRows | None = vars(self).get("folded_")
        if folded is None:
            scaling = BlockScaling.fit(window.matrix, window.indices_per_layer, window.weights)
        else:
            scaling = folded.scaling
        self.c_ = self._c_of_stream(window, n_before)
        inputs = with_ones(scaling.transform(window.matrix))
        row_weights = weight_of_each_row(repurposer.class_weight, self.classes_, window.codes, window.weights)
        moments = moments_of(inputs, row_weights)
        total = float(len(inputs) if row_weights is None else row_weights.sum())
        if folded is not None:
            moments, total = moments + folded.moments, total + folded.count
        before = vars(self).get("target_model_")
        start = np.zeros((inputs.shape[1], len(self.classes_))) if before is None else coefficients_of(before, scaling)
        minimum = minimize_in_blocks(
            lambda: [(inputs, window.codes, row_weights)],
            start,
            c=self.c_,
            total_weight=total,
            moments=moments,
            tol=repurposer.tol,
            folded=folded,
        )
        repurposer.target_model_ = as_logistic_regression(minimum, scaling, self.c_, repurposer.tol)
        n_gone = 0
        if len(inputs) > N_IN_MEMORY:
            n_gone = len(inputs) - N_IN_MEMORY // 2
            folded = FoldedRows.none(scaling, len(self.classes_)) if folded is None else folded
            gone = None if row_weights is None else row_weights[:n_gone]
            repurposer.folded_ = folded.joined_by(inputs[:n_gone], window.codes[:n_gone], gone, minimum.W)
        repurposer.training_features_ = window.matrix[n_gone:].copy() if n_gone else window.matrix
        repurposer.training_codes_ = window.codes[n_gone:]
        if window.weights is not None:
            repurposer.training_weights_ = window.weights[n_gone:]

    def _c_of_stream(self, window: TrainingSample, n_before: int) -> float:
        """Return the C to fit with: the one given, or chosen by a part of the rows whenever their number doubled."""
        repurposer: Any = self
        if not isinstance(repurposer.c, str):
            return float(repurposer.c)
        n_rows, held = repurposer.n_rows_seen_, vars(self).get("c_", 1.0)
        is_due = not hasattr(self, "c_scores_") or n_rows.bit_length() > n_before.bit_length()
        if hasattr(self, "folded_") or not is_due or len(np.unique(window.codes)) < 2:
            return held
        order, rng = np.argsort(window.codes, kind="stable"), check_random_state(repurposer.random_state)
        rows = np.sort(order[stratified_subset(window.codes[order], N_KEPT, rng)])
        weights = None if window.weights is None else window.weights[rows]
        repurposer._fit(window.matrix[rows], window.codes[rows], window.indices_per_layer, weights)
        return self.c_

    def _learned_by(self, head: Any, rows: np.ndarray) -> dict[str, Any]:
        repurposer: Any = self
        kept = repurposer.training_rows()
        if hasattr(self, "n_rows_seen_") and len(present := np.unique(kept.codes)) < len(self.classes_):
            absent = np.setdiff1d(np.arange(len(self.classes_)), present)
            names = ", ".join(map(repr, self.classes_[absent[:5]].tolist()))
            raise ValueError(
                f"of {names} there are no rows among those kept, so that no head can be trained without some of them; "
                "give labelled rows to conformalize, or more minibatches"
            )
        return super()._learned_by(head, rows)  # type: ignore[misc]

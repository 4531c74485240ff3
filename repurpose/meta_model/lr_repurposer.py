"""`LrRepurposer` fits multinomial logistic regression to the features of a network, by scikit-learn.

The features are centred and scaled (`scaling`), rotated where they are many (`row_space`), C is chosen by
cross-validation (`choice_of_c`), and the result is folded back into a plain `LogisticRegression` on raw features.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.utils import check_random_state
from torch import nn

from model_handler import Source
from repurpose.data.changed_rows import ChangedRows
from repurpose.data.class_weights import class_weight_mistakes, weight_of_each_class, weight_of_each_row
from repurpose.data.folds import deal_balanced_folds, order_by_content
from repurpose.data.groups import why_none_held_out
from repurpose.data.scaling import BlockScaling, Moments
from repurpose.fitted import fitted_attributes
from repurpose.meta_model.choice_of_c import choose_c, gradient_tolerance, known_classes
from repurpose.meta_model.meta_model_repurposer import MetaModelRepurposer
from repurpose.meta_model.onnx_heads.linear import LinearHead
from repurpose.meta_model.row_space import rotate_into_row_space
from repurpose.meta_model.sharded.blocks import TrainingBlocks
from repurpose.meta_model.sharded.folded_rows import with_ones
from repurpose.meta_model.sharded.interface import TrainingSample
from repurpose.meta_model.sharded.minibatches import MinibatchTraining
from repurpose.meta_model.sharded.regression import (
    InputBlock,
    as_logistic_regression,
    coefficients_of,
    minimize_in_blocks,
    moments_of,
)
from repurpose.meta_model.warm_start import WarmStart
from repurpose.parameters import is_one_of, is_positive
from repurpose.persistence.values.schema import Array, Dict, Maybe, Number, Object, Table, Whole

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

__all__ = ["LrRepurposer"]

_MAX_ITER = 5000


@dataclass(frozen=True, eq=False)
class ScaledFit:
    """A logistic regression on scaled training rows, which are rotated into their own space where they are wide.

    Attributes
    ----------
    model : LogisticRegression
    rows : ndarray of shape (n_samples, n_inputs)
    basis : ndarray of shape (n_features, n_inputs) or None
        A basis of the space of the rows; see `row_space`.
    scaling : BlockScaling
    weights : ndarray of shape (n_samples,) or None
        The weights of the rows in the loss, those of their classes included.
    """

    model: "LogisticRegression"
    rows: np.ndarray
    basis: np.ndarray | None
    scaling: BlockScaling
    weights: np.ndarray | None

    def on_raw_features(self) -> "LogisticRegression":
        """Fold the scaling into the coefficients: the same classifier for raw features."""
        model = copy(self.model)
        coefficients = model.coef_ if self.basis is None else model.coef_ @ self.basis.T
        model.coef_, model.intercept_ = self.scaling.fold_back(coefficients, model.intercept_)
        model.n_features_in_ = model.coef_.shape[1]
        return model


class LrRepurposer(MinibatchTraining, MetaModelRepurposer):
    """Logistic regression on the features of some layers of a source network.

    The coefficients w_k and intercepts b_k make ``sum_n s_n -log p_n(y_n) + (1 / (2 c)) sum_k |w_k|^2`` small, where
    the p_n are the softmax of ``w_k . x_n + b_k`` for scaled rows x_n and s_n is the `sample_weight` of a row times the
    weight of its class; for two classes the penalty is on one w, that of the difference. Scaling, ``"balanced"`` and
    the log loss that chooses C count a row as often as its `sample_weight` says (scaling not less than once); folds are
    dealt by rows.

    Parameters
    ----------
    source_model : nn.Module, Source or str
        The network to reuse, or its name.
    feature_layer_names : list of str, "auto" or None, default=None
        The layers whose outputs are the features: by default what the last linear layer reads; ``"auto"`` chooses them.
        See `MetaModelRepurposer`.
    c : float or "auto", default="auto"
        The inverse strength of the L2 penalty, on features scaled to a root-mean-square row norm of 16. ``"auto"``
        chooses among 1e-4 to 10 in half-decades, by the summed log loss (nats) of 5-fold cross-validation plus
        (log c)^2 / 2, a normal prior that keeps few rows near 1. Folds hold out one example of each class together, and
        neither the order of the rows nor the names of the classes changes them; of rows in groups they hold out one
        group of each class. Where no class has two examples (or groups) it warns and takes 1.0. Xfer's default was 1.0.
    tol : float, default=1e-5
        The size of the gradient at which the optimiser (lbfgs) stops; smaller by the root of C times n_samples where
        that is more than 1, as weakly regularised fits need. Xfer's default was 1e-4, for another optimiser (sag).
    n_jobs : int, optional
        Threads over the folds of the cross-validation.
    class_weight : dict of label to weight, "balanced" or None, default=None
        Weights of the classes, in the fit and in the log loss that chooses C. Xfer's default was ``"balanced"``; ours
        is None since weights distort the probabilities, which then no longer follow the frequencies of the classes.
    **kwargs
        The parameters of `MetaModelRepurposer` and `Repurposer`.

    Attributes
    ----------
    target_model_ : sklearn.linear_model.LogisticRegression
        The classifier of raw features, with codes 0..n_classes-1 for classes.
    c_ : float
        The value of `c` that was used.
    c_scores_ : dict of float to float
        With ``c="auto"``, the mean cross-validated log loss (nats) of each value tried; the search ends early once the
        loss has risen twice.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import LrRepurposer
    >>> X, y = make_blobs(30, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> repurposer = LrRepurposer(network, ["1"], c=1.0).repurpose((X, y))
    >>> repurposer.score((X, y)), repurposer.target_model_.coef_.shape
    (1.0, (3, 8))
    """

    _warm_start: WarmStart | None = None

    _schema: ClassVar[Table] = {
        "target_model_": Object(
            "LogisticRegression",
            {
                "classes_": Array("n_classes", dtypes="i u", least=0, below="n_classes"),
                "coef_": Array("n_logits", "n_features"),
                "intercept_": Array("n_logits"),
                "n_features_in_": Whole("n_features", "n_features"),
                "n_iter_": Maybe(Array("n_runs", dtypes="i", least=0)),
            },
        ),
        "c_": Number(above=0),
        "c_scores_": Maybe(Dict(Number(above=0), Number(finite=False))),
    }

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        feature_layer_names: Sequence[str] | str | None = None,
        *,
        c: float | str = "auto",
        tol: float = 1e-5,
        n_jobs: int | None = None,
        class_weight: Mapping[Any, float] | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(source_model, feature_layer_names, **kwargs)
        self.c = c
        self.tol = tol
        self.n_jobs = n_jobs
        self.class_weight = class_weight

    def _train_model_from_features(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        feature_indices_per_layer: Mapping[str, np.ndarray],
        sample_weight: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> "LogisticRegression":
        return self._fit(features, labels, feature_indices_per_layer, sample_weight, groups).on_raw_features()

    def _fit(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        feature_indices_per_layer: Mapping[str, np.ndarray],
        sample_weight: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> "ScaledFit":
        from sklearn.linear_model import LogisticRegression

        weights = weight_of_each_row(self.class_weight, self.classes_, labels, sample_weight)
        scaling = BlockScaling.fit(features, feature_indices_per_layer, sample_weight)
        # Where lbfgs stops depends on the axes, and those of the row space on the order of the rows.
        scaled = scaling.transform(features)
        order, codes = order_by_content(scaled, labels, weights)
        ordered, basis = rotate_into_row_space(scaled[order])
        ordered_weights = None if weights is None else weights[order]
        model = LogisticRegression(tol=self.tol, max_iter=_MAX_ITER)
        if isinstance(self.c, str):
            of_groups = None if groups is None else groups[order]
            folds = deal_balanced_folds(codes, check_random_state(self.random_state), of_groups)
            why = why_none_held_out(groups)
            choice = choose_c(ordered, codes, ordered_weights, model, folds, n_jobs=self.n_jobs, why_no_folds=why)
            self.c_, self.c_scores_ = choice.c, choice.scores
        else:
            self.c_ = float(self.c)
        total_weight = float(len(labels) if weights is None else weights.sum())
        model.set_params(C=self.c_, tol=gradient_tolerance(self.tol, self.c_, total_weight))
        if self._warm_start is not None:
            self._warm_start.give_to(model, scaling, basis)
        with known_classes():
            model.fit(ordered, labels[order], sample_weight=ordered_weights)
        model.set_params(warm_start=False)
        rows = np.empty_like(ordered)
        rows[order] = ordered
        return ScaledFit(model, rows, basis, scaling, weights)

    def _fit_in_parts(self, blocks: TrainingBlocks, moments: Moments, sample: TrainingSample) -> "LogisticRegression":
        """Choose C and start by a fit to the sample; each gradient then takes a pass over all blocks."""
        of_sample = self._fit(sample.matrix, sample.codes, sample.indices_per_layer, sample.weights, sample.groups)
        scaling = BlockScaling.of_moments(*moments.center_and_variance(), sample.indices_per_layer)
        counts = None if blocks.weights is None else blocks.weights[blocks.codes >= 0]
        of_rows = blocks.codes[blocks.codes >= 0]
        of_classes = weight_of_each_class(self.class_weight, self.classes_, of_rows, counts)

        def weigh(codes: np.ndarray, weights: np.ndarray | None) -> np.ndarray | None:
            if of_classes is None:
                return weights
            return of_classes[codes] if weights is None else of_classes[codes] * weights

        def inputs() -> Iterator[InputBlock]:
            for block in blocks.in_blocks():
                scaled = with_ones(scaling.transform(block.matrix))
                yield scaled, block.codes, weigh(block.codes, block.weights)

        total = float(len(of_rows) if (all_weights := weigh(of_rows, counts)) is None else all_weights.sum())
        weights = weigh(sample.codes, sample.weights)
        share = total / float(len(sample.codes) if weights is None else weights.sum())
        minimum = minimize_in_blocks(
            inputs,
            coefficients_of(of_sample.on_raw_features(), scaling),
            c=self.c_,
            total_weight=total,
            moments=share * moments_of(with_ones(scaling.transform(sample.matrix)), weights),
            tol=self.tol,
        )
        return as_logistic_regression(minimum, scaling, self.c_, self.tol)

    def _head_of_changed_rows(self, rows: ChangedRows) -> dict[str, Any]:
        """Fit again at the held C, from the coefficients that there are."""
        self._refuse_rows_not_kept("add or remove")
        head = self._untrained()  # which takes the C found by this one
        head.classes_ = rows.classes
        head._warm_start = WarmStart.of(self.target_model_, rows.new_code, len(rows.classes))
        trained = head._train_model_from_features(rows.matrix, rows.codes, rows.indices_per_layer, rows.weights)
        learned = {name: value for name, value in fitted_attributes(head).items() if name != "classes_"}
        return {**learned, "target_model_": trained, "update_": "warm start"}

    def _predict_probability_from_features(self, features: np.ndarray) -> np.ndarray:
        return self.target_model_.predict_proba(features.astype(np.float64))

    def _onnx_head(self) -> nn.Module | None:
        return LinearHead(self.target_model_.coef_, self.target_model_.intercept_)

    def _parameters_of_folds(self) -> dict[str, Any]:
        return {"c": self.c_}

    def _parameter_mistakes(self) -> list[str]:
        mistakes = super()._parameter_mistakes()
        if not is_one_of(self.c, ("auto",)) and not is_positive(self.c):
            mistakes.append(f'c must be "auto" or a positive finite number, got {self.c!r}')
        if not is_positive(self.tol):
            mistakes.append(f"tol must be a positive finite number, got {self.tol!r}")
        if self.n_jobs is not None and (not isinstance(self.n_jobs, Integral) or self.n_jobs == 0):
            mistakes.append(f"n_jobs must be a whole number other than 0, or None, got {self.n_jobs!r}")
        return mistakes + class_weight_mistakes(self.class_weight)

"""`LrRepurposer`: multinomial logistic regression on the features of a network, by scikit-learn.

The features are centred and scaled (`scaling`), rotated where they are many (`row_space`), C is chosen by
cross-validation (`choice_of_c`), and the result is folded back into a plain `LogisticRegression` on raw features.
"""

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import check_random_state
from torch import nn

from model_handler import Source
from model_handler.errors import nearest
from repurpose.meta_model.choice_of_c import choose_c, gradient_tolerance, known_classes
from repurpose.meta_model.meta_model_repurposer import MetaModelRepurposer
from repurpose.meta_model.row_space import rotate_into_row_space
from repurpose.meta_model.scaling import BlockScaling

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

__all__ = ["LrRepurposer"]

_MAX_ITER = 5000


class LrRepurposer(MetaModelRepurposer):
    """Logistic regression on the features of some layers of a source network.

    Parameters
    ----------
    source_model : nn.Module, Source or str
        The network to reuse, or its name.
    feature_layer_names : list of str or "auto"
        The layers whose outputs are the features; ``"auto"`` chooses them, as in `MetaModelRepurposer`.
    c : float or "auto", default="auto"
        The inverse strength of the L2 penalty, on features scaled to a root-mean-square row norm of 16. ``"auto"``
        chooses the value of least log loss in 5-fold cross-validation among 1e-4 to 10 in half-decades, the stronger
        penalty where two are equal; where no class has two examples it warns and takes 1.0. Xfer's default was 1.0.
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
    """

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        feature_layer_names: Sequence[str] | str,
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
        self, features: np.ndarray, labels: np.ndarray, feature_indices_per_layer: Mapping[str, np.ndarray]
    ) -> "LogisticRegression":
        from sklearn.linear_model import LogisticRegression

        class_weights = self._weight_of_each_class(labels)
        weights = None if class_weights is None else class_weights[labels]
        scaling = BlockScaling.fit(features, feature_indices_per_layer)
        rows, basis = rotate_into_row_space(scaling.transform(features))
        model = LogisticRegression(tol=self.tol, max_iter=_MAX_ITER)
        if isinstance(self.c, str):
            chance = check_random_state(self.random_state)
            choice = choose_c(rows, labels, weights, model, n_jobs=self.n_jobs, random_state=chance)
            self.c_, self.c_scores_ = choice.c, choice.scores
        else:
            self.c_ = float(self.c)
        total_weight = float(len(rows) if weights is None else weights.sum())
        model.set_params(C=self.c_, tol=gradient_tolerance(self.tol, self.c_, total_weight))
        with known_classes():
            model.fit(rows, labels, sample_weight=weights)
        coefficients = model.coef_ if basis is None else model.coef_ @ basis.T
        model.coef_, model.intercept_ = scaling.fold_back(coefficients, model.intercept_)
        model.n_features_in_ = features.shape[1]
        return model

    def _predict_probability_from_features(self, features: np.ndarray) -> np.ndarray:
        return self.target_model_.predict_proba(features.astype(np.float64))

    def _parameters_of_folds(self) -> dict[str, Any]:
        return {"c": self.c_}

    def _weight_of_each_class(self, codes: np.ndarray) -> np.ndarray | None:
        """Weights of shape (n_classes,). Raises ValueError for a class that was not in the training data."""
        if self.class_weight is None:
            return None
        if isinstance(self.class_weight, str):  # "balanced"
            return len(codes) / (len(self.classes_) * np.bincount(codes))
        known = self.classes_.tolist()
        if strangers := [label for label in self.class_weight if label not in known]:
            hints = [f"{label!r} (nearest: {nearest(str(label), map(str, known))})" for label in strangers]
            raise ValueError(f"class_weight names classes that are not among the labels: {', '.join(hints)}")
        weights = np.array([float(self.class_weight.get(label, 1.0)) for label in known])
        if not weights.any():
            raise ValueError("class_weight gives every class the weight 0; at least one class must count")
        return weights

    def _parameter_mistakes(self) -> list[str]:
        mistakes = super()._parameter_mistakes()
        if self.c != "auto" and not _is_positive(self.c):
            mistakes.append(f'c must be "auto" or a positive finite number, got {self.c!r}')
        if not _is_positive(self.tol):
            mistakes.append(f"tol must be a positive finite number, got {self.tol!r}")
        if self.n_jobs is not None and (not isinstance(self.n_jobs, Integral) or self.n_jobs == 0):
            mistakes.append(f"n_jobs must be a whole number other than 0, or None, got {self.n_jobs!r}")
        return mistakes + _class_weight_mistakes(self.class_weight)


def _is_positive(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) < float("inf")


def _class_weight_mistakes(class_weight: Any) -> list[str]:
    if class_weight is None or (isinstance(class_weight, str) and class_weight == "balanced"):
        return []
    if not isinstance(class_weight, Mapping):
        return [f'class_weight must be a dict of label to weight, "balanced" or None, got {class_weight!r}']
    wrong = {label: weight for label, weight in class_weight.items() if not (_is_positive(weight) or weight == 0)}
    return [f"a class weight must be a finite number of at least 0, got {wrong}"] if wrong else []

"""`LaplaceRepurposer`: logistic regression that also knows how far its coefficients are settled (`laplace`)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from model_handler import Source
from repurpose.meta_model.checks import is_positive
from repurpose.meta_model.laplace import approximate_posterior
from repurpose.meta_model.lr_repurposer import LrRepurposer

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

__all__ = ["LaplaceRepurposer"]


class LaplaceRepurposer(LrRepurposer):
    """Logistic regression with the Laplace approximation of its posterior (MacKay 1992; arXiv:2106.14806).

    Probabilities and labels are those of `LrRepurposer`: averaging over the posterior measured no better (see the notes
    of `prior_precision`). What the posterior adds is doubt: `predict_uncertainty`, `predict_samples`, and
    ``unfamiliarity(x, method="variance")``, which grows with what a row has that no training row had.

    The Hessian is whole up to 2,000 coefficients, counted in the space that the training rows span, and a Kronecker
    product of features and classes beyond. No coefficients are learned besides those of the logistic regression.

    Parameters
    ----------
    source_model : nn.Module, Source or str
        The network to reuse, or its name.
    feature_layer_names : list of str
        The layers whose outputs are the features.
    prior_precision : float, optional
        Of the normal prior of each coefficient, on the scaled features, as far as the posterior goes; by default that
        of the penalty, 1 / `c_`. The probabilities of `predict_probability` do not depend on it.
    **kwargs
        The parameters of `LrRepurposer`, `MetaModelRepurposer` and `Repurposer`.

    Attributes
    ----------
    target_model_, c_, c_scores_
        As in `LrRepurposer`.
    posterior_ : LaplacePosterior
        As arrays.
    prior_precision_ : float
        The value that was used.
    """

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        feature_layer_names: Sequence[str],
        *,
        prior_precision: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(source_model, feature_layer_names, **kwargs)
        self.prior_precision = prior_precision

    def _train_model_from_features(
        self, features: np.ndarray, labels: np.ndarray, feature_indices_per_layer: Mapping[str, np.ndarray]
    ) -> "LogisticRegression":
        fit = self._fit(features, labels, feature_indices_per_layer)
        self.prior_precision_ = 1 / self.c_ if self.prior_precision is None else float(self.prior_precision)
        probabilities = fit.model.predict_proba(fit.rows)
        self.posterior_ = approximate_posterior(
            fit.rows, fit.basis, fit.scaling, probabilities, fit.weights, self.prior_precision_
        )
        return fit.on_raw_features()

    def _predict_samples_from_features(
        self, features: np.ndarray, n_samples: int, random_state: np.random.RandomState
    ) -> np.ndarray:
        """Class probabilities of draws from the posterior: (n_samples, n_rows, n_classes), the same for any batch.

        Their mean is less sure than `predict_probability`, which takes the most likely coefficients.
        """
        logits = self.target_model_.decision_function(features.astype(np.float64))
        if logits.ndim == 1:
            logits = np.stack([-logits / 2, logits / 2], axis=1)
        return self.posterior_.draws(logits, features, random_state, n_samples)

    def _predict_variance_from_features(self, features: np.ndarray) -> np.ndarray:
        """The variance of the centred logits, averaged over the classes: (n_rows,)."""
        return self.posterior_.variances(features)

    def _parameter_mistakes(self) -> list[str]:
        mistakes = super()._parameter_mistakes()
        if self.prior_precision is not None and not is_positive(self.prior_precision):
            mistakes.append(f"prior_precision must be a positive finite number or None, got {self.prior_precision!r}")
        return mistakes

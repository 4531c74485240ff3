"""`LaplaceRepurposer` adds the posterior of its coefficients (`laplace`) to logistic regression."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import nn

from model_handler import Source
from repurpose.meta_model.laplace import LaplacePosterior, approximate_posterior
from repurpose.meta_model.lr_repurposer import LrRepurposer
from repurpose.meta_model.onnx_heads.laplace_variance import LaplaceVariance
from repurpose.parameters import is_positive
from repurpose.persistence.values.schema import Number, Object, Table

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

__all__ = ["LaplaceRepurposer"]

# Found on digits at 2, 5, 10 and 50 labels for each of seven classes, five splits. The variance told digits of other
# classes with an AUROC of .55, .60, .62 and .71 by the penalty's own precision, and of .63, .68, .70 and .74 by a
# hundredth of it. Approximate leave-one-out of training rows always took the largest precision that it was offered, by
# which it was .49 to .50. Shuffled features were told without fail by all of them.
_OF_THE_PENALTY = 0.01
# Whole, the draws were far too unsure. By this share their mean had the log loss of the coefficients alone, within .01
# of it; mutual information told the other classes with .68, .82, .88 and .90 (.62, .79, .86 and .89 by the precision of
# the penalty and the share of .003 that went best with it).
_VARIANCE_FACTOR = 0.0001


class LaplaceRepurposer(LrRepurposer):
    """Logistic regression with the Laplace approximation of its posterior (MacKay 1992; arXiv:2106.14806).

    Probabilities and labels are those of `LrRepurposer`, by the most likely coefficients: averages over the posterior
    were no better than a temperature. What the posterior adds is doubt, in two readings. Draws, and with them
    `predict_uncertainty` and `predict_samples`, take `variance_factor_` times the covariance, since whole it is far too
    unsure. ``unfamiliarity(x, method="variance")`` is the whole variance, which grows with all that a row has and no
    training row had; it found shuffled features without fail, but digits of classes left out less well than mutual
    information or ``"mahalanobis"`` did.

    The precision is ``sum_n s_n (diag(p_n) - p_n p_n^T) (x) x_n x_n^T`` plus that of the prior, with the rows x_n,
    probabilities p_n and weights s_n of `LrRepurposer`. This Hessian is whole up to 1,000 coefficients, counted in the
    space that the training rows span, and a Kronecker product of features and classes beyond.

    Parameters
    ----------
    source_model : nn.Module, Source or str
        The network to reuse, or its name.
    feature_layer_names : list of str, "auto" or None, default=None
        The layers whose outputs are the features: by default what the last linear layer reads; ``"auto"`` chooses them.
        See `MetaModelRepurposer`.
    prior_precision : float, optional
        The precision of the normal prior of each scaled coefficient, as far as the posterior goes; by default a
        hundredth of the penalty's, 0.01 / `c_`: what no training row has is then the more uncertain. Leave-one-out
        prefers no uncertainty at all, and with it unfamiliar inputs look like others. The probabilities of
        `predict_probability` do not depend on it.
    **kwargs
        The parameters of `LrRepurposer`, `MetaModelRepurposer` and `Repurposer`.

    Attributes
    ----------
    target_model_, c_, c_scores_
        As in `LrRepurposer`.
    posterior_ : LaplacePosterior
        The posterior, as arrays.
    prior_precision_ : float
        The value that was used.
    variance_factor_ : float
        What multiplies the covariance of draws.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import LaplaceRepurposer
    >>> X, y = make_blobs(30, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> repurposer = LaplaceRepurposer(network, ["1"], c=1.0).repurpose((X, y))
    >>> repurposer.score((X, y)), repurposer.predict_samples(X, n=10).shape
    (1.0, (10, 30, 3))
    """

    _schema: ClassVar[Table] = {
        "posterior_": Object(LaplacePosterior),
        "prior_precision_": Number(above=0),
        "variance_factor_": Number(least=0),
    }

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        feature_layer_names: Sequence[str] | str | None = None,
        *,
        prior_precision: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(source_model, feature_layer_names, **kwargs)
        self.prior_precision = prior_precision

    def _train_model_from_features(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        feature_indices_per_layer: Mapping[str, np.ndarray],
        sample_weight: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> "LogisticRegression":
        fit = self._fit(features, labels, feature_indices_per_layer, sample_weight, groups)
        given = self.prior_precision
        self.prior_precision_ = _OF_THE_PENALTY / self.c_ if given is None else float(given)
        self.variance_factor_ = _VARIANCE_FACTOR
        probabilities = fit.model.predict_proba(fit.rows)
        self.posterior_ = approximate_posterior(
            fit.rows, fit.basis, fit.scaling, probabilities, fit.weights, self.prior_precision_
        )
        return fit.on_raw_features()

    _head_of_changed_rows = LrRepurposer._head_of_changed_rows  # which trains as this class does

    def _predict_samples_from_features(
        self, features: np.ndarray, n_samples: int, random_state: np.random.RandomState
    ) -> np.ndarray:
        """Return class probabilities of draws from the narrowed posterior: (n_samples, n_rows, n_classes)."""
        logits = self.target_model_.decision_function(features.astype(np.float64))
        if logits.ndim == 1:
            logits = np.stack([-logits / 2, logits / 2], axis=1)
        return self.posterior_.draws(logits, features, random_state, n_samples, self.variance_factor_)

    def _predict_variance_from_features(self, features: np.ndarray) -> np.ndarray:
        """Return the variance of the centred logits, averaged over the classes: (n_rows,)."""
        return self.posterior_.variances(features)

    def _onnx_variance(self) -> nn.Module | None:
        posterior = self.posterior_
        of_rows = posterior.center, posterior.factor, posterior.row_space
        outside = posterior.basis.shape[1] / posterior.precision
        quadratic_form = posterior.covariance.quadratic_form()
        return LaplaceVariance(*of_rows, *quadratic_form, share=posterior.share, outside=outside)

    def _parameter_mistakes(self) -> list[str]:
        mistakes = super()._parameter_mistakes()
        if self.prior_precision is not None and not is_positive(self.prior_precision):
            mistakes.append(f"prior_precision must be a positive finite number or None, got {self.prior_precision!r}")
        return mistakes

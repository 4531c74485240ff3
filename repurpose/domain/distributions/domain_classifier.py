"""A classifier that tells two domains apart: its odds are the ratio of their densities.

Bickel, Brückner and Scheffer (2009), Discriminative learning under covariate shift, JMLR 10.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import logsumexp
from torch import nn

from model_handler import Features, Source
from model_handler.user_warnings import warn_user
from repurpose.meta_model import LrRepurposer
from repurpose.persistence.values.parts import storable
from repurpose.persistence.values.schema import Array, Number, Table
from repurpose.seeding import RandomState

__all__ = ["LogLinearRatio", "effective_sample_size", "fit_log_linear_ratio", "warn_of_few"]

_LARGEST_LOG = 500.0  # sums of the exponentials stay finite
_SMALL_SHARE = 0.1  # of the source rows


@storable
@dataclass(frozen=True, eq=False)
class LogLinearRatio:
    """The ratio exp(x'c + b) of two densities, with the `coefficients` c (n_features,) and the `intercept` b.

    >>> import numpy as np
    >>> from repurpose.domain.distributions.domain_classifier import LogLinearRatio
    >>> LogLinearRatio(np.array([1.0, 0.0]), 0.0).at(np.array([[0.0, 9.0], [1.0, 9.0]])).round(2)
    array([1.  , 2.72])
    """

    coefficients: np.ndarray
    intercept: float

    _schema: ClassVar[Table] = {"coefficients": Array("n_features"), "intercept": Number()}

    def at(self, rows: np.ndarray) -> np.ndarray:
        """Return the ratio at rows (n_rows, n_features), e^500 at most: (n_rows,)."""
        return np.exp(np.minimum(rows @ self.coefficients + self.intercept, _LARGEST_LOG))


def fit_log_linear_ratio(
    source: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    source_model: nn.Module | Source | str,
    random_state: RandomState,
    groups: np.ndarray | None = None,
) -> LogLinearRatio:
    """Fit how much more often the target has rows like a row, 1 on average over the source rows by their `weights`.

    It is p/(1 - p), where p is the probability that a row is of the target by an `LrRepurposer` trained on features
    (n_source, n_features) and (n_target, n_features), in which source rows count `weights` (n_source,) times; its C is
    chosen by cross-validation, so that it is not sure of domains that it cannot tell apart; rows of one of the `groups`
    (n_source + n_target,) are held out together.
    """
    is_target = np.repeat([0, 1], [len(source), len(target)])
    rows = Features({"rows": np.concatenate([source, target])}, is_target)
    counts = np.concatenate([weights, np.ones(len(target))])
    classifier = LrRepurposer(source_model, ["rows"], random_state=random_state)
    classifier._learn_rows(rows, counts, groups)
    coefficients = classifier.target_model_.coef_[0]
    log_mean = logsumexp(source @ coefficients, b=weights / weights.sum())
    return LogLinearRatio(coefficients, -float(log_mean))


def effective_sample_size(weights: np.ndarray) -> float:
    """Return (sum w)^2 / sum w^2 of weights (n_rows,): as many rows of equal weight would vary as much (Kish 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def warn_of_few(weights: np.ndarray, advice: str) -> None:
    """Give a UserWarning where the effective sample size of weighted source rows (n_source,) is below a tenth.

    `advice` says what needs no overlap of the domains.
    """
    if (size := effective_sample_size(weights)) < _SMALL_SHARE * len(weights):
        warn_user(
            f"{len(weights)} source rows have an effective sample size of {size:.1f}: a few of them decide, since the "
            f"domains hardly overlap. {advice}",
        )

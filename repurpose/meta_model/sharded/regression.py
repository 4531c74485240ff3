"""Multinomial logistic regression of rows that come in blocks: L-BFGS, whose every gradient is a pass over all blocks.

Passes are what costs time, so the coefficients are searched in axes in which the curvature is about the same all over:
W = R V with R R^T the inverse of the moments of the rows plus the penalty. Fits that took lbfgs 150 to 340 passes in
the axes of the features took it 10 to 50 in these. The optimum is the same.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from repurpose.data.scaling import BlockScaling
from repurpose.meta_model.sharded.folded_rows import FoldedRows, loss_and_gradient

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

__all__ = [
    "InputBlock",
    "Minimum",
    "as_logistic_regression",
    "coefficients_of",
    "minimize_in_blocks",
    "moments_of",
]

logger = logging.getLogger(__name__)

InputBlock = tuple[np.ndarray, np.ndarray, np.ndarray | None]  # scaled rows that end in a 1, codes, weights

_INTERCEPT = 1e-4  # its precision: a class of no rows yet has no other that would hold it
_MAX_PASSES = 300
_ENOUGH = 1e-9  # of a mean loss, in nats: a step that gains less is the last one
_LOOSER = 10.0  # than in the axes of the features, where gradients of the same size mean more


@dataclass(frozen=True, eq=False)
class Minimum:
    """Coefficients (n_inputs, n_classes) for scaled rows, the last row the intercepts, and how many steps it took."""

    W: np.ndarray
    n_steps: int


def minimize_in_blocks(
    blocks: Callable[[], Iterable[InputBlock]],
    start: np.ndarray,
    *,
    c: float,
    total_weight: float,
    moments: np.ndarray,
    tol: float,
    folded: FoldedRows | None = None,
) -> Minimum:
    """Minimise the summed log loss of all rows plus ``|W|^2 / (2 c)``, intercepts left out, plus what `folded` says.

    Of two classes the penalty is on their difference, as for `LogisticRegression`.

    Parameters
    ----------
    blocks : callable
        Called for each pass; gives scaled rows (n_rows, n_inputs) that end in a 1, their codes, and weights or None.
    start : ndarray of shape (n_inputs, n_classes)
    c : float
    total_weight : float
        How many rows count, those of `folded` included.
    moments : ndarray of shape (n_inputs, n_inputs)
        About the sum of x x^T over all of them. It decides how long the search takes, and not what it finds.
    tol : float
    folded : FoldedRows, optional
    """
    from scipy.optimize import minimize

    n_classes = start.shape[1]
    # Two classes have one vector w, their difference: |w|^2 / (2 c) is |w/2|^2 / c for each of the two halves.
    precision = np.full(len(start), (2.0 if n_classes == 2 else 1.0) / c)
    precision[-1] = _INTERCEPT
    metric = moments / n_classes
    metric[np.diag_indices(len(metric))] += precision
    # R = L^-T for L L^T the metric of the mean loss.
    R = np.linalg.inv(np.linalg.cholesky(metric / total_weight)).T

    def mean_loss(V: np.ndarray) -> tuple[float, np.ndarray]:
        W = start + R @ V.reshape(start.shape)
        penalty = precision[:, None] * W
        value, gradient = float((penalty * W).sum()) / 2, penalty
        for inputs, codes, weights in blocks():
            loss, slope = loss_and_gradient(inputs, codes, weights, W)
            value, gradient = value + loss, gradient + slope
        if folded is not None:
            loss, slope = folded.value_and_gradient(W)
            value, gradient = value + loss, gradient + slope
        return value / total_weight, (R.T @ gradient).ravel() / total_weight

    options = {"maxiter": _MAX_PASSES, "maxfun": _MAX_PASSES, "gtol": _LOOSER * tol, "ftol": _ENOUGH}
    result = minimize(mean_loss, np.zeros(start.size), jac=True, method="L-BFGS-B", options=options)
    logger.info("mean loss with penalty %.6f after %d passes: %s", result.fun, result.nfev, result.message)
    return Minimum(start + R @ result.x.reshape(start.shape), int(result.nit))


def moments_of(inputs: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Return the sum of x x^T over rows (n_rows, n_inputs), each counted by its weight: (n_inputs, n_inputs)."""
    return inputs.T @ (inputs if weights is None else inputs * weights[:, None])


def as_logistic_regression(minimum: Minimum, scaling: BlockScaling, c: float, tol: float) -> "LogisticRegression":
    """Return the classifier of raw rows, codes for classes, that has these coefficients."""
    from sklearn.linear_model import LogisticRegression

    W = minimum.W if minimum.W.shape[1] > 2 else minimum.W[:, 1:] - minimum.W[:, :1]
    model = LogisticRegression(C=c, tol=tol)
    model.classes_ = np.arange(minimum.W.shape[1])
    model.coef_, model.intercept_ = scaling.fold_back(np.ascontiguousarray(W[:-1].T), W[-1])
    model.n_features_in_, model.n_iter_ = model.coef_.shape[1], np.array([minimum.n_steps], dtype=np.int32)
    return model


def coefficients_of(model: "LogisticRegression", scaling: BlockScaling) -> np.ndarray:
    """Return the coefficients (n_inputs, n_classes) for scaled rows of a classifier of raw ones."""
    coefficients, intercepts = scaling.take_in(model.coef_, model.intercept_)
    W = np.column_stack([coefficients, intercepts]).T
    return W if W.shape[1] > 1 else np.column_stack([-W / 2, W / 2])

"""The log loss of logistic regression at C = 1 on rows held out: by five folds, or by one Newton step from one fit.

Rows are scaled and rotated as `LrRepurposer` does it. Approximate leave-one-out (Rad and Maleki 2020, JRSS B 82(4),
arXiv:1801.10243) goes one Newton step from the coefficients of all rows to those of all but one: with J_i the
derivative of the row's logits by the coefficients, g_i and B_i gradient and Hessian of its loss by its logits, and H
the Hessian of the whole objective,

    logits_i  +  G_i (I - B_i G_i)^-1 g_i,    G_i = J_i H^-1 J_i^T

which is exact for a quadratic loss. A group of rows is left out by the same formula, stacked.
"""

from collections.abc import Iterable

import numpy as np
import torch

from repurpose.data.scaling import BlockScaling
from repurpose.meta_model.choice_of_c import gradient_tolerance, known_classes
from repurpose.meta_model.row_space import rotate_into_row_space

__all__ = ["approximate_leave_one_out_losses", "five_fold_losses"]

_C = 1.0
_TOLERANCE = 1e-5
_MAX_ITER = 5000
_MOST_COEFFICIENTS = 4000  # beyond, the Hessian takes more time than five fits


def five_fold_losses(rows: np.ndarray, codes: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return the log loss (nats) of each row by a fit without its fold, (n_samples,); NaN for rows never held out.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features)
        Raw features.
    codes : int ndarray of shape (n_samples,)
        Classes as 0..n_classes-1, each of them in every part that is trained on.
    folds : int ndarray of shape (n_samples,)
        The fold that holds each row out, or -1.
    """
    scaled = _scaled(rows)
    losses = np.full(len(rows), np.nan)
    for fold in range(folds.max() + 1):
        held_out = folds == fold
        coefficients, intercepts = _fit(scaled[~held_out], codes[~held_out])
        losses[held_out] = _losses(scaled[held_out] @ coefficients.T + intercepts, codes[held_out])
    return losses


def approximate_leave_one_out_losses(
    rows: np.ndarray, codes: np.ndarray, groups: np.ndarray | None = None
) -> np.ndarray:
    """Return the log loss (nats) of each row by one Newton step away from a fit that saw it: (n_samples,).

    The time of one fit and of (n_columns n_classes)^3 operations, where n_columns is the smaller of rows and features.
    With `groups` (n_samples,) a step leaves out all rows of one. Raises ValueError for more than 4,000 coefficients.
    """
    scaled = _scaled(rows)
    n_logits = 1 if codes.max() == 1 else int(codes.max()) + 1
    if n_logits * (scaled.shape[1] + 1) > _MOST_COEFFICIENTS:
        raise ValueError(
            f"approximate leave-one-out needs a Hessian of {n_logits * (scaled.shape[1] + 1):,} coefficients a side, "
            f'and computes one of {_MOST_COEFFICIENTS:,} at most: give lr="five-fold", or a smaller max_rows'
        )
    coefficients, intercepts = _fit(scaled, codes)
    inputs = np.hstack([scaled, np.ones((len(scaled), 1))])
    logits = inputs @ np.hstack([coefficients, intercepts[:, None]]).T
    probabilities = _probabilities(logits)
    own = np.eye(probabilities.shape[1])[codes]
    gradients = (probabilities - own)[:, -n_logits:]
    curvatures = _curvatures(probabilities[:, -n_logits:])
    inverse = _inverse_hessian(inputs, curvatures)
    moved = np.empty_like(logits)
    for members in _members(len(rows), groups):
        x = inputs[members]
        G = np.einsum("ip,kplq,jq->ikjl", x, inverse, x, optimize=True).reshape(x.shape[0] * n_logits, -1)
        B = np.zeros((len(members), n_logits, len(members), n_logits))
        B[np.arange(len(members)), :, np.arange(len(members))] = curvatures[members]
        step = np.linalg.solve(np.eye(len(G)) - B.reshape(G.shape) @ G, gradients[members].ravel())
        moved[members] = logits[members] + (G @ step).reshape(-1, n_logits)
    return _losses(moved, codes)


def _scaled(rows: np.ndarray) -> np.ndarray:
    columns = {"": np.arange(rows.shape[1])}
    return rotate_into_row_space(BlockScaling.fit(rows, columns).transform(rows))[0]


def _fit(rows: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.linear_model import LogisticRegression

    tolerance = gradient_tolerance(_TOLERANCE, _C, len(rows))
    with known_classes():
        model = LogisticRegression(C=_C, tol=tolerance, max_iter=_MAX_ITER).fit(rows, codes)
    return model.coef_, model.intercept_


def _both_logits(logits: np.ndarray) -> np.ndarray:
    """Return one logit a class, of which two classes have one in common: that of the second."""
    return np.hstack([np.zeros_like(logits), logits]) if logits.shape[1] == 1 else logits


def _probabilities(logits: np.ndarray) -> np.ndarray:
    return torch.softmax(torch.from_numpy(_both_logits(logits)), dim=1).numpy()


def _losses(logits: np.ndarray, codes: np.ndarray) -> np.ndarray:
    return torch.nn.functional.cross_entropy(
        torch.from_numpy(_both_logits(logits)), torch.from_numpy(codes), reduction="none"
    ).numpy()


def _curvatures(probabilities: np.ndarray) -> np.ndarray:
    """Return the Hessian of each row's loss by its logits: (n_rows, n_logits, n_logits)."""
    diagonal = probabilities[:, :, None] * np.eye(probabilities.shape[1])
    return diagonal - probabilities[:, :, None] * probabilities[:, None, :]


def _inverse_hessian(inputs: np.ndarray, curvatures: np.ndarray) -> np.ndarray:
    """Invert the Hessian of the penalised loss: (n_logits, n_inputs, n_logits, n_inputs), the last input the constant.

    Several logits can all rise together and change nothing, intercepts being free: the Hessian is made definite along
    this direction, along which no gradient points.
    """
    n_logits, n_inputs = curvatures.shape[1], inputs.shape[1]
    hessian = np.zeros((n_logits, n_inputs, n_logits, n_inputs))
    for k in range(n_logits):
        for other in range(k, n_logits):
            block = inputs.T @ (curvatures[:, k, other, None] * inputs)
            hessian[k, :, other] = hessian[other, :, k] = block
        penalised = np.arange(n_inputs - 1)
        hessian[k, penalised, k, penalised] += 1 / _C
    if n_logits > 1:
        hessian[:, -1, :, -1] += 1
    flat = hessian.reshape(n_logits * n_inputs, -1)
    return np.linalg.inv(flat).reshape(hessian.shape)


def _members(n_rows: int, groups: np.ndarray | None) -> Iterable[np.ndarray]:
    if groups is None:
        return np.arange(n_rows)[:, None]
    of_group = np.unique(groups, return_inverse=True)[1]
    return np.split(np.argsort(of_group, kind="stable"), np.cumsum(np.bincount(of_group))[:-1])

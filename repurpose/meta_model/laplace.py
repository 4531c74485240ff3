"""The Laplace approximation puts a normal distribution about the coefficients of logistic regression.

The precision is that of the penalty plus the generalised Gauss-Newton matrix of the log loss, which for a linear model
is the Hessian itself: whole where it is small, as a Kronecker product of features and classes elsewhere. Daxberger et
al. (2021), arXiv:2106.14806; Ritter et al. (2018) for the product.

Only differences between logits matter to a softmax, so latent values have one axis less than there are classes. Rows
stand in the space that the training rows span, with a 1 for the intercept; what a new row has outside of that space is
as uncertain as it was before training.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.special import softmax

from repurpose.data.scaling import BlockScaling
from repurpose.persistence.values.parts import storable
from repurpose.persistence.values.schema import Array, Either, Nothing, Number, Object, Table

__all__ = ["KroneckerCovariance", "LaplacePosterior", "WholeCovariance", "approximate_posterior", "contrasts"]

_MAX_PARAMETERS = 1000  # of a whole covariance: 8 MB; more gave no better doubt on digits than the product
_MAX_ELEMENTS = 2**22  # of a batch: 32 MB


@storable
@dataclass(frozen=True, eq=False)
class WholeCovariance:
    """The covariance of all coefficients, `blocks` of shape (n_latent, n_latent, n_inputs, n_inputs)."""

    blocks: np.ndarray

    _schema: ClassVar[Table] = {"blocks": Array("n_latent", "n_latent", "n_inputs", "n_inputs")}

    @classmethod
    def of(
        cls, inputs: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, basis: np.ndarray, precision: float
    ) -> "WholeCovariance":
        """Return the inverse of ``sum_n weights[n] curvature[n] (x) inputs[n] inputs[n]^T + precision I``."""
        projected = probabilities @ basis
        spread = np.einsum("nc,ci,cj->nij", probabilities, basis, basis, optimize=True)
        curvature = (spread - projected[:, :, None] * projected[:, None, :]) * weights[:, None, None]
        (n_latent, n_inputs) = (basis.shape[1], inputs.shape[1])
        hessian = np.empty((n_latent, n_inputs, n_latent, n_inputs))
        # Block by block, so that no array of rows times all pairs of inputs is made; the blocks are symmetric.
        for i in range(n_latent):
            for j in range(i + 1):
                hessian[i, :, j] = inputs.T @ (inputs * curvature[:, i, j, None])
                hessian[j, :, i] = hessian[i, :, j]
        matrix = torch.from_numpy(hessian.reshape(n_latent * n_inputs, -1))
        # The prior makes it positive definite, however few the rows.
        matrix.diagonal().add_(precision)
        covariance = torch.cholesky_inverse(torch.linalg.cholesky(matrix)).numpy()
        blocks = covariance.reshape(n_latent, n_inputs, n_latent, n_inputs).transpose(0, 2, 1, 3)
        return cls(np.ascontiguousarray(blocks))

    @property
    def elements_per_row(self) -> int:
        """How many numbers one row takes while it is computed."""
        return len(self.blocks) ** 2 + self.blocks.shape[-1]

    def matrices(self, inputs: np.ndarray, outside: np.ndarray) -> np.ndarray:
        """Compute the covariance (n_rows, n_latent, n_latent) of latent values; `outside` (n_rows,) is added."""
        n_latent = len(self.blocks)
        found = np.empty((len(inputs), n_latent, n_latent))
        for i in range(n_latent):
            for j in range(i + 1):
                found[:, i, j] = np.einsum("nk,nk->n", inputs @ self.blocks[i, j], inputs)
                found[:, j, i] = found[:, i, j]
            found[:, i, i] += outside
        return found

    def traces(self, inputs: np.ndarray, outside: np.ndarray) -> np.ndarray:
        """Return the variance of each row's latent values, summed: (n_rows,)."""
        summed = np.einsum("iikl->kl", self.blocks)
        return np.einsum("nk,nk->n", inputs @ summed, inputs) + len(self.blocks) * outside

    def quadratic_form(self) -> tuple[np.ndarray, np.ndarray]:
        """Return vectors and rates by which `traces` is a weighted sum of squares, but for what lies outside."""
        rates, vectors = np.linalg.eigh(np.einsum("iikl->kl", self.blocks))
        return vectors, rates

    def deviations(self, inputs: np.ndarray, outside: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """Return draws about zero, (n_draws, n_rows, n_latent), by standard normal numbers (n_draws, n_latent)."""
        values, vectors = np.linalg.eigh(self.matrices(inputs, outside))
        # Symmetric roots change continuously with the row, which a Cholesky factor of a singular matrix does not.
        roots = (vectors * np.sqrt(values.clip(0))[:, None, :]) @ vectors.transpose(0, 2, 1)
        return np.einsum("nij,dj->dni", roots, normal)


@storable
@dataclass(frozen=True, eq=False)
class KroneckerCovariance:
    """The inverse of (sum of ``inputs inputs^T``) (x) (mean curvature) + `precision`, by the eigenvectors of both.

    Attributes
    ----------
    input_vectors, input_values : ndarray of shape (n_inputs, n_inputs), (n_inputs,)
    class_vectors, class_values : ndarray of shape (n_latent, n_latent), (n_latent,)
    precision : float
    """

    input_vectors: np.ndarray
    input_values: np.ndarray
    class_vectors: np.ndarray
    class_values: np.ndarray
    precision: float

    _schema: ClassVar[Table] = {
        "input_vectors": Array("n_inputs", "n_inputs"),
        "input_values": Array("n_inputs", least=0),
        "class_vectors": Array("n_latent", "n_latent"),
        "class_values": Array("n_latent", least=0),
        "precision": Number(above=0),
    }

    @classmethod
    def of(
        cls, inputs: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, basis: np.ndarray, precision: float
    ) -> "KroneckerCovariance":
        """Factorise for inputs (n_rows, n_inputs), probabilities (n_rows, n_classes) and weights (n_rows,) of rows."""
        weighted = probabilities * weights[:, None]
        # sum_n s_n (diag(p_n) - p_n p_n^T), summed at once instead of row by row.
        curvature = np.diag(weighted.sum(axis=0)) - weighted.T @ probabilities
        class_values, class_vectors = np.linalg.eigh(basis.T @ curvature @ basis / weights.sum())
        input_values, input_vectors = np.linalg.eigh(inputs.T @ (inputs * weights[:, None]))
        return cls(input_vectors, input_values.clip(0), class_vectors, class_values.clip(0), precision)

    @property
    def elements_per_row(self) -> int:
        """How many numbers one row takes while it is computed."""
        return len(self.input_values) + len(self.class_values)

    def traces(self, inputs: np.ndarray, outside: np.ndarray) -> np.ndarray:
        """Return the variance of each row's latent values, summed: (n_rows,)."""
        return self._variances(inputs, outside).sum(axis=1)

    def quadratic_form(self) -> tuple[np.ndarray, np.ndarray]:
        """Return vectors and rates by which `traces` is a weighted sum of squares, but for what lies outside."""
        rates = 1 / (np.outer(self.input_values, self.class_values) + self.precision)
        return self.input_vectors, rates.sum(axis=1)

    def deviations(self, inputs: np.ndarray, outside: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """Return draws about zero, (n_draws, n_rows, n_latent), by standard normal numbers (n_draws, n_latent)."""
        return (np.sqrt(self._variances(inputs, outside)) * normal[:, None, :]) @ self.class_vectors.T

    def _variances(self, inputs: np.ndarray, outside: np.ndarray) -> np.ndarray:
        """Return the variance of the latent values along each of the `class_vectors`: (n_rows, n_latent)."""
        squares = (inputs @ self.input_vectors) ** 2
        return squares @ (1 / (np.outer(self.input_values, self.class_values) + self.precision)) + outside[:, None]


@storable
@dataclass(frozen=True, eq=False)
class LaplacePosterior:
    """The posterior of the logits of raw rows.

    Attributes
    ----------
    center, factor : ndarray of shape (n_features,)
        The center and factor of the `BlockScaling`.
    row_space : ndarray of shape (n_features, n_rows) or None
        Orthonormal columns that span the scaled training rows; None where these span everything.
    basis : ndarray of shape (n_classes, n_classes - 1)
        From latent values to centred logits.
    covariance : WholeCovariance or KroneckerCovariance
    precision : float
        The precision of the prior.
    """

    center: np.ndarray
    factor: np.ndarray
    row_space: np.ndarray | None
    basis: np.ndarray
    covariance: WholeCovariance | KroneckerCovariance
    precision: float

    _schema: ClassVar[Table] = {
        "center": Array("n_features"),
        "factor": Array("n_features"),
        "row_space": Either(Nothing(), Array("n_features", "n_inside")),
        "basis": Array("n_classes", "n_latent"),
        "covariance": Either(Object(WholeCovariance), Object(KroneckerCovariance)),
        "precision": Number(above=0),
    }

    def variances(self, features: np.ndarray) -> np.ndarray:
        """Return the variance of the centred logits, averaged over the classes: (n_rows,)."""
        parts = [self.covariance.traces(*self._inputs(batch)) for batch in self._batches(features)]
        return self.share * np.concatenate(parts)

    @property
    def share(self) -> float:
        """What the variance of the latent values, summed, counts in that of a logit."""
        return float(np.square(self.basis[:, 0]).sum()) / len(self.basis)  # all columns have the same norm

    def draws(
        self,
        logits: np.ndarray,
        features: np.ndarray,
        random_state: np.random.RandomState,
        n_draws: int,
        variance_factor: float = 1.0,
    ) -> np.ndarray:
        """Return class probabilities (n_draws, n_rows, n_classes) by draws about `logits` (n_rows, n_classes).

        `variance_factor` multiplies the covariance. The same standard normal numbers serve every row, so that what a
        row gets does not depend on its neighbours.
        """
        normal = variance_factor**0.5 * random_state.standard_normal((n_draws, self.basis.shape[1]))
        parts = [self.covariance.deviations(*self._inputs(batch), normal) for batch in self._batches(features)]
        return softmax(logits + np.concatenate(parts, axis=1) @ self.basis.T, axis=-1)

    def _inputs(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map rows into the space of training rows, with a 1, and give the prior variance of what lies outside it."""
        rows = BlockScaling(self.center, self.factor).transform(features)
        if self.row_space is None:
            return _with_one(rows), np.zeros(len(rows))
        inside = rows @ self.row_space
        outside = rows - inside @ self.row_space.T  # the difference of squared norms would lose small remainders
        return _with_one(inside), np.square(outside).sum(axis=1) / self.precision

    def _batches(self, features: np.ndarray) -> list[np.ndarray]:
        size = max(1, _MAX_ELEMENTS // (self.covariance.elements_per_row + features.shape[1]))
        return [features[start : start + size] for start in range(0, max(1, len(features)), size)]


def approximate_posterior(
    rows: np.ndarray,
    row_space: np.ndarray | None,
    scaling: BlockScaling,
    probabilities: np.ndarray,
    weights: np.ndarray | None,
    precision: float,
) -> LaplacePosterior:
    """Return the posterior about a fitted logistic regression.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_inputs)
        Scaled training rows, rotated into `row_space` where this is not None.
    row_space, scaling
        As in `LaplacePosterior`.
    probabilities : ndarray of shape (n_rows, n_classes)
        The probabilities of the fitted model.
    weights : ndarray of shape (n_rows,) or None
        The weights of the rows in the fit.
    precision : float
        The precision of the prior of each coefficient. The intercepts, which the penalty leaves free, have it too.
    """
    basis = contrasts(probabilities.shape[1])
    inputs = _with_one(rows)
    # In the row space the inputs are as many as rows at most, so that few rows of wide features count as small.
    is_small = inputs.shape[1] * basis.shape[1] <= _MAX_PARAMETERS
    kind: type[WholeCovariance] | type[KroneckerCovariance] = WholeCovariance if is_small else KroneckerCovariance
    weights = np.ones(len(rows)) if weights is None else weights
    covariance = kind.of(inputs, probabilities, weights, basis, precision)
    return LaplacePosterior(scaling.center, scaling.factor, row_space, basis, covariance, precision)


def contrasts(n_classes: int) -> np.ndarray:
    """Return columns that sum to 0, (n_classes, n_classes - 1): orthonormal, and for two classes -1/2 and 1/2.

    The exception is that of scikit-learn, whose penalty for two classes is on the difference of their logits.
    """
    if n_classes == 2:
        return np.array([[-0.5], [0.5]])
    orthonormal, _ = np.linalg.qr(np.hstack([np.ones((n_classes, 1)), np.eye(n_classes)[:, 1:]]))
    return np.ascontiguousarray(orthonormal[:, 1:])


def _with_one(rows: np.ndarray) -> np.ndarray:
    return np.hstack([rows, np.ones((len(rows), 1))])

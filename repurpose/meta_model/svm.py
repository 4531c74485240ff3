"""The support vector machines of all classes as arrays: one against the rest, by one matrix of kernel values.

scikit-learn's `SVC` finds the machines from kernel values computed once, for all classes and all folds.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax, softmax

from repurpose.meta_model.scaling import ROW_NORM, BlockScaling
from repurpose.persistence.parts import storable

__all__ = ["KERNELS", "Machines", "SvmModel", "choose_sharpness", "fit_machines", "kernel_values", "scaled_rows"]

KERNELS = ("linear", "poly", "rbf", "sigmoid")
_NUMBERS_AT_ONCE = 2**24  # of a batch's kernel values: 128 MB
# The prior of the logarithm of the sharpness. Digits at 2 to 50 labels a class were best at 2.3 to 2.8 (linear kernel).
_USUAL_SHARPNESS, _DEVIATION = 3.0, 0.5
_FURTHEST = 3.0
_MOST_ITERATIONS = 1_000_000  # of libsvm, some seconds: where classes overlap, a large c would take ten times as many


@dataclass(frozen=True, eq=False)
class Machines:
    """Scores are kernel values (n_rows, n_samples) times `weights` (n_samples, n_classes), plus `offsets` (n_classes,).

    A score is 1 or more for rows well inside the class, -1 or less for rows well outside.
    """

    weights: np.ndarray
    offsets: np.ndarray

    def scores(self, kernel: np.ndarray) -> np.ndarray:
        """(n_rows, n_classes)."""
        return kernel @ self.weights + self.offsets


@storable
@dataclass(frozen=True, eq=False)
class SvmModel:
    """Support vector machines for raw features.

    Attributes
    ----------
    center, factor : ndarray of shape (n_features,)
        Of the `BlockScaling`.
    kernel : str
    gamma : float
    support_vectors : ndarray of shape (n_support, n_features)
        Scaled rows, each used by at least one class.
    weights, offsets : ndarray of shape (n_support, n_classes), (n_classes,)
    sharpness : float
        Probabilities are the softmax of the scores times this.
    """

    center: np.ndarray
    factor: np.ndarray
    kernel: str
    gamma: float
    support_vectors: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray
    sharpness: float

    @classmethod
    def of(
        cls, scaling: BlockScaling, rows: np.ndarray, kernel: str, gamma: float, machines: Machines, sharpness: float
    ) -> "SvmModel":
        """From machines whose weights belong to all training rows, most of which may count for nothing."""
        used = machines.weights.any(axis=1)
        vectors, weights = rows[used], machines.weights[used]
        return cls(scaling.center, scaling.factor, kernel, gamma, vectors, weights, machines.offsets, sharpness)

    def scores(self, features: np.ndarray) -> np.ndarray:
        """(n_rows, n_classes), float64."""
        size, scaling = (
            max(1, _NUMBERS_AT_ONCE // sum(self.support_vectors.shape)),
            BlockScaling(self.center, self.factor),
        )
        machines = Machines(self.weights, self.offsets)
        parts = []
        for start in range(0, max(1, len(features)), size):
            rows = scaled_rows(scaling, features[start : start + size])
            parts.append(machines.scores(kernel_values(rows, self.support_vectors, self.kernel, self.gamma)))
        return np.concatenate(parts)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """(n_rows, n_classes), float64, rows summing to 1."""
        return softmax(self.sharpness * self.scores(features), axis=1)


def scaled_rows(scaling: BlockScaling, features: np.ndarray) -> np.ndarray:
    """Scaled to a root-mean-square row norm of 1 in training: (n_rows, n_features)."""
    return scaling.transform(features) / ROW_NORM


def kernel_values(rows: np.ndarray, others: np.ndarray, kernel: str, gamma: float) -> np.ndarray:
    """(n_rows, n_others), with the degree (3) and the constant (0) of scikit-learn's `SVC`."""
    from sklearn.metrics.pairwise import pairwise_kernels

    options = {"linear": {}, "rbf": {"gamma": gamma}}.get(kernel, {"gamma": gamma, "coef0": 0.0})
    if not len(rows) or not len(others):
        return np.zeros((len(rows), len(others)))
    return pairwise_kernels(rows, others, metric=kernel, **options)


def fit_machines(
    kernel: np.ndarray, codes: np.ndarray, n_classes: int, c: float, row_weights: np.ndarray | None
) -> Machines:
    """One machine a class against all others, for kernel values (n_samples, n_samples); one in all for two classes.

    Warns where one does not converge.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import SVC

    weights, offsets = np.zeros((len(codes), n_classes)), np.zeros(n_classes)
    for code in range(n_classes) if n_classes > 2 else [1]:
        # Nothing is random without its own probabilities; it draws a seed all the same, by default from numpy.
        machine = SVC(C=c, kernel="precomputed", max_iter=_MOST_ITERATIONS, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # which speaks of scaling: rows are scaled
            machine.fit(kernel, codes == code, sample_weight=row_weights)
        if machine.fit_status_:
            message = f"a support vector machine did not converge with c={c:g}: the classes overlap; give a smaller c"
            warnings.warn(message, ConvergenceWarning, stacklevel=2)
        weights[machine.support_, code] = machine.dual_coef_[0]
        offsets[code] = machine.intercept_[0]
    if n_classes == 2:
        weights[:, 0], offsets[0] = -weights[:, 1], -offsets[1]
    return Machines(weights, offsets)


def choose_sharpness(scores: np.ndarray, codes: np.ndarray, row_weights: np.ndarray | None) -> float:
    """The factor of least log loss for scores (n_rows, n_classes) of held-out rows, drawn towards 3.

    Without a prior, machines that are right about each of a few rows would be made certain of everything. Without rows
    the factor is 3.
    """
    from scipy.optimize import minimize_scalar

    row_weights = np.ones(len(codes)) if row_weights is None else row_weights

    def loss(shift: float) -> float:
        log_probabilities = log_softmax(_USUAL_SHARPNESS * np.exp(shift) * scores, axis=1)
        losses = -log_probabilities[np.arange(len(codes)), codes]
        return float(losses @ row_weights) + 0.5 * (shift / _DEVIATION) ** 2

    shift = minimize_scalar(loss, bounds=(-_FURTHEST, _FURTHEST), method="bounded").x if len(codes) else 0.0
    return float(_USUAL_SHARPNESS * np.exp(shift))

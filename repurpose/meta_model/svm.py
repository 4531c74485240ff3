"""Support vector machines of all classes are kept as arrays: one against the rest, and one against one.

scikit-learn's `SVC` finds the machines from kernel values computed once, for all classes and all folds. How much the
two kinds count is chosen in `svm_blend`.
"""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.special import softmax

from model_handler.user_warnings import warn_user
from repurpose.data.scaling import ROW_NORM, BlockScaling
from repurpose.persistence.values.parts import storable
from repurpose.persistence.values.schema import Array, Number, Table, Text

if TYPE_CHECKING:
    from sklearn.svm import SVC

__all__ = ["KERNELS", "DualCoefficients", "SvmModel", "fit_against_rest", "fit_pairs", "kernel_values", "scaled_rows"]

KERNELS = ("linear", "poly", "rbf", "sigmoid")
_MAX_ELEMENTS = 2**24  # of a batch's kernel values: 128 MB
_MAX_ITERATIONS = 1_000_000  # of libsvm, some seconds: where classes overlap, a large c would take ten times as many


@dataclass(frozen=True, eq=False)
class DualCoefficients:
    """The machines of all classes, by what each training row counts in them.

    Scores are kernel values (n_rows, n_samples) times `weights` (n_samples, n_classes), plus `offsets` (n_classes,).

    One against the rest, a score is 1 or more for rows well inside the class, -1 or less for rows well outside.
    """

    weights: np.ndarray
    offsets: np.ndarray

    def scores(self, kernel: np.ndarray) -> np.ndarray:
        """Return the score of each class for each row: (n_rows, n_classes), from kernel values (n_rows, n_samples)."""
        return kernel @ self.weights + self.offsets

    def blended(self, others: "DualCoefficients", share: float) -> "DualCoefficients":
        """Return machines whose scores are a weighted mean of these and those of `others`, which count for `share`."""
        weights = (1 - share) * self.weights + share * others.weights
        return DualCoefficients(weights, (1 - share) * self.offsets + share * others.offsets)

    def of_classes(self, columns: np.ndarray) -> "DualCoefficients":
        """Reorder the classes: `columns` (n_classes,) has the column of each."""
        return DualCoefficients(self.weights[:, columns], self.offsets[columns])


@storable
@dataclass(frozen=True, eq=False)
class SvmModel:
    """Support vector machines for raw features.

    Attributes
    ----------
    center, factor : ndarray of shape (n_features,)
        The center and factor of the `BlockScaling`.
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

    _schema: ClassVar[Table] = {
        "center": Array("n_features"),
        "factor": Array("n_features"),
        "kernel": Text(*KERNELS),
        "gamma": Number(above=0),
        "support_vectors": Array("n_support", "n_features"),
        "weights": Array("n_support", "n_classes"),
        "offsets": Array("n_classes"),
        "sharpness": Number(least=0),
    }

    @classmethod
    def of(
        cls,
        scaling: BlockScaling,
        rows: np.ndarray,
        kernel: str,
        gamma: float,
        dual: DualCoefficients,
        sharpness: float,
    ) -> "SvmModel":
        """Keep of machines over all training rows those rows that count, the support vectors."""
        # A row without weight in any machine is no support vector, and need not be kept.
        used = dual.weights.any(axis=1)
        vectors, weights = rows[used], dual.weights[used]
        return cls(scaling.center, scaling.factor, kernel, gamma, vectors, weights, dual.offsets, sharpness)

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Return the score of each class for raw rows: (n_rows, n_classes), float64."""
        scaling = BlockScaling(self.center, self.factor)
        size = max(1, _MAX_ELEMENTS // sum(self.support_vectors.shape))
        dual = DualCoefficients(self.weights, self.offsets)
        parts = []
        for start in range(0, max(1, len(features)), size):
            rows = scaled_rows(scaling, features[start : start + size])
            parts.append(dual.scores(kernel_values(rows, self.support_vectors, self.kernel, self.gamma)))
        return np.concatenate(parts)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the probability of each class for raw rows: (n_rows, n_classes), float64, rows summing to 1."""
        return softmax(self.sharpness * self.scores(features), axis=1)


def scaled_rows(scaling: BlockScaling, features: np.ndarray) -> np.ndarray:
    """Return raw rows scaled as those of training, whose root-mean-square norm is 1: (n_rows, n_features)."""
    return scaling.transform(features) / ROW_NORM


def kernel_values(rows: np.ndarray, others: np.ndarray, kernel: str, gamma: float) -> np.ndarray:
    """Return the kernel of each of the rows with each of the others: (n_rows, n_others).

    The degree (3) and the constant (0) are those of scikit-learn's `SVC`.
    """
    from sklearn.metrics.pairwise import pairwise_kernels

    options = {"linear": {}, "rbf": {"gamma": gamma}}.get(kernel, {"gamma": gamma, "coef0": 0.0})
    if not len(rows) or not len(others):
        return np.zeros((len(rows), len(others)))
    return pairwise_kernels(rows, others, metric=kernel, **options)


def fit_against_rest(
    kernel: np.ndarray, codes: np.ndarray, n_classes: int, c: float, row_weights: np.ndarray | None
) -> DualCoefficients:
    """Fit a machine a class against all others, by kernel values (n_samples, n_samples); one in all for two classes.

    Warns where one does not converge.
    """
    weights, offsets = np.zeros((len(codes), n_classes)), np.zeros(n_classes)
    # Of two classes one machine is enough: the other is its negative.
    for code in range(n_classes) if n_classes > 2 else [1]:
        machine = _fitted(kernel, codes == code, c, row_weights)
        weights[machine.support_, code] = machine.dual_coef_[0]
        offsets[code] = machine.intercept_[0]
    if n_classes == 2:
        weights[:, 0], offsets[0] = -weights[:, 1], -offsets[1]
    return DualCoefficients(weights, offsets)


def fit_pairs(
    kernel: np.ndarray, codes: np.ndarray, n_classes: int, c: float, row_weights: np.ndarray | None
) -> DualCoefficients:
    """Return the mean score of a class in the machines that tell it from each of the others, one by one.

    The arguments and warnings of `fit_against_rest`, which has the same machine where there are two classes.
    """
    if n_classes == 2:
        return fit_against_rest(kernel, codes, n_classes, c, row_weights)
    machine = _fitted(kernel, codes, c, row_weights)
    # A row of class i has a coefficient for each other class j, which libsvm keeps without a gap at i. A positive
    # score of the pair i < j speaks for i.
    vectors, other = codes[machine.support_], np.arange(n_classes - 1)[:, None]
    towards = other + (other >= vectors)  # the class that each coefficient tells from its row's own
    signed = np.where(other >= vectors, -machine.dual_coef_, machine.dual_coef_)
    weights, offsets = np.zeros((len(codes), n_classes)), np.zeros(n_classes)
    weights[machine.support_, towards] = signed
    weights[machine.support_, vectors] = -signed.sum(axis=0)
    first, second = np.triu_indices(n_classes, 1)
    np.add.at(offsets, first, machine.intercept_)
    np.subtract.at(offsets, second, machine.intercept_)
    return DualCoefficients(weights / (n_classes - 1), offsets / (n_classes - 1))


def _fitted(kernel: np.ndarray, codes: np.ndarray, c: float, row_weights: np.ndarray | None) -> "SVC":
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import SVC

    # Nothing is random without its own probabilities; it draws a seed all the same, by default from numpy.
    machine = SVC(C=c, kernel="precomputed", max_iter=_MAX_ITERATIONS, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # which speaks of scaling: rows are scaled
        warnings.filterwarnings("ignore", "The number of unique classes")  # of a fold whose classes have a row each
        machine.fit(kernel, codes, sample_weight=row_weights)
    if machine.fit_status_:
        message = f"a support vector machine did not converge with c={c:g}: the classes overlap; give a smaller c"
        warn_user(message, ConvergenceWarning)
    return machine

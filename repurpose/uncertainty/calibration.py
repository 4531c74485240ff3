"""Calibration, by temperature or vector scaling, brings probabilities closer to the frequencies of what they predict.

Temperature scaling divides all logits by one number; vector scaling gives each class a factor and an offset of its own.
Guo et al. (2017), arXiv:1706.04599. Both are fitted by penalised maximum likelihood: the logarithms of the factors, and
the offsets, have a normal prior around 0. Without one, a head that is right on each of a few rows would be made
certain of everything. For temperatures from 20 to 200 rows, a width of 0.2 was the best among 0.1 to infinity, or close
to it (`benchmarks/temperature.py`).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import log_softmax

from repurpose.persistence.values.parts import storable
from repurpose.persistence.values.schema import Array, Table

__all__ = ["METHODS", "PRIOR_WIDTH", "Calibration", "fit_calibration"]

METHODS = ("temperature", "vector")
PRIOR_WIDTH = 0.2
_SMALLEST = float(np.finfo(np.float64).eps)  # in place of a probability of 0, as in scikit-learn's log_loss


@storable
@dataclass(frozen=True, eq=False)
class Calibration:
    """log p of class c becomes `factors[c]` log p + `offsets[c]`, and rows sum to 1 again; float64 (n_classes,).

    >>> import numpy as np
    >>> from repurpose.uncertainty import Calibration
    >>> calibration = Calibration(factors=np.array([0.5, 0.5]), offsets=np.zeros(2))
    >>> calibration.temperature, calibration.apply(np.array([[0.9, 0.1]])).round(2)
    (2.0, array([[0.75, 0.25]]))
    """

    factors: np.ndarray
    offsets: np.ndarray

    _schema: ClassVar[Table] = {"factors": Array("n_classes"), "offsets": Array("n_classes")}

    @property
    def temperature(self) -> float | None:
        """The temperature, above 1 where the head was too certain; None after vector scaling."""
        return float(1 / self.factors[0]) if self.keeps_order else None

    @property
    def keeps_order(self) -> bool:
        """Whether the most likely class stays the same for certain."""
        return bool((self.factors == self.factors[0]).all() and not self.offsets.any())

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities, float64, for probabilities of shape (..., n_classes)."""
        return np.exp(log_softmax(_logits(probabilities) * self.factors + self.offsets, axis=-1))


def fit_calibration(
    probabilities: np.ndarray,
    codes: np.ndarray,
    method: str,
    *,
    weights: np.ndarray | None = None,
    prior_width: float = PRIOR_WIDTH,
) -> Calibration:
    """Return the calibration of least penalised log loss for probabilities (n_samples, n_classes) of classes `codes`.

    `method` is ``"temperature"`` or ``"vector"``, `prior_width` the standard deviation of each parameter. A row counts
    as often as `weights` (n_samples,) says.
    """
    from scipy.optimize import minimize

    logits, n_classes = _logits(probabilities), probabilities.shape[1]
    observed = np.zeros_like(logits)
    counts = np.ones((len(codes), 1)) if weights is None else weights[:, None]
    observed[np.arange(len(codes)), codes] = counts[:, 0]
    n_logs = n_classes if method == "vector" else 1

    def unpack(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        offsets = parameters[n_logs:] if method == "vector" else np.zeros(n_classes)
        return np.broadcast_to(np.exp(parameters[:n_logs]), n_classes), offsets

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        factors, offsets = unpack(parameters)
        log_probabilities = log_softmax(logits * factors + offsets, axis=1)
        excess = counts * np.exp(log_probabilities) - observed
        by_factor, by_offset = (excess * logits).sum(axis=0) * factors, excess.sum(axis=0)
        gradient = np.concatenate([by_factor, by_offset]) if method == "vector" else by_factor.sum(keepdims=True)
        penalty = parameters @ parameters / (2 * prior_width**2)
        return penalty - (observed * log_probabilities).sum(), gradient + parameters / prior_width**2

    # Logarithms of factors and offsets, all 0: the probabilities as they are, and the mode of the prior.
    start = np.zeros(2 * n_classes if method == "vector" else 1)
    factors, offsets = unpack(minimize(loss, start, jac=True, method="L-BFGS-B").x)
    return Calibration(np.array(factors), offsets)


def _logits(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), _SMALLEST))

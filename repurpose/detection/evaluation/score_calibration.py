"""Calibration of detection scores: the probability that a box found matches a true one at an overlap of .5.

From 200 found boxes on, isotonic regression (Zadrozny and Elkan, 2002) with straight lines between the centres of its
steps (Oron and Flournoy, 2017, arXiv:1701.05964): unlike steps, they keep most scores apart. With fewer, Platt's
sigmoid of the log odds, with his targets a little inside 0 and 1 (Platt, 1999), has two parameters and no room to
follow noise.
"""

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
from scipy.special import expit, logit

from repurpose.detection.evaluation.matches import Matches
from repurpose.persistence.values.parts import storable
from repurpose.persistence.values.schema import Array, Table
from repurpose.uncertainty.metrics import calibration_error

__all__ = [
    "FEWEST_FOR_ISOTONIC",
    "IsotonicScores",
    "PlattScores",
    "ScoreCalibration",
    "fit_score_calibration",
    "score_calibration_error",
]

FEWEST_FOR_ISOTONIC = 200  # found boxes
_INSIDE = 1e-6  # how far from 0 and 1 a score is kept for its log odds


@storable
@dataclass(frozen=True, eq=False)
class IsotonicScores:
    """Probabilities at some scores, both float64 (n_points,) and rising, with straight lines between them.

    Beyond the first and the last, the probability is theirs.

    >>> import numpy as np
    >>> from repurpose.detection.evaluation import IsotonicScores
    >>> calibration = IsotonicScores(scores=np.array([0.0, 0.5, 1.0]), probabilities=np.array([0.0, 0.1, 1.0]))
    >>> calibration.apply(np.array([0.75]))
    array([0.55])
    """

    scores: np.ndarray
    probabilities: np.ndarray

    _schema: ClassVar[Table] = {
        "scores": Array("n_points", least=0.0),
        "probabilities": Array("n_points", least=0.0, below=1.0 + _INSIDE),
    }

    def apply(self, scores: np.ndarray) -> np.ndarray:
        """Return probabilities, float64, for scores of any shape."""
        return np.interp(np.asarray(scores, dtype=np.float64), self.scores, self.probabilities)

    @property
    def rises(self) -> bool:
        """Whether there is a point, and a higher score has no lower probability."""
        return bool(len(self.scores) and (np.diff(self.scores) > 0).all() and (np.diff(self.probabilities) >= 0).all())


@storable
@dataclass(frozen=True, eq=False)
class PlattScores:
    """The log odds of a score s become slope x log odds + offset, `parameters` float64 (2,); the slope is not negative.

    >>> import numpy as np
    >>> from repurpose.detection.evaluation import PlattScores
    >>> PlattScores(parameters=np.array([1.0, 0.0])).apply(np.array([0.25])).round(6)
    array([0.25])
    """

    parameters: np.ndarray

    _schema: ClassVar[Table] = {"parameters": Array(2)}

    def apply(self, scores: np.ndarray) -> np.ndarray:
        """Return probabilities, float64, for scores of any shape."""
        slope, offset = self.parameters
        return expit(slope * _log_odds(scores) + offset)

    @property
    def rises(self) -> bool:
        """Whether a higher score has no lower probability."""
        return bool(self.parameters[0] >= 0)


ScoreCalibration: TypeAlias = IsotonicScores | PlattScores


def fit_score_calibration(matches: Matches) -> ScoreCalibration:
    """Fit the probability of matching a true box, by COCO's rule at an overlap of .5, to the scores of found boxes.

    Boxes that count neither as right nor as wrong are left out. Raises ValueError where no box is left.
    """
    scores, hits, _ = matches.scores_and_hits()
    if not len(scores):
        raise ValueError(
            f"no box that counts was found in {matches.n_images} images, so there are no scores to calibrate; give "
            "more images, or train for longer"
        )
    fit = _fit_platt if len(scores) < FEWEST_FOR_ISOTONIC else _fit_isotonic
    return fit(scores, hits.astype(np.float64))


def score_calibration_error(
    probabilities: np.ndarray, hits: np.ndarray, weights: np.ndarray | None = None
) -> float | None:
    """Return how far probabilities and shares of right boxes lie apart, on average over 15 bins of equal width.

    All arrays are (n_found,). None where no box has a weight.
    """
    weights = np.ones(len(hits)) if weights is None else weights
    return calibration_error(probabilities, hits, weights) if weights.sum() else None


def _fit_isotonic(scores: np.ndarray, hits: np.ndarray) -> IsotonicScores:
    from sklearn.isotonic import isotonic_regression

    # Equal scores are one point, whichever of them came first.
    points, members, counts = np.unique(scores, return_inverse=True, return_counts=True)
    shares = np.bincount(members, hits) / counts
    rates = isotonic_regression(shares, sample_weight=counts.astype(np.float64))
    _, steps = np.unique(rates, return_inverse=True)
    weights = np.bincount(steps, counts)
    centres = np.bincount(steps, points * counts) / weights
    return IsotonicScores(centres, np.clip(np.bincount(steps, rates * counts) / weights, 0.0, 1.0))


def _fit_platt(scores: np.ndarray, hits: np.ndarray) -> PlattScores:
    from scipy.optimize import minimize

    odds, n_hits = _log_odds(scores), hits.sum()
    # Platt's targets: what a uniform prior makes of as many right and wrong ones.
    targets = np.where(hits > 0, (n_hits + 1) / (n_hits + 2), 1 / (len(hits) - n_hits + 2))

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        values = parameters[0] * odds + parameters[1]
        excess = expit(values) - targets
        return float((np.logaddexp(0, values) - targets * values).sum()), np.array([excess @ odds, excess.sum()])

    # A negative slope would turn the order of scores round.
    fitted = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0.0, None), (None, None)])
    return PlattScores(np.asarray(fitted.x, dtype=np.float64))


def _log_odds(scores: np.ndarray) -> np.ndarray:
    return logit(np.clip(np.asarray(scores, dtype=np.float64), _INSIDE, 1 - _INSIDE))

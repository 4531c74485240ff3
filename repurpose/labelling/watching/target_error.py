"""The error rate in a stream, of which some labels come, beside the largest one that known rows allow.

Podkopaev and Ramdas (2022), "Tracking the risk of a deployed model and detecting harmful distribution shifts",
arXiv:2110.06177: an alarm where the lower limit of a confidence sequence of the target's risk lies above an upper limit
of the source's, each wrong with a probability of alpha / 2 at most, so that an alarm is false with alpha at most.

The source's limit is that of Clopper and Pearson (1934), one-sided. The confidence sequence is by betting (Waudby-Smith
and Ramdas 2024, "Estimating means of bounded random variables by betting", JRSS-B 86). A labelled row has the error e
(0 or 1) and the weight w, 0 < w <= 1. If R is the target's error, the capital

    K(m) = mean over u of the product over rows of (1 + u w (e / m - 1)),  0 < u < 1,

is a martingale for m = R and a supermartingale for m > R where E[w (e - R)] = 0 for each row given those before. That
holds for a random sample with w = 1, and for rows of which each was chosen with a known probability q with w = c / q.
K(m) falls with m, so that all m below some number have K(m) >= 2 / alpha: this is the lower limit.

Weights are rounded at random to one of the two levels next to them, so that their mean is what it was; then the rows
and the errors at each of at most 16 levels are all that is needed of the past, whatever m is asked for.
"""

from dataclasses import dataclass, replace

import numpy as np

__all__ = ["N_LEVELS", "TargetError", "largest_error", "weight_levels"]

N_LEVELS = 16
_STAKES = np.geomspace(0.01, 0.95, 24)  # u
_N_HALVINGS = 50


def weight_levels(least_probability: float | None) -> np.ndarray:
    """Return the levels of weights, from the least to 1: one, where rows are a random sample."""
    return np.ones(1) if least_probability is None else np.geomspace(least_probability, 1, N_LEVELS)


def largest_error(n_errors: int, n_rows: int, alpha: float) -> float:
    """Return the error that is above the true one but for a probability of `alpha`, of so many errors among rows."""
    from scipy.special import betaincinv

    return 1.0 if n_errors == n_rows else float(betaincinv(n_errors + 1, n_rows - n_errors, 1 - alpha))


@dataclass(frozen=True, eq=False)
class TargetError:
    """What labelled rows of a stream said; it is never changed.

    Attributes
    ----------
    least_probability : float or None
        With which a row may have been chosen; None for random samples.
    n_rows, n_errors : int64 ndarray of shape (n_levels,)
        At each level of weights, the least first.
    largest : float
        The logarithm of the largest capital so far against the error that is allowed.
    alarm_row : int or None
        The labelled row, counted from 1, with which that first reached the limit.
    """

    least_probability: float | None
    n_rows: np.ndarray
    n_errors: np.ndarray
    largest: float = 0.0
    alarm_row: int | None = None

    @classmethod
    def at_start(cls, least_probability: float | None) -> "TargetError":
        """Return the state before any labelled row."""
        none = np.zeros(len(weight_levels(least_probability)), dtype=np.int64)
        return cls(least_probability, none, none)

    @property
    def estimate(self) -> float:
        """The weighted share of errors; NaN without any row."""
        weights = weight_levels(self.least_probability)
        total = weights @ self.n_rows
        return float(weights @ self.n_errors / total) if total else float("nan")

    def follow(
        self, errors: np.ndarray, weights: np.ndarray, taus: np.ndarray, allowed: float, limit: float
    ) -> "TargetError":
        """Return the state after further labelled rows.

        `errors` are bool, `weights` and `taus` floats, each (n_rows,); `allowed` is the error to bet against and
        `limit` that of the logarithm of the capital.
        """
        levels = _rounded_at_random(weights, weight_levels(self.least_probability), taus)
        found, n_before = self, int(self.n_rows.sum())
        for row, (level, error) in enumerate(zip(levels.tolist(), errors.tolist())):
            n_rows, n_errors = found.n_rows.copy(), found.n_errors.copy()
            n_rows[level] += 1
            n_errors[level] += error
            found = replace(found, n_rows=n_rows, n_errors=n_errors)
            log_capital = found.log_capital_against(allowed)
            alarm_row = found.alarm_row
            if alarm_row is None and log_capital >= limit:
                alarm_row = n_before + row + 1
            found = replace(found, largest=max(found.largest, log_capital), alarm_row=alarm_row)
        return found

    def log_capital_against(self, error: float) -> float:
        """Return the logarithm of K(m) for an error m from 0 to 1."""
        return _log_capital(self, self.n_errors, error)

    def limits(self, alpha: float) -> tuple[float, float]:
        """Return limits of the true error, at each of which the sequence ever errs with `alpha` at most."""
        lower = _lower_limit(self, self.n_errors, alpha)
        return lower, 1 - _lower_limit(self, self.n_rows - self.n_errors, alpha)


def _log_capital(state: TargetError, n_errors: np.ndarray, error: float) -> float:
    if error <= 0:
        return float("inf") if n_errors.any() else 0.0
    shares = _STAKES[:, None] * weight_levels(state.least_probability)
    logs = np.log1p(shares * (1 / error - 1)) @ n_errors + np.log1p(-shares) @ (state.n_rows - n_errors)
    return float(np.logaddexp.reduce(logs) - np.log(len(_STAKES)))


def _lower_limit(state: TargetError, n_errors: np.ndarray, alpha: float) -> float:
    low, high = 0.0, 1.0
    if not n_errors.any():
        return low
    for _ in range(_N_HALVINGS):
        middle = (low + high) / 2
        if _log_capital(state, n_errors, middle) >= -np.log(alpha):
            low = middle
        else:
            high = middle
    return low


def _rounded_at_random(weights: np.ndarray, levels: np.ndarray, taus: np.ndarray) -> np.ndarray:
    """Return the number of one of the two levels next to each weight, whose mean over `taus` is the weight."""
    if len(levels) == 1:
        return np.zeros(len(weights), dtype=np.int64)
    above = np.searchsorted(levels, weights).clip(1, len(levels) - 1)
    share = (weights - levels[above - 1]) / (levels[above] - levels[above - 1])
    return above - (taus >= share)

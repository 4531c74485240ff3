"""95 % intervals of measures on labelled rows come each by a method that holds where every row agrees.

A bootstrap of 30 right answers draws 30 right answers: its interval is a point, which promises what 30 rows cannot
know. So shares and rank statistics have intervals of their own, and the bootstrap serves means (`evaluation`).

References: Clopper and Pearson (1934), Biometrika 26 (shares); Newcombe (2006), Statistics in Medicine 25, 559-573,
method 5 (AUROC).
"""

import numpy as np

__all__ = ["auroc_interval", "bootstrap_interval", "fpr95_interval", "largest_unseen_share", "share_interval"]

_TAIL = 0.025  # on each side


def share_interval(n_hits: int, n_rows: int) -> tuple[float, float]:
    """Return the exact (Clopper-Pearson) interval of a share of which `n_hits` of `n_rows` rows were seen.

    Its limits are quantiles of beta distributions; `scipy.stats.binomtest` searches for them, in a thousand times as
    long, which shows where there are many classes.
    """
    from scipy.special import betaincinv

    low = betaincinv(n_hits, n_rows - n_hits + 1, _TAIL) if n_hits else 0.0
    high = betaincinv(n_hits + 1, n_rows - n_hits, 1 - _TAIL) if n_hits < n_rows else 1.0
    return float(low), float(high)


def largest_unseen_share(n_rows: int) -> float:
    """Return the largest share of a kind of row of which `n_rows` rows hold none, as `share_interval` limits it."""
    return 1 - float(_TAIL ** (1 / n_rows))


def auroc_interval(auroc: float, n_familiar: int, n_unfamiliar: int) -> tuple[float, float]:
    """Compute Newcombe's score interval: all t with (auroc - t)^2 <= z^2 V(t).

    V(t) = t (1 - t) (1 + N (1 - t) / (2 - t) + N t / (1 + t)) / (n_familiar n_unfamiliar), N the mean of the two
    numbers less one, is the variance that Hanley and McNeil (1982) give the estimate where the true value is t.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    z, extra = norm.isf(_TAIL), (n_familiar + n_unfamiliar) / 2 - 1

    def excess(t: float) -> float:
        variance = t * (1 - t) * (1 + extra * (1 - t) / (2 - t) + extra * t / (1 + t)) / (n_familiar * n_unfamiliar)
        return (auroc - t) ** 2 - z**2 * variance

    edge = 1e-12  # 0 and 1 solve the equation for an auroc of 0 and of 1, and are not the limits that are sought
    low = brentq(excess, 0.0, min(auroc, 1 - edge)) if auroc > edge else 0.0
    high = brentq(excess, max(auroc, edge), 1.0) if auroc < 1 - edge else 1.0
    return float(low), float(high)


def fpr95_interval(
    familiar: np.ndarray, unfamiliar: np.ndarray, n_draws: int, random_state: np.random.RandomState
) -> tuple[float, float]:
    """Return the interval of the share of familiar inputs above a threshold that 95 % of unfamiliar inputs reach.

    Both are uncertain. How many of the unfamiliar scores (n_unfamiliar,) lie above the true threshold is a draw from
    Binomial(n_unfamiliar, .95), which says between which two of them it lies; given it, the limits of the share are
    those of `share_interval`, which are quantiles of beta distributions. The interval is that of `n_draws` draws of
    both. With fewer than 72 unfamiliar inputs the threshold may well be below all of them; the lowest then serves,
    and the upper limit may be too small.
    """
    scores, n_familiar = np.sort(unfamiliar)[::-1], len(familiar)
    n_above = random_state.binomial(len(scores), 0.95, size=n_draws)
    above = np.sort(familiar)
    n_at_most = n_familiar - np.searchsorted(above, scores[np.minimum(n_above, len(scores) - 1)])
    n_at_least = n_familiar - np.searchsorted(above, scores[np.maximum(n_above, 1) - 1])
    low = np.where(n_at_least == 0, 0.0, random_state.beta(np.maximum(n_at_least, 1), n_familiar - n_at_least + 1))
    drawn = random_state.beta(n_at_most + 1, np.maximum(n_familiar - n_at_most, 1))
    high = np.where(n_at_most == n_familiar, 1.0, drawn)
    return float(np.quantile(low, _TAIL)), float(np.quantile(high, 1 - _TAIL))


def bootstrap_interval(draws: list[float], value: float, largest: float) -> tuple[float, float]:
    """Compute Efron's percentile interval of `draws`, moved by the difference between their mean and the value.

    Calibration errors of a draw are larger on average than those of the rows it came from. Within 0 and `largest`.
    """
    low, high = np.quantile(draws, [_TAIL, 1 - _TAIL]) - (np.mean(draws) - value)
    return max(float(low), 0.0), min(float(high), largest)

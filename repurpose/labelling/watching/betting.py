"""Betting against uniform p-values: capital that grows when they are not, and by chance reaches 1 / alpha rarely.

A betting function f is not negative and integrates to 1 over [0, 1]. If p-values are independent and uniform, the
capital of who begins with 1 and multiplies it by f(p_n) each time is a martingale, so that it ever reaches 1 / alpha
with a probability of alpha at most (Ville). Vovk, Nouretdinov and Gammerman (2003), "Testing exchangeability on-line",
ICML, bet with f(p) = e p^(e - 1), and mix over e. A mixture of martingales, with weights fixed beforehand, is one.

Here capital is mixed over 18 functions and over the row with which each of them begins:

- f(p) = 1 - w + w e q^(e - 1), where q is p or 1 - p. It is the likelihood ratio of a stream in which a share w of the
  rows is of another kind, and q = 1 - p finds streams that are too familiar, such as copies. Since f is at least 1 - w,
  little is lost while nothing happens.
- A share n^(-1/2) - (n + 1)^(-1/2) of the capital of 1 begins to bet with row n, in equal parts by each function.
  Without, what was lost before a change would have to be won back after it.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

__all__ = ["N_BETS", "Capital", "log_bets"]

_SHARES, _EXPONENTS = (0.1, 0.3, 1.0), (0.15, 0.4, 0.7)
_W, _E = (np.array(numbers) for numbers in zip(*product(_SHARES, _EXPONENTS)))
N_BETS = 2 * len(_W)
_LEAST = 2.0**-50  # below, 1 - p has few digits, and a function that rose further could win what is not there


def log_bets(p_values: np.ndarray) -> np.ndarray:
    """Return the logarithm of each betting function: (n_rows,) to (n_rows, 18)."""
    sides = np.stack([p_values, 1 - p_values], axis=1).clip(_LEAST, 1)[:, :, None]
    return np.log1p(_W * (_E * sides ** (_E - 1) - 1)).reshape(len(p_values), N_BETS)


@dataclass(frozen=True, eq=False)
class Capital:
    """The capital after `n_rows` rows; it is never changed.

    Attributes
    ----------
    n_rows : int
    log_stakes : float64 ndarray of shape (18,)
        The logarithm of what is bet on the next row by each function.
    """

    n_rows: int
    log_stakes: np.ndarray

    @classmethod
    def at_start(cls) -> "Capital":
        """Return a capital of 1 before the first row."""
        return cls(0, np.full(N_BETS, _log_released(np.ones(1))[0]))

    def follow(self, p_values: np.ndarray) -> tuple["Capital", np.ndarray]:
        """Bet on rows, one after the other: the capital after them, and the logarithm of it after each (n_rows,)."""
        next_rows = self.n_rows + 2.0 + np.arange(len(p_values))
        bets, released = log_bets(p_values), _log_released(next_rows)
        stakes = np.empty((len(p_values), N_BETS))
        log_stakes = self.log_stakes
        for row in range(len(p_values)):  # no cumulative sums, whose last digits would depend on how rows are batched
            log_stakes = np.logaddexp(log_stakes + bets[row], released[row])
            stakes[row] = log_stakes
        reserve = -0.5 * np.log(next_rows + 1)
        totals = np.logaddexp.reduce(np.column_stack([stakes, reserve]), axis=1)
        return Capital(self.n_rows + len(p_values), log_stakes), totals


def _log_released(rows: np.ndarray) -> np.ndarray:
    """Return the logarithm of what each function gets to begin with at rows, counted from 1: (n_rows,)."""
    # n^(-1/2) - (n + 1)^(-1/2) without the cancellation of two numbers that are nearly the same
    roots = np.sqrt(rows), np.sqrt(rows + 1)
    return -np.log(roots[0] * roots[1] * (roots[0] + roots[1]) * N_BETS)

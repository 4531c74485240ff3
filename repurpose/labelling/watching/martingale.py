"""A conformal test martingale: the ranks of a stream's scores among all scores so far, and capital that bets on them.

With m rows to compare with and n rows of the stream, the last one included, the p-value of the last one is

    p_n = (#{s_i > s_n} + tau_n #{s_i = s_n}) / (m + n),

where s are scores, larger is stranger, and tau_n is uniform. If all m + n rows are exchangeable and the score of a row
depends on nothing but this row and on what none of them had a part in, then p_1, p_2, ... are independent and uniform:
given which scores there are, but not in which order, the last one is any of them alike, whatever the p-values after it
(Vovk, Nouretdinov and Gammerman 2003, Theorem 1; with a score from other rows, as here, it is the inductive
martingale of Volkhonskiy et al. 2017, "Inductive conformal martingales for change-point detection", PMLR 60). It holds
for scores of a few values as it does for others, since tau breaks the ties. So capital that bets on them (`betting`)
ever reaches 1 / alpha with a probability of alpha at most, whenever and however often one looks.

Ranks among the m rows alone would not do: these p-values depend on each other through the m rows, and with 50 of them
two thirds of streams of 1,000 rows in which nothing happens raised an alarm at alpha = .05, where ranks among all rows
did in 2 of 100 (`python -m benchmarks labels --parts alarm`).
"""

from dataclasses import dataclass, field, replace

import numpy as np

from repurpose.labelling.watching.betting import Capital

__all__ = ["Curve", "Martingale", "online_p_values"]

_MOST_POINTS = 128


@dataclass(frozen=True)
class Curve:
    """Some of a long series, for a plot: its values at every `stride`-th row, counted from 1, 128 at most."""

    stride: int = 1
    values: tuple[float, ...] = ()

    def follow(self, series: np.ndarray, n_before: int) -> "Curve":
        """Take over what belongs to it of the values at further rows, `n_before` rows having come before them."""
        stride, values = self.stride, list(self.values)
        while (row := (len(values) + 1) * stride) <= n_before + len(series):
            values.append(round(float(series[row - n_before - 1]), 3))
            if len(values) > _MOST_POINTS:
                stride, values = 2 * stride, values[1::2]
        return Curve(stride, tuple(values))


@dataclass(frozen=True, eq=False)
class Martingale:
    """One score of a stream, watched; it is never changed.

    Attributes
    ----------
    grid : float64 ndarray of shape (n_cells - 1,)
        Rising limits of the cells, the lower one being part of a cell.
    reference : int64 ndarray of shape (n_cells,)
        How many of the rows to compare with lie in each cell.
    counts : int64 ndarray of shape (n_cells,)
        The same of these and all rows of the stream together.
    capital : Capital
    largest : float
        The logarithm of the largest capital so far.
    alarm_row : int or None
        The row of the stream, counted from 1, with which the capital first reached the limit.
    curve : Curve
        Logarithms of the capital.
    """

    grid: np.ndarray
    reference: np.ndarray
    counts: np.ndarray
    capital: Capital = field(default_factory=Capital.at_start)
    largest: float = 0.0
    alarm_row: int | None = None
    curve: Curve = Curve()

    @classmethod
    def against(cls, grid: np.ndarray, scores: np.ndarray) -> "Martingale":
        """Begin with the scores of the rows to compare with."""
        reference = np.bincount(cells_of(grid, scores), minlength=len(grid) + 1)
        return cls(grid, reference, reference)

    def begun_again(self) -> "Martingale":
        """Return the martingale of the same rows to compare with before any stream."""
        return Martingale(self.grid, self.reference, self.reference)

    def follow(self, scores: np.ndarray, taus: np.ndarray, limit: float) -> "Martingale":
        """Return the martingale after further rows; `limit` is that of the logarithm of the capital.

        `scores` and `taus` are (n_rows,), the latter from 0 to 1. Raises ValueError for scores that are NaN.
        """
        p_values, counts = online_p_values(cells_of(self.grid, scores), taus, self.counts)
        n_before = self.capital.n_rows
        capital, totals = self.capital.follow(p_values)
        alarm_row, above = self.alarm_row, np.flatnonzero(totals >= limit)
        if alarm_row is None and len(above):
            alarm_row = n_before + int(above[0]) + 1
        return replace(
            self,
            counts=counts,
            capital=capital,
            largest=max(self.largest, float(totals.max(initial=0.0))),
            alarm_row=alarm_row,
            curve=self.curve.follow(totals, n_before),
        )


def cells_of(grid: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the cell of each score: (n_rows,). Raises ValueError for scores that are NaN."""
    if rows := np.flatnonzero(np.isnan(scores)).tolist():
        raise ValueError(f"the scores of {len(rows)} rows are NaN, that of row {rows[0]} first; nothing was taken over")
    return np.searchsorted(grid, scores, side="right")


def online_p_values(cells: np.ndarray, taus: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the p-value of each row among all before it and itself, (n_rows,), and the counts after the last one.

    `cells` and `taus` are (n_rows,), `counts` (n_cells,) says how many rows there were in each cell before.
    """
    counts, n_rows = counts.copy(), int(counts.sum())
    p_values = np.empty(len(cells))
    for row, (cell, tau) in enumerate(zip(cells.tolist(), taus.tolist())):
        counts[cell] += 1
        p_values[row] = (counts[cell + 1 :].sum() + tau * counts[cell]) / (n_rows + row + 1)
    return p_values, counts

"""Conformal p-values count the reference rows whose nonconformity is at least that of the row at hand.

    p(x) = (1 + number of reference rows with a score of at least s(x)) / (1 + number of reference rows)

A reference row of weight w counts as w rows. If the reference rows and x come from one distribution, and the head saw
none of them, p(x) <= a has probability a at most (split conformal prediction; Vovk, Gammerman and Shafer 2005). From
the training rows, every row is scored by the head that was trained without its fold, and x by each of these heads
(cross-conformal prediction, Vovk 2015; for sets of labels the CV+ of Romano, Sesia and Candès 2020, arXiv:2006.02544).
Then the promise is 2a and a little more. In practice it is a or less: the counts of all folds are added, so that only
a row that is strange to nearly all of them has a small p-value, and the less the folds agree, the fewer do.

Where x comes from another distribution than the reference rows and the ratio of the densities is known, the promise
holds if each reference row counts as that ratio at it says, and x itself, the 1 in the formula, as the ratio at x says:
weighted conformal prediction (Tibshirani, Foygel Barber, Candès and Ramdas 2019, arXiv:1904.06019).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

__all__ = ["Comparison", "p_values"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Scores by one head, larger is stranger: of `reference` rows (n_reference,), and of rows to judge, any shape.

    Reference rows may have `weights` (n_reference,); None where each counts once.
    """

    reference: np.ndarray
    scores: np.ndarray
    weights: np.ndarray | None = None

    @property
    def n_reference(self) -> float:
        """How many reference rows there are, each counted as its weight says."""
        return len(self.reference) if self.weights is None else float(self.weights.sum())

    @property
    def n_at_least(self) -> np.ndarray:
        """How many of them are at least as strange as each row to judge, in the shape of `scores`."""
        if self.weights is None:
            return len(self.reference) - np.searchsorted(np.sort(self.reference), self.scores, side="left")
        # Weights are summed from the largest score down, so that one search gives the weight of all at least as large.
        order = np.argsort(self.reference)
        from_here_on = np.append(np.cumsum(self.weights[order][::-1])[::-1], 0.0)
        return from_here_on[np.searchsorted(self.reference[order], self.scores, side="left")]


def p_values(comparisons: Iterable[Comparison], own: float | np.ndarray = 1.0) -> np.ndarray:
    """Return the p-value of each score, in the shape of the scores: one comparison, or one a fold.

    `own` says how much each row to judge counts beside the reference rows; it broadcasts against the scores.
    """
    n_reference, at_least = 0.0, np.zeros(())
    for comparison in comparisons:
        n_reference += comparison.n_reference
        at_least = at_least + comparison.n_at_least
    return (own + at_least) / (own + n_reference)

"""Conformal p-values: how many reference rows look at least as strange as the one at hand.

    p(x) = (1 + number of reference rows with a score of at least s(x)) / (1 + number of reference rows)

If the reference rows and x come from one distribution, and the head saw none of them, p(x) <= a has probability a at
most (split conformal prediction; Vovk, Gammerman and Shafer 2005). From the training rows, every row is scored by the
head that was trained without its fold, and x by each of these heads (cross-conformal prediction, Vovk 2015; for sets
of labels the CV+ of Romano, Sesia and Candès 2020, arXiv:2006.02544). Then the promise is 2a and a little more, and a
in practice.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

__all__ = ["Comparison", "p_values"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Scores by one head, larger is stranger: of `reference` rows (n_reference,), and of rows to judge, any shape."""

    reference: np.ndarray
    scores: np.ndarray


def p_values(comparisons: Iterable[Comparison]) -> np.ndarray:
    """The p-value of each score, in the shape of the scores: one comparison, or one a fold."""
    n_reference, at_least = 0, np.zeros((), dtype=np.int64)
    for comparison in comparisons:
        growing = np.sort(comparison.reference)
        n_reference += len(growing)
        at_least = at_least + len(growing) - np.searchsorted(growing, comparison.scores, side="left")
    return (1 + at_least) / (1 + n_reference)

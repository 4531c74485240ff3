"""Counts of reference rows whose scores are at least as large as a score, in little memory.

Comparing n_rows times n_classes scores with each of n_reference others at once would take as many booleans; here a
binary search takes log2(n_reference) steps, each of which looks up one number a score.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from repurpose.deployment.answers.tensors import double

__all__ = ["CountsAtLeast", "ReferenceScores"]


@dataclass(frozen=True, eq=False)
class ReferenceScores:
    """The scores of reference rows by one judge.

    Attributes
    ----------
    scores : ndarray of shape (n_reference,)
    weights : ndarray of shape (n_reference,) or None
        What each counts; None where each counts once.
    rounding : float
        How far apart rounding may bring equal scores, in units of their size.
    """

    scores: np.ndarray
    weights: np.ndarray | None = None
    rounding: float = 0.0

    @property
    def total(self) -> float:
        """How many rows there are, each counted as its weight says."""
        return float(len(self.scores) if self.weights is None else self.weights.sum())

    @property
    def scale(self) -> float:
        """The size of the scores, not less than that of a probability."""
        return max(1.0, float(np.abs(self.scores).max(initial=0)))

    @property
    def growing(self) -> tuple[np.ndarray, np.ndarray]:
        """The scores from the smallest on, and how many rows have that score or a larger one: each (n_reference,).

        Scores are raised by what rounding may take off an equal one: a row that is a reference row too is at least as
        strange as itself, on any machine.
        """
        order = np.argsort(self.scores, kind="stable")
        counts = np.ones(len(order)) if self.weights is None else self.weights[order]
        return self.scores[order].astype(np.float64) + self.rounding * self.scale, np.cumsum(counts[::-1])[::-1]

    def largest_inside(self, share_left_out: float) -> float:
        """Return the largest score whose p-value is above `share_left_out`; -inf where there is none."""
        scores, at_least = self.growing
        return float(scores[(1 + at_least) / (1 + self.total) > share_left_out].max(initial=-np.inf))


class CountsAtLeast(nn.Module):
    """How many reference rows are at least as strange, by each judge: scores (n_judges, ...) to the same, float64."""

    growing: Tensor
    at_least: Tensor
    starts: Tensor
    scales: Tensor

    def __init__(self, references: Sequence[ReferenceScores]) -> None:
        super().__init__()
        self.n_steps = max(len(reference.scores) for reference in references).bit_length()
        # One table for all judges, so that one search serves them; each part ends in infinite scores.
        length = 2**self.n_steps
        growing, at_least = np.full((len(references), length), np.inf), np.zeros((len(references), length))
        for judge, reference in enumerate(references):
            growing[judge, : len(reference.scores)], at_least[judge, : len(reference.scores)] = reference.growing
        self.register_buffer("growing", double(growing).flatten())
        self.register_buffer("at_least", double(at_least).flatten())
        self.register_buffer("starts", torch.arange(len(references)) * length)
        self.register_buffer("scales", double([reference.scale for reference in references]))
        self.total = sum(reference.total for reference in references)

    def forward(self, scores: Tensor) -> Tensor:
        """Count for float64 scores."""
        return _taken(self.at_least, self._places(scores))

    def bounds(self, scores: Tensor, near: float) -> tuple[Tensor, Tensor]:
        """Return the fewest and the most counts of scores within `near`, in units of the size of their judge's."""
        reach = near * self._of_judges(self.scales, scores)
        return self(scores + reach), self(scores - reach)

    def _places(self, scores: Tensor) -> Tensor:
        """Return the place in the table of the first score that is not smaller than each, int64."""
        places = torch.zeros_like(scores, dtype=torch.int64) + self._of_judges(self.starts, scores)
        for step in range(self.n_steps - 1, -1, -1):
            further = places + 2**step
            places = torch.where(_taken(self.growing, further - 1) < scores, further, places)
        return places

    @staticmethod
    def _of_judges(numbers: Tensor, scores: Tensor) -> Tensor:
        return numbers.view(-1, *[1] * (scores.ndim - 1))


def _taken(table: Tensor, places: Tensor) -> Tensor:
    return table.index_select(0, places.flatten()).view(places.shape)

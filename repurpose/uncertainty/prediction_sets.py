"""Prediction sets hold the right label with a probability that was asked for.

A label stays in the set of a row while its conformal p-value (`conformal`) is above 1 - coverage. What differs between
the three scores is the nonconformity of a label for a row:

- ``"lac"``: 1 - p(label). The smallest sets on average. Sadinle, Lei and Wasserman (2019), arXiv:1609.00451.
- ``"aps"``: the probability of all labels that are more likely, plus half of its own. Larger sets for harder rows.
  Romano, Sesia and Candès (2020), arXiv:2006.02544, draw the share of its own at random; half of it gives the same set
  for the same row always, and the promise holds for any score.
- ``"raps"``: the same, plus a cost of 0.01 for each rank beyond the fifth, against long tails of many classes.
  Angelopoulos et al. (2021), arXiv:2009.14193. Up to ten classes or so the sets are about those of ``"aps"``. A cost of
  0.1 beyond the second rank, which earlier versions had, made them longer wherever the true label often comes third or
  fourth: what such rows pay lets further labels into the sets of all others.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, SupportsIndex, overload

import numpy as np

from repurpose.uncertainty.defaults import RANK_COST

__all__ = ["SCORES", "PredictionSets", "nonconformity_of_labels"]

SCORES = ("lac", "aps", "raps")
_N_SHOWN = 10


@dataclass(frozen=True, eq=False)
class PredictionSets:
    """A set of labels for each row. Iterating and indexing by a number give the labels of a row, the most likely first.

    A slice, a mask or an array of numbers takes the sets of several rows. Printed, it shows the names of labels.

    Attributes
    ----------
    members : bool ndarray of shape (n_samples, n_classes)
        Which classes are in the set, columns as in `classes`.
    classes : ndarray of shape (n_classes,)
    probabilities : ndarray of shape (n_samples, n_classes)
        The probabilities by which labels are sorted.
    coverage : float
        The coverage asked for.
    score : str
        The score that was used.
    class_names : ndarray of str of shape (n_classes,), optional
        What is shown for each class; by default its label.

    Examples
    --------
    >>> import numpy as np
    >>> from repurpose.uncertainty import PredictionSets
    >>> members = np.array([[True, False], [True, True]])
    >>> probabilities = np.array([[0.95, 0.05], [0.4, 0.6]])
    >>> sets = PredictionSets(members, np.array(["cat", "dog"]), probabilities, coverage=0.9, score="lac")
    >>> sets
    PredictionSets(2 sets for a coverage of 0.9 by lac; labels: 1 of 1, 1 of 2)
      0: cat
      1: dog, cat
    """

    members: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray
    coverage: float
    score: str
    class_names: np.ndarray | None = None

    @property
    def sizes(self) -> np.ndarray:
        """How many labels each set holds: (n_samples,)."""
        return self.members.sum(axis=1)

    @property
    def names(self) -> list[list[str]]:
        """The names of the labels of each set, the most likely first."""
        return [self._names(row) for row in range(len(self))]

    def __len__(self) -> int:
        return len(self.members)

    @overload
    def __getitem__(self, rows: SupportsIndex) -> np.ndarray: ...

    @overload
    def __getitem__(self, rows: Any) -> "PredictionSets": ...

    def __getitem__(self, rows: Any) -> Any:
        if np.ndim(rows) == 0 and isinstance(rows, SupportsIndex):
            return self.classes[self._codes(rows)]
        return replace(self, members=self.members[rows], probabilities=self.probabilities[rows])

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[row] for row in range(len(self)))

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} of {size}" for size, n in enumerate(np.bincount(self.sizes)) if n)
        heading = (
            f"PredictionSets({len(self)} sets for a coverage of {self.coverage:g} by {self.score}; labels: {counts})"
        )
        rows = [f"  {row}: {', '.join(self._names(row)) or 'none'}" for row in range(min(len(self), _N_SHOWN))]
        return "\n".join([heading, *rows, *(["  ..."] if len(self) > _N_SHOWN else [])])

    def _names(self, row: SupportsIndex) -> list[str]:
        shown = self.classes if self.class_names is None else self.class_names
        return [str(name) for name in shown[self._codes(row)].tolist()]

    def _codes(self, row: SupportsIndex) -> np.ndarray:
        likeliest_first = np.argsort(-self.probabilities[row], kind="stable")
        return likeliest_first[self.members[row, likeliest_first]]


def nonconformity_of_labels(
    probabilities: np.ndarray, score: str, rank_cost: tuple[int, float] = RANK_COST
) -> np.ndarray:
    """Compute the nonconformity of each label for each row, larger is stranger: (n_samples, n_classes) to the same.

    With ``"raps"``, `rank_cost` says how many ranks cost nothing, and what each after them costs.
    """
    if score == "lac":
        return 1 - probabilities
    likeliest_first = np.argsort(-probabilities, axis=1, kind="stable")
    falling = np.take_along_axis(probabilities, likeliest_first, axis=1)
    nonconformity = np.cumsum(falling, axis=1) - falling / 2
    if score == "raps":
        n_free, cost = rank_cost
        nonconformity = nonconformity + cost * np.maximum(np.arange(falling.shape[1]) + 1 - n_free, 0)
    by_class = np.empty_like(nonconformity)
    np.put_along_axis(by_class, likeliest_first, nonconformity, axis=1)
    return by_class

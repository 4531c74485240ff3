"""`RowObjections`: why rows are refused, the first reason of each row and what it is about."""

from collections.abc import Callable, Mapping, Sequence
from typing import Self

import numpy as np

__all__ = ["REASONS", "RowObjections"]

# In the order in which rows are judged.
REASONS = ("unreadable", "shape", "dtype", "not finite", "range", "failed", "unfamiliar", "uncertain")


class RowObjections:
    """The first objection to each row: `reasons` and `details`, object ndarrays (n_rows,) of text, None where none."""

    def __init__(self, n_rows: int) -> None:
        self.accepted = np.ones(n_rows, dtype=bool)
        self.reasons = np.full(n_rows, None, dtype=object)
        self.details = np.full(n_rows, None, dtype=object)

    def add(self, rows: np.ndarray, reason: str, detail: Callable[[int], str]) -> None:
        """Refuse the rows of a mask (n_rows,), unless they were before; `detail` tells of each row what is wrong."""
        for row in np.flatnonzero(rows & self.accepted).tolist():
            self.reasons[row], self.details[row] = reason, detail(row)
        self.accepted &= ~rows

    def refuse_all(self, reason: str, detail: str) -> None:
        """Refuse every row that was not refused before, for the same reason."""
        self.add(np.ones(len(self.accepted), dtype=bool), reason, lambda _: detail)

    def beside_unreadable(self, unreadable: Mapping[int, str]) -> "RowObjections":
        """Return the objections to these rows and to others among them that cannot be read: why, by row number."""
        whole = RowObjections(len(self.accepted) + len(unreadable))
        rows = np.setdiff1d(np.arange(len(whole.accepted)), list(unreadable))
        for own, of_whole in zip(vars(self).values(), vars(whole).values()):
            of_whole[rows] = own
        for row, reason in unreadable.items():
            whole.accepted[row], whole.reasons[row], whole.details[row] = False, "unreadable", reason
        return whole

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return the objections to the rows of several parts, one behind the other."""
        whole = cls(0)
        whole.accepted = np.concatenate([part.accepted for part in parts])
        whole.reasons = np.concatenate([part.reasons for part in parts])
        whole.details = np.concatenate([part.details for part in parts])
        return whole

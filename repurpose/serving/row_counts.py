"""`RowCounts`: how many rows a guard saw, accepted, and refused for which reason."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock

import numpy as np

from repurpose.serving.row_objections import REASONS

__all__ = ["RowCounter", "RowCounts"]


@dataclass(frozen=True)
class RowCounts:
    """What a guard saw since it was made.

    Attributes
    ----------
    seen, accepted : int
        Rows.
    refused : mapping of str to int
        Rows by reason, 0 included: ``"unreadable"``, ``"shape"``, ``"dtype"``, ``"not finite"``, ``"range"``,
        ``"failed"`` (the network cannot compute it), ``"unfamiliar"`` and ``"uncertain"``. A row counts once, for the
        first of these. `seen` is `accepted` and all of them together.

    Examples
    --------
    >>> from repurpose.serving import RowCounts
    >>> RowCounts(seen=10, accepted=9, refused={"range": 1}).refused["range"]
    1
    """

    seen: int
    accepted: int
    refused: Mapping[str, int]


class RowCounter:
    """Counts rows, in any number of threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._accepted = 0
        self._refused: Counter[str] = Counter()

    def add(self, reasons: np.ndarray) -> None:
        """Count rows by their reasons (n_rows,), None for those that were accepted."""
        found = Counter(reasons.tolist())
        n_accepted = found.pop(None, 0)
        with self._lock:  # all at once, so that the sums are right for whoever reads meanwhile
            self._accepted += n_accepted
            self._refused.update(found)

    def counts(self) -> RowCounts:
        """Return the counts of this moment, which add up."""
        with self._lock:
            accepted, refused = self._accepted, {reason: self._refused[reason] for reason in REASONS}
        return RowCounts(accepted + sum(refused.values()), accepted, refused)

"""`GuardedPrediction`: the labels of rows that a guard accepted, and why it refused the others."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

__all__ = ["GuardedPrediction", "RefusedRowsError"]

_SHOWN = 5  # rows in a message


@dataclass(frozen=True, eq=False, repr=False)
class GuardedPrediction:
    """What a guard answers for each row of some data, in their order.

    Attributes
    ----------
    labels : object ndarray of shape (n_rows,)
        The predicted labels, None where a row is refused.
    accepted : bool ndarray of shape (n_rows,)
    reasons : object ndarray of shape (n_rows,)
        Why a row is refused, one of those in `RowCounts`, None where it is accepted.
    details : object ndarray of shape (n_rows,)
        The same in words, for a person: what was found, and what was expected.
    probabilities : float ndarray of shape (n_rows, n_classes), or None
        As of `predict_probability`; NaN where the network was not asked. None where the head has none.
    unfamiliarity : float ndarray of shape (n_rows,), or None
        The share of familiar rows that are less strange than this one, 0 to 1; NaN where the network was not asked.
        None where the guard has no `max_unfamiliarity`.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import LrRepurposer
    >>> X, y = make_blobs(30, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> guarded = LrRepurposer(network, c=1.0).repurpose((X, y)).guard()
    >>> guarded.predict([[5.0, float("nan")], [7.0]])
    GuardedPrediction(2 rows, 0 accepted; refused: 1 not finite, 1 shape)
    """

    labels: np.ndarray
    accepted: np.ndarray
    reasons: np.ndarray
    details: np.ndarray
    probabilities: np.ndarray | None
    unfamiliarity: np.ndarray | None

    def __repr__(self) -> str:
        return f"GuardedPrediction({self._summary()})"

    def raise_if_refused(self) -> None:
        """Raise RefusedRowsError where any row is refused."""
        if not self.accepted.all():
            raise RefusedRowsError(self, self._message())

    def _summary(self) -> str:
        counts = Counter(reason for reason in self.reasons.tolist() if reason is not None)
        refused = f"; refused: {', '.join(f'{n} {reason}' for reason, n in sorted(counts.items()))}" if counts else ""
        return f"{len(self.labels)} rows, {int(self.accepted.sum())} accepted{refused}"

    def _message(self) -> str:
        rows = np.flatnonzero(~self.accepted).tolist()
        shown = "; ".join(f"row {row} ({self.reasons[row]}): {self.details[row]}" for row in rows[:_SHOWN])
        return f"{len(rows)} of {len(self.labels)} rows are refused: {shown}{'; ...' if len(rows) > _SHOWN else ''}"


class RefusedRowsError(ValueError):
    """Rows that a guard refuses; `prediction` has what it says of each row.

    >>> from repurpose.serving import RefusedRowsError
    >>> issubclass(RefusedRowsError, ValueError)
    True
    """

    def __init__(self, prediction: GuardedPrediction, message: str) -> None:
        super().__init__(message)
        self.prediction = prediction

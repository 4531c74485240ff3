"""`WatchReport`: what a watch says of a stream at one time."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["WatchReport"]

_MEANING = (
    "Rows of the stream and those to compare with are not exchangeable: the stream is another one now or was from the "
    "first, be it in what it shows, its mix of classes, its preprocessing or its duplicates; or it has an order in "
    "time, as one sorted by class or frames of one video have. This may be harmless: labels tell (update_labelled). "
    "reset() begins a new test."
)


@dataclass(frozen=True)
class WatchReport:
    """What is known after some rows; it is true where there was an alarm.

    Attributes
    ----------
    n_rows : int
        Rows of the stream so far, since the test began.
    alarm_rows : dict of str to int
        By the name of what raised an alarm, ``"unfamiliarity"``, ``"certainty"`` or ``"error"``, the row with which
        it did, counted from 1; for ``"error"`` among the labelled rows, those of one call in a random order.
    log10_evidence : dict of str to float
        Of all that is watched, the decimal logarithm of the largest capital so far.
    log10_limit : dict of str to float
        What it takes for an alarm.
    n_labelled : int
        Labelled rows so far.
    error, error_lower, error_upper : float
        Their share of errors (NaN without any), and limits that the true one has at all times but for a probability of
        alpha / 2 each.
    error_allowed : float
        The largest error that the rows to compare with allow, and the tolerance.
    message : str
        The same in words, for a person.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import LrRepurposer
    >>> X, y = make_blobs(200, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> watch = LrRepurposer(network, c=1.0, random_state=0).repurpose((X[:100], y[:100])).watch(alpha=0.05)
    >>> watch.update(X[100:])
    WatchReport(100 rows, no alarm; largest log10 of the evidence: unfamiliarity ... of 1.6, certainty ... of 1.6)
    >>> bool(watch.update(X[100:] + 30))
    True
    """

    n_rows: int
    alarm_rows: Mapping[str, int]
    log10_evidence: Mapping[str, float]
    log10_limit: Mapping[str, float]
    n_labelled: int
    error: float
    error_lower: float
    error_upper: float
    error_allowed: float

    def __bool__(self) -> bool:
        return bool(self.alarm_rows)

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name} {evidence:.1f} of {self.log10_limit[name]:.1f}" for name, evidence in self.log10_evidence.items()
        )
        said = "no alarm"
        if self.alarm_rows:
            said = "ALARM by " + " and ".join(f"{name} at row {row}" for name, row in self.alarm_rows.items())
        return f"WatchReport({self.n_rows} rows, {said}; largest log10 of the evidence: {shown})"

    @property
    def message(self) -> str:
        """What an alarm means, in words; empty where there is none."""
        said = []
        of_rows = {name: row for name, row in self.alarm_rows.items() if name != "error"}
        if of_rows:
            shown = " and ".join(f"{name} at row {row}" for name, row in of_rows.items())
            said.append(f"Alarm by {shown} of {self.n_rows}. {_MEANING}")
        if "error" in self.alarm_rows:
            said.append(
                f"Alarm by errors at labelled row {self.alarm_rows['error']} of {self.n_labelled}: the share of errors "
                f"in the stream is above {self.error_allowed:.3g}, the most that the rows to compare with allow "
                f"({self.error:.3g} of the labelled rows, at least {self.error_lower:.3g})."
            )
        return "\n".join(said)

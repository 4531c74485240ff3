"""`ValidationReport`: whether a model still answers what it should, compared row by row."""

from dataclasses import dataclass
from numbers import Real

import numpy as np

__all__ = [
    "ChangedAnswersError",
    "ExpectedAnswers",
    "ValidationReport",
    "check_tolerance",
    "compare",
    "expected_answers",
]

_SHOWN = 5  # rows in a message


@dataclass(frozen=True, eq=False)
class ExpectedAnswers:
    """What should be predicted of each row; None for what is not known.

    Attributes
    ----------
    labels : ndarray of shape (n_rows,), or None
    probabilities : float ndarray of shape (n_rows, n_classes), or None
    """

    labels: np.ndarray | None
    probabilities: np.ndarray | None


@dataclass(frozen=True)
class ValidationReport:
    """How far the answers of a model are from those that it should give.

    Attributes
    ----------
    n_rows : int
    is_identical : bool
        Whether no label and no bit of a probability differs. On another processor, or with other versions of the
        libraries, bits differ in an undamaged model too.
    changed_rows : tuple of int
        The rows with a probability that differs by more than `tolerance`; where probabilities are not compared, those
        with another label. Empty for a model that is as it should be.
    changed_labels : tuple of int
        The rows with another label; one that stood between two classes may be here and not in `changed_rows`.
    largest_difference : float or None
        Of any probability; None where they are not compared.
    tolerance : float

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import LrRepurposer
    >>> X, y = make_blobs(30, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> report = LrRepurposer(network, c=1.0).repurpose((X, y)).remember_answers(X[:10]).validate()
    >>> report.n_rows, report.is_identical, report.largest_difference
    (10, True, 0.0)
    """

    n_rows: int
    is_identical: bool
    changed_rows: tuple[int, ...]
    changed_labels: tuple[int, ...]
    largest_difference: float | None
    tolerance: float


class ChangedAnswersError(ValueError):
    """A model that does not answer what it should; `report` says how far it is from that.

    >>> from repurpose.serving import ChangedAnswersError
    >>> issubclass(ChangedAnswersError, ValueError)
    True
    """

    def __init__(self, report: ValidationReport) -> None:
        super().__init__(_message(report))
        self.report = report


def expected_answers(expected: object, n_rows: int, n_classes: int) -> ExpectedAnswers:
    """Return what the user expects: labels (n_rows,), or probabilities (n_rows, n_classes).

    Raises ValueError for anything else.
    """
    array = np.asarray(expected)
    if array.shape == (n_rows,):
        return ExpectedAnswers(array, None)
    if array.shape == (n_rows, n_classes) and array.dtype.kind == "f":
        return ExpectedAnswers(None, array)
    raise ValueError(
        f"expected must be labels of shape ({n_rows},) or probabilities of shape ({n_rows}, {n_classes}), got an "
        f"array of shape {array.shape} and dtype {array.dtype}"
    )


def check_tolerance(tolerance: object) -> None:
    """Raise ValueError unless `tolerance` is a number of at least 0."""
    if not isinstance(tolerance, Real) or isinstance(tolerance, bool) or not float(tolerance) >= 0:
        raise ValueError(f"tolerance is by how much a probability may differ, a number from 0, got {tolerance!r}")


def compare(
    labels: np.ndarray, probabilities: np.ndarray | None, expected: ExpectedAnswers, tolerance: float
) -> ValidationReport:
    """Compare labels (n_rows,) and probabilities (n_rows, n_classes), where there are some, with those expected."""
    other_label, changed, largest = np.zeros(len(labels), dtype=bool), None, None
    if expected.labels is not None:
        other_label = labels.astype(object) != expected.labels.astype(object)
    is_identical = not other_label.any()
    if probabilities is not None and expected.probabilities is not None:
        differences = np.abs(probabilities - expected.probabilities).max(axis=1)
        changed, largest = ~(differences <= tolerance), float(differences.max())  # NaN is no small difference
        is_identical = is_identical and np.array_equal(probabilities, expected.probabilities)
    return ValidationReport(
        n_rows=len(labels),
        is_identical=bool(is_identical),
        changed_rows=tuple(np.flatnonzero(other_label if changed is None else changed).tolist()),
        changed_labels=tuple(np.flatnonzero(other_label).tolist()),
        largest_difference=largest,
        tolerance=float(tolerance),
    )


def _message(report: ValidationReport) -> str:
    rows, largest = report.changed_rows, ""
    shown = ", ".join(map(str, rows[:_SHOWN])) + (", ..." if len(rows) > _SHOWN else "")
    if report.largest_difference is not None:
        largest = f", and probabilities by up to {report.largest_difference:.3g} (tolerance {report.tolerance:g})"
    return (
        f"{len(rows)} of {report.n_rows} answers are not as expected (rows {shown}): "
        f"{len(report.changed_labels)} labels differ{largest}. Compare the source network and its weights, the "
        "preprocessing (transform) and the versions of the libraries with those of training"
    )

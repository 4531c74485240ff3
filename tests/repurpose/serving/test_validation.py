"""What counts as another answer."""

import re

import numpy as np
import pytest

from repurpose.serving.validation import (
    ChangedAnswersError,
    ExpectedAnswers,
    ValidationReport,
    check_tolerance,
    compare,
    expected_answers,
)

LABELS = np.array(["a", "b", "a"])
ROWS = np.array([[0.9, 0.1], [0.4, 0.6], [0.5005, 0.4995]])


def test_equal_answers_are_identical() -> None:
    report = compare(LABELS, ROWS, ExpectedAnswers(LABELS, ROWS), 0.0)
    assert report == ValidationReport(3, True, (), (), 0.0, 0.0)


def test_a_difference_within_the_tolerance_is_told_and_is_no_change() -> None:
    """A label that flips meanwhile stood between two classes."""
    other = ROWS + np.array([[0.0, 0.0], [0.0, 0.0], [-0.0007, 0.0007]])
    report = compare(np.array(["a", "b", "b"]), other, ExpectedAnswers(LABELS, ROWS), 1e-3)
    assert (report.is_identical, report.changed_rows, report.changed_labels) == (False, (), (2,))
    assert report.largest_difference == pytest.approx(0.0007, abs=1e-12)


@pytest.mark.parametrize("value", [0.602, float("nan"), float("inf")])
def test_a_probability_beyond_the_tolerance_is_a_change(value: float) -> None:
    other = ROWS.copy()
    other[1, 1] = value
    assert compare(LABELS, other, ExpectedAnswers(LABELS, ROWS), 1e-3).changed_rows == (1,)
    assert compare(LABELS, other, ExpectedAnswers(None, ROWS), 1e-3).changed_labels == ()


def test_without_probabilities_labels_decide() -> None:
    for probabilities, expected in ((None, None), (ROWS, None), (None, ROWS)):
        report = compare(LABELS, probabilities, ExpectedAnswers(np.array(["a", "a", "a"]), expected), 1e-3)
        assert (report.changed_rows, report.changed_labels, report.largest_difference) == ((1,), (1,), None)
        assert not report.is_identical


def test_labels_are_compared_as_values_of_any_dtype() -> None:
    for labels, same in ((np.array([1, 0]), [1.0, 0.0]), (np.array(["a", "bb"]), np.array(["a", "bb"], dtype="<U9"))):
        assert compare(labels, None, expected_answers(same, 2, 2), 0.0).is_identical
    assert compare(np.array([1, 0]), None, expected_answers(["1", "0"], 2, 2), 0.0).changed_rows == (0, 1)


def test_the_error_says_which_rows_and_by_how_much() -> None:
    report = compare(LABELS[::-1], np.flip(ROWS, 1), ExpectedAnswers(LABELS[[1, 1, 1]], ROWS), 1e-3)
    said = "2 of 3 answers are not as expected (rows 0, 1): 2 labels differ, and probabilities by up to 0.8 (tolerance"
    with pytest.raises(ChangedAnswersError, match=re.escape(said)) as caught:
        raise ChangedAnswersError(report)
    assert caught.value.report is report


@pytest.mark.parametrize("expected", [["a"], np.ones((3, 3)), np.ones((3, 2), dtype=int), "a", None])
def test_what_cannot_be_expected_is_refused(expected: object) -> None:
    with pytest.raises(ValueError, match=r"labels of shape \(3,\) or probabilities of shape \(3, 2\), got an array of"):
        expected_answers(expected, 3, 2)


@pytest.mark.parametrize("tolerance", [-1e-9, float("nan"), "0", True, None])
def test_a_tolerance_is_a_number_from_0(tolerance: object) -> None:
    with pytest.raises(ValueError, match="tolerance is by how much a probability may differ, a number from 0"):
        check_tolerance(tolerance)

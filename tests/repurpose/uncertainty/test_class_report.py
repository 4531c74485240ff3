import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from repurpose.uncertainty import ClassReport
from repurpose.uncertainty.intervals import share_interval


def test_it_counts_as_scikit_learn_does() -> None:
    rng = np.random.default_rng(0)
    codes, predicted = rng.integers(0, 4, 60), rng.integers(0, 4, 60)
    report = ClassReport.of(codes, predicted, list("abcd"))
    assert np.array_equal(report.confusion, confusion_matrix(codes, predicted))
    assert np.allclose(report.recall, recall_score(codes, predicted, average=None))
    assert np.allclose(report.precision, precision_score(codes, predicted, average=None))
    assert report.counts.tolist() == np.bincount(codes).tolist()
    n_right = int(report.confusion[2, 2])
    assert tuple(report.recall_intervals[2]) == share_interval(n_right, int(report.counts[2]))
    assert tuple(report.precision_intervals[2]) == share_interval(n_right, int((predicted == 2).sum()))


def test_what_no_row_tells_is_nan_and_shown_as_a_dash() -> None:
    report = ClassReport.of(np.array([0, 0]), np.array([0, 1]), ["cat", "dog", "owl"])
    assert report.recall.tolist() == pytest.approx([0.5, np.nan, np.nan], nan_ok=True)
    assert report.precision.tolist() == pytest.approx([1, 0, np.nan], nan_ok=True)
    lines = repr(report).splitlines()
    assert lines[2].split() == ["cat", "2", "0.500", "0.013", "to", "0.987", "1.000", "0.025", "to", "1.000"]
    assert lines[4].split() == ["owl", "0", "-", "-"]
    assert lines[-3:] == ["cat    1    1    0", "dog    0    0    0", "owl    0    0    0"]


def test_of_many_classes_the_worst_are_shown_and_the_most_frequent_confusions() -> None:
    codes = np.repeat(np.arange(100), 3)
    predicted = codes.copy()
    predicted[[21, 22, 150]] = [40, 40, 8]  # two of class 7 are taken for 40, one of class 50 for 8
    report = ClassReport.of(codes, predicted, [f"c{code}" for code in range(100)])
    text = repr(report)
    assert "the 20 classes of lowest recall, of 100" in text
    assert [line.split()[0] for line in text.splitlines()[2:4]] == ["c7", "c50"]
    assert [line.split() for line in text.splitlines()[-2:]] == [["c7", "c40", "2"], ["c50", "c8", "1"]]
    right = repr(ClassReport.of(codes, codes, [f"c{code}" for code in range(100)]))
    assert "confusions" not in right


def test_names_are_escaped_in_a_notebook() -> None:
    assert "<b>" not in ClassReport.of(np.array([0]), np.array([0]), ["<b>"])._repr_html_()


def test_names_that_no_line_can_hold_are_written_as_escapes() -> None:
    report = ClassReport.of(np.array([0, 1]), np.array([0, 1]), ["a\nb", "\x1b[31m"])
    assert report.names == ("a\nb", "\x1b[31m")
    assert repr(report).splitlines()[-3:] == [
        "          a\\nb  \\x1b[31m",
        "a\\nb         1         0",
        "\\x1b[31m     0         1",
    ]
    assert "\x1b" not in report._repr_html_()

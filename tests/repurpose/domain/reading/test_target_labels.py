from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from model_handler import Features
from repurpose.domain.reading.target_labels import judge_labels, labels_apart

SOURCE = np.array([0, 1, 2])
NAMES = np.array(["cat", "dog"])
X = np.zeros((3, 2), np.float32)


@pytest.mark.parametrize(
    ("labels", "source"),
    [
        ([1, None, 2], SOURCE),
        ([1.0, np.nan, 2.0], SOURCE),
        (np.array([1, np.nan, 2]), SOURCE),
        (torch.tensor([1, float("nan"), 2]), SOURCE),
        (pd.Series([1, None, 2], dtype="Int64"), SOURCE),
        (["dog", None, "cat"], NAMES),
        (["dog", float("nan"), "cat"], NAMES),
        (np.array(["dog", None, "cat"], dtype=object), NAMES),
    ],
)
def test_none_and_nan_are_labels_that_are_missing(labels: Any, source: np.ndarray) -> None:
    data, beside = labels_apart((X, labels), None)
    assert data[1].tolist() == [0, 1, 2]  # the true labels are found by these, in whatever order rows are read
    judged = judge_labels(beside, source, 3)
    assert judged.rows.tolist() == [0, 2]
    assert judged.values.tolist() == ([1, 2] if source is SOURCE else ["dog", "cat"])
    assert judged.values.dtype.kind == source.dtype.kind
    assert not judged.are_complete


def test_minus_one_is_missing_among_whole_numbers_alone_and_told() -> None:
    with pytest.warns(UserWarning, match="2 rows of the target have the label -1.*without a label"):
        assert judge_labels([1, -1, -1], SOURCE, 3).rows.tolist() == [0]
    assert judge_labels([1, -1, 1], np.array([-1, 1]), 3).are_complete  # the source has a class of that name
    assert judge_labels(["1", "-1"], NAMES, 2).are_complete


@pytest.mark.filterwarnings("ignore:.*have the label -1")
@pytest.mark.parametrize("source", [SOURCE.astype(float), np.array([False, True])])
@pytest.mark.parametrize("labels", [[1, -1, 0], [1.0, -1.0, 0.0]])
def test_minus_one_is_missing_too_where_the_source_has_floats_or_bools(source: np.ndarray, labels: list) -> None:
    judged = judge_labels(labels, source, 3)
    assert judged.rows.tolist() == [0, 2]
    assert judged.values.tolist() == [1, 0]


def test_what_numpy_wrote_of_nan_among_text_is_missing_unless_the_source_has_a_class_of_that_name() -> None:
    given = np.array(["dog", np.nan, "cat"])
    assert given.tolist() == ["dog", "nan", "cat"]
    with pytest.warns(UserWarning, match="1 rows of the target have the label 'nan'.*in a list, since numpy"):
        judged = judge_labels(given, NAMES, 3)
    assert judged.values.tolist() == ["dog", "cat"]
    assert judge_labels(["dog", "nan", "cat"], NAMES, 3).are_complete  # text that somebody wrote
    assert judge_labels(given, np.array(["nan", "dog", "cat"]), 3).are_complete


@pytest.mark.parametrize(("labels", "source"), [([1, None, 2], SOURCE), (["dog", None, "cat"], NAMES)])
def test_features_hold_labels_that_are_missing(labels: list, source: np.ndarray) -> None:
    judged = judge_labels(Features({"0": X}, labels).labels, source, 3)
    assert judged.rows.tolist() == [0, 2]
    assert judged.values.tolist() == [labels[0], labels[2]]


@pytest.mark.parametrize("data", [X, (X, None), {"x": X}, {"x": X, "labels": None}, Features({"0": X})])
def test_data_without_labels_have_none(data: Any) -> None:
    readable, labels = labels_apart(data, None)
    assert labels is None
    assert not (isinstance(readable, dict) and "labels" in readable)
    assert len(judge_labels(None, SOURCE, 3).rows) == 0


def test_inputs_of_several_parts_stay_inputs() -> None:
    assert labels_apart(((X, X), None), None)[0] == ((X, X),)
    readable, labels = labels_apart({"x": X, "labels": [1, None, 2]}, None)
    assert labels is not None
    assert readable["labels"].tolist() == [0, 1, 2]


def test_what_are_no_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="continuous"):
        judge_labels([0.5, None, 1.0], SOURCE, 3)
    with pytest.raises(ValueError, match="all numbers or all text, got a mixture"):
        judge_labels(["dog", -1, "cat"], NAMES, 3)
    with pytest.raises(ValueError, match="one label a row"):
        judge_labels(np.zeros((3, 2)), SOURCE, 3)
    with pytest.raises(TypeError, match="a set has no order"):
        labels_apart((X, {1, 2}), None)
    with pytest.raises(ValueError, match="came twice"):
        labels_apart((X, [1, 2, 3]), [1, 2, 3])

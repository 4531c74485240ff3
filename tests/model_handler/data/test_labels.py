"""What is one label a row, and what each other thing that users give for labels is told."""

from collections import deque
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from model_handler import Features
from model_handler.data import as_batches
from model_handler.data.labels import near_keys, refuse_no_labels

X = np.zeros((4, 2), np.float32)
FOUR = [0, 1, 0, 1]
OF_ONE_A_ROW = {
    "list": FOUR,
    "tuple": tuple(FOUR),
    "deque": deque(FOUR),
    "range": range(4),
    "array": np.array(FOUR),
    "objects": np.array(FOUR, dtype=object),
    "tensor": torch.tensor(FOUR),
    "tensors": [torch.tensor(label) for label in FOUR],
    "numpy scalars": [np.int64(label) for label in FOUR],
    "text": list("abab"),
    "categorical": pd.Categorical(list("abab")),
    "series": pd.Series(FOUR, index=[9, 8, 7, 6]),
    "series of categories": pd.Series(list("abab"), dtype="category"),
    "index": pd.Index(FOUR),
    "extension": pd.array([True, False, True, False], dtype="boolean"),
}


@pytest.mark.parametrize("labels", OF_ONE_A_ROW.values(), ids=OF_ONE_A_ROW)
def test_every_sequence_of_one_label_a_row_is_taken(labels: Any) -> None:
    (batch,) = as_batches((X, labels))
    assert len(batch.labels) == 4
    assert batch.labels.ndim == 1


@pytest.mark.parametrize(
    ("labels", "advice"),
    [
        ({0, 1}, "got a set; a set has no order"),
        (frozenset(FOUR), "got a frozenset; a set has no order"),
        (dict(enumerate(FOUR)), r"got a dict; give its values in the order of the rows, list\(labels\.values\(\)\)"),
        ((label for label in FOUR), r"got a generator; give list\(labels\)"),
        (map(int, "0101"), r"got a map; give list\(labels\)"),
        (dict(enumerate(FOUR)).values(), r"got a dict_values; give list\(labels\)"),
        ("abab", "got a str; give a list"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_order_of_rows_is_refused_with_what_to_give(labels: Any, advice: str) -> None:
    with pytest.raises(TypeError, match=f"one label a row, {advice}"):
        as_batches((X, labels))


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([[0], [0, 1], [1], [0]], r"row 1 has a list of 2, \[0, 1\]; multi-label"),
        ([["a"], [], ["b"], ["a"]], r"row 1 has a list of 0, \[\]; multi-label"),
        ([(0,), (1,), (0, 1), (1,)], r"row 2 has a tuple of 2"),
        ([{0}, {1}, {0}, {1}], r"row 0 has a set of 1, \{0\}"),
        ([0, [1], 0, 1], "row 1 has a list of 1"),
        ([np.array([0]), np.array([0, 1]), 0, 1], "row 1 has a ndarray of 2"),
        (np.array([[0], [0, 1], [1], [0]], dtype=object), "row 1 has a list of 2"),
        ([{"id": 1, "label": 0}] * 4, r"row 0 has a dict; give a list such as \[row\['label'\] for row in labels\]"),
    ],
)
def test_several_labels_a_row_are_refused_with_the_row(labels: Any, found: str) -> None:
    for use in (lambda: as_batches((X, labels)), lambda: Features({"a": X}, labels), lambda: refuse_no_labels(labels)):
        with pytest.raises(ValueError, match=f"labels must be one a row, a number or text, and {found}"):
            use()


def test_rows_of_equally_many_labels_are_left_to_the_caller() -> None:
    assert next(iter(as_batches((X, [[0, 1]] * 4)))).labels.shape == (4, 2)


@pytest.mark.parametrize(
    "labels",
    [
        pd.Categorical(["a", None, "b", None]),
        np.array(["a", None, "b", float("nan")], dtype=object),
        pd.Series(["a", pd.NA, "b", pd.NA], dtype=object),
    ],
)
def test_labels_missing_among_text_are_counted(labels: Any) -> None:
    with pytest.raises(ValueError, match="2 of 4 labels are missing"):
        as_batches((X, labels))


def test_near_words_of_the_key_are_known() -> None:
    assert near_keys(["input_ids", "Label", "y", "labels", "attention_mask"]) == ["Label", "y"]

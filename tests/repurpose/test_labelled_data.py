from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from model_handler import Features
from repurpose.labelled_data import given_labels, with_labels


def test_without_y_the_data_stay_as_they_are() -> None:
    data = object()
    assert with_labels(data, None) is data


def test_y_replaces_the_labels_of_features() -> None:
    features = with_labels(Features({"0": np.zeros((2, 1))}, ["a", "b"]), ["c", "d"])
    assert features.labels.tolist() == ["c", "d"]
    assert given_labels(features).tolist() == ["c", "d"]


@pytest.mark.parametrize("data", [DataLoader([1]), TensorDataset(torch.zeros(2)), "folder"])
def test_y_beside_data_with_an_order_of_its_own_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match=f"y cannot stand beside a {type(data).__name__}"):
        with_labels(data, [0, 1])


def test_labels_given_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="the labels came twice"):
        with_labels((np.zeros((2, 1)), [0, 1]), [0, 1])


def test_labels_of_another_length_are_refused_with_both_lengths() -> None:
    for data in (np.zeros((3, 1)), torch.zeros(3, 1), Features({"0": np.zeros((3, 1))}), [[1.0], [2.0], [3.0]]):
        with pytest.raises(ValueError, match="3 rows and y has 2 labels"):
            with_labels(data, [0, 1])


def test_inputs_of_several_parts_are_taken_out_of_their_wrapping() -> None:
    parts = (np.zeros((2, 1)), np.ones((2, 1)))
    assert with_labels((parts,), [0, 1]) == (parts, [0, 1])
    assert given_labels((parts, [0, 1])) == [0, 1]
    assert given_labels((parts,)) is None

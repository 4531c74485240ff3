import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import DataConversionWarning

from repurpose.data.labels import encode_labels, label_array, label_codes


@pytest.mark.parametrize(
    "labels",
    [[3, 1, 3], np.array([3, 1, 3], np.uint8), torch.tensor([3, 1, 3]), (3.0, 1.0, 3.0), pd.Series([3, 1, 3])],
)
def test_numbers_of_every_container_are_sorted_and_coded(labels: object) -> None:
    encoded = encode_labels(labels)
    assert encoded.classes.tolist() == [1, 3]
    assert encoded.codes.tolist() == [1, 0, 1]
    assert encoded.codes.dtype == np.int64


def test_text_bools_and_objects_keep_their_dtype() -> None:
    assert encode_labels(["b", "a"]).classes.dtype.kind == "U"
    assert encode_labels(np.array(["b", "a"], dtype=object)).classes.dtype == object
    assert encode_labels(torch.tensor([True, False])).classes.dtype == bool


def test_missing_labels_are_counted() -> None:
    with pytest.raises(ValueError, match="2 of 4 labels are missing"):
        label_array([0.0, np.nan, np.nan, 1.0])
    with pytest.raises(ValueError, match="1 of 2 labels are missing"):
        label_array(["a", None])
    with pytest.raises(ValueError, match="1 of 2 labels are missing"):
        label_array(["a", float("nan")])
    with pytest.raises(ValueError, match="1 of 2 labels are missing"):
        label_array(pd.Series([pd.NA, "a"], dtype="string"))


def test_continuous_targets_are_refused_with_the_values_and_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"Unknown label type: continuous.*got 0\.5.*Features\.matrix to scikit-learn"):
        label_array([0.0, 0.5, 1.0])
    with pytest.raises(ValueError, match="got inf"):
        label_array([0.0, np.inf])
    with pytest.raises(ValueError, match="Complex data not supported"):
        label_array([1j, 2j])


def test_several_labels_a_row_are_refused_with_the_shape() -> None:
    with pytest.raises(ValueError, match=r"got an array of shape \(2, 3\).*multi-label.*Features\.matrix"):
        label_array(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"shape \(\)"):
        label_array(1)


def test_a_column_of_labels_is_taken_with_a_warning() -> None:
    with pytest.warns(DataConversionWarning, match="column-vector y"):
        assert label_array([[1], [2]]).tolist() == [1, 2]


def test_one_class_or_none_is_refused() -> None:
    with pytest.raises(ValueError, match="hold 1 class: 'a'; a classifier needs rows of at least two classes"):
        encode_labels(["a", "a"])
    with pytest.raises(ValueError, match="hold 0 classes"):
        encode_labels([])


def test_a_mixture_of_text_and_numbers_is_refused_naming_the_types() -> None:
    for labels in (np.array([1, "a"], dtype=object), [1, "a"]):
        with pytest.raises(TypeError, match="mixture of int, str"):
            encode_labels(labels)


def test_codes_of_unknown_labels_are_minus_one_and_counted() -> None:
    codes, strangers = label_codes(np.array([2, 7, 1, 7]), np.array([1, 2]))
    assert codes.tolist() == [1, -1, 0, -1]
    assert strangers == {7: 2}


def test_labels_of_another_dtype_are_compared_by_value() -> None:
    codes, strangers = label_codes(np.array([1.0, 2.0]), np.array([1, 2]))
    assert codes.tolist() == [0, 1]
    assert not strangers

"""Labels of new rows come to their sorted places among the classes that are known."""

import numpy as np
import pytest

from repurpose.labelling.updating.merged_classes import merge_classes, merged_names


@pytest.mark.parametrize(
    ("known", "labels", "classes"),
    [
        (np.array([1, 5]), [5, 3], np.array([1, 3, 5])),
        (np.array(["cat", "dog"]), ["cow"], np.array(["cat", "cow", "dog"])),
        (np.array(["cat", "dog"], dtype=object), ["elephant"], np.array(["cat", "dog", "elephant"], dtype=object)),
        (np.array([1, 5]), np.array([3.0, 1.0]), np.array([1, 3, 5])),
        (np.array([1, 5], dtype=np.int8), [5], np.array([1, 5], dtype=np.int8)),
    ],
)
def test_a_new_label_has_its_sorted_place(known: np.ndarray, labels: object, classes: np.ndarray) -> None:
    merged = merge_classes(known, labels)
    assert merged.classes.tolist() == classes.tolist()
    assert merged.classes.dtype.kind == classes.dtype.kind
    assert merged.classes[merged.new_code].tolist() == known.tolist()
    assert merged.classes[merged.codes].tolist() == list(labels)


def test_text_beside_numbers_is_refused() -> None:
    with pytest.raises(TypeError, match="labels must be all numbers or all text"):
        merge_classes(np.array([0, 1]), ["a"])


def test_names_that_there_were_stay_and_no_two_are_alike() -> None:
    merged = merge_classes(np.array([0, 2]), [1])
    assert merged_names(np.array(["zero", "1"]), merged, None).tolist() == ["zero", "1 (1)", "1"]
    again = merge_classes(np.array([0, 2]), [0])
    assert merged_names(np.array(["zero", "two"]), again, None).tolist() == ["zero", "two"]

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch

from repurpose.detection.data.targets import objects_of

BOXES = [[1, 2, 3, 4], [2, 2, 5, 6]]


@pytest.mark.parametrize(
    "target",
    [
        {"boxes": BOXES, "labels": ["a", "b"]},
        {"boxes": torch.tensor(BOXES), "labels": ("a", "b"), "image_id": 5, "area": [1, 2]},
        OrderedDict(boxes=np.array(BOXES, np.int16), labels=np.array(["a", "b"])),
        {"boxes": torch.tensor(BOXES, dtype=torch.bfloat16), "labels": ["a", "b"]},
        {"boxes": [torch.tensor(box) for box in BOXES], "labels": np.array(["a", "b"], dtype=object)},
    ],
)
def test_boxes_and_labels_may_be_lists_arrays_or_tensors(target: Any) -> None:
    boxes, labels, ignored = objects_of(target, "row 0", {})
    assert (boxes.tolist(), labels.tolist(), ignored.tolist()) == (BOXES, ["a", "b"], [False, False])


@pytest.mark.parametrize("labels", [[3, 5], torch.tensor([3, 5]), np.array([3.0, 5.0]), [np.int64(3), torch.tensor(5)]])
def test_whole_numbers_can_be_labels(labels: Any) -> None:
    found = objects_of({"boxes": BOXES, "labels": labels}, "row 0", {})[1].tolist()
    assert found == [3, 5]
    assert {type(label) for label in found} == {int}


@pytest.mark.parametrize("empty", [[], torch.zeros(0), torch.zeros(0, 4), np.zeros((0, 4)), ()])
def test_an_image_without_objects_has_boxes_of_shape_0_4(empty: Any) -> None:
    boxes, labels, ignored = objects_of({"boxes": empty, "labels": []}, "row 0", {})
    assert (boxes.shape, labels.shape, ignored.shape) == ((0, 4), (0,), (0,))
    assert objects_of([], "row 0", {})[0].shape == (0, 4)


@pytest.mark.parametrize("key", ["ignored", "iscrowd", "difficult"])
@pytest.mark.parametrize("flags", [[0, 1], torch.tensor([False, True]), np.array([0.0, 1.0])])
def test_objects_are_ignored_by_any_of_three_names(key: str, flags: Any) -> None:
    assert objects_of({"boxes": BOXES, "labels": [1, 2], key: flags}, "row 0", {})[2].tolist() == [False, True]


@pytest.mark.parametrize(
    ("target", "error", "said"),
    [
        ("cat", TypeError, "a detector learns from boxes, and a label alone has none"),
        (3, TypeError, "the target must be a dict with 'boxes'"),
        (None, TypeError, "got NoneType"),
        (torch.zeros(2, 4), TypeError, "got Tensor"),
        (
            {"bboxes": BOXES, "labels": [1, 2]},
            ValueError,
            r"no 'boxes' but \['bboxes', 'labels'\]; nearest: \['bboxes'\]",
        ),
        ({"boxes": BOXES, "label": [1, 2]}, ValueError, r"no 'labels' .*nearest: \['label'\]"),
        ({"boxes": BOXES, "labels": [1]}, ValueError, "has 2 boxes and 1 labels"),
        ({"boxes": BOXES, "labels": "ab"}, TypeError, "labels must be a list or array"),
        ({"boxes": BOXES, "labels": torch.tensor(1)}, (TypeError, ValueError), "row 4"),
        ({"boxes": BOXES, "labels": [None, 1]}, ValueError, "that of box 0 is None"),
        ({"boxes": BOXES, "labels": ["a", float("nan")]}, ValueError, "that of box 1 is nan"),
        ({"boxes": BOXES, "labels": [0.5, 1]}, ValueError, "that of box 0 is 0.5"),
        ({"boxes": BOXES, "labels": ["", "a"]}, ValueError, "that of box 0 is ''"),
        ({"boxes": BOXES, "labels": [[1], [2]]}, ValueError, r"that of box 0 is \[1\]"),
        ({"boxes": BOXES, "labels": [float("inf"), 1]}, ValueError, "that of box 0 is inf"),
        ({"boxes": BOXES[0], "labels": [1]}, ValueError, r"got \(4,\); one box is a list of one"),
        ({"boxes": [[1, 2, 3]], "labels": [1]}, ValueError, r"must have shape \(n, 4\), got \(1, 3\)"),
        ({"boxes": [[1, 2, 3, 4], [1, 2]], "labels": [1, 2]}, ValueError, "boxes must be numbers"),
        ({"boxes": [["a", 2, 3, 4]], "labels": [1]}, ValueError, "boxes must be numbers"),
        ({"boxes": [[0, 0, 10**400, 5]], "labels": [1]}, ValueError, "boxes must be numbers"),
        ({"boxes": np.array(BOXES) * 1j, "labels": [1, 2]}, TypeError, "boxes must be numbers"),
        ({"boxes": BOXES, "labels": {"a", "b"}}, TypeError, "labels must be a list or array"),  # in no order
        ({"boxes": None, "labels": []}, ValueError, r"must have shape"),
        ({"boxes": BOXES, "labels": [1, 2], "ignored": [True]}, ValueError, "'ignored' must be True or False"),
        ({"boxes": BOXES, "labels": [1, 2], "iscrowd": [0, 2]}, ValueError, "'iscrowd' must be True or False"),
        ([{"bbox": [1, 2, 3, 4]}], ValueError, "one lacks 'category_id'"),
        ({"annotation": {"object": [{"name": "cat"}]}}, ValueError, "no annotation of VOC: KeyError: 'bndbox'"),
        ({"annotation": "cat"}, ValueError, "no annotation of VOC"),
    ],
)
def test_what_is_no_target_is_told_by_its_row(target: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said) as raised:
        objects_of(target, "row 4", {})
    assert str(raised.value).startswith("row 4")

import numpy as np
import pytest

from repurpose.detection import detection_rows
from repurpose.detection.data import overview_of

PIXELS = np.zeros((10, 20, 3), np.uint8)


def test_classes_sizes_and_rows_are_those_of_objects_that_count() -> None:
    rows = detection_rows(
        [
            (PIXELS, {"boxes": [], "labels": []}),
            (PIXELS[:8], {"boxes": [[0, 0, 4, 5], [1, 1, 3, 2]], "labels": [7, 3], "ignored": [False, False]}),
            (PIXELS, {"boxes": [[0, 0, 9, 9], [5, 5, 8, 9]], "labels": [1, 7], "iscrowd": [True, False]}),
        ]
    )
    overview = overview_of(rows)
    assert (overview.classes.tolist(), overview.counts.tolist()) == ([3, 7], [1, 2])
    assert overview.box_sizes.tolist() == [[4, 5], [2, 1], [3, 4]]
    assert overview.box_rows.tolist() == [1, 1, 2]
    assert overview.image_sizes.tolist() == [[10, 20], [8, 20], [10, 20]]


def test_data_without_any_box_are_told() -> None:
    empty = {"boxes": [], "labels": []}
    with pytest.raises(ValueError, match="none of the 2 images of the list has an object to learn from; give"):
        overview_of(detection_rows([(PIXELS, empty)] * 2))
    ignored = {"boxes": [[0, 0, 9, 9]], "labels": [1], "difficult": [1]}
    with pytest.raises(ValueError, match=r"\(all 2 are marked as difficult or as crowds\)"):
        overview_of(detection_rows([(PIXELS, ignored)] * 2))


def test_text_and_numbers_are_not_mixed() -> None:
    rows = detection_rows([(PIXELS, {"boxes": [[0, 0, 9, 9]] * 2, "labels": ["cat", 1]})])
    with pytest.raises(TypeError, match=r"all text or all whole numbers, got both, such as \[1, 'cat'\]"):
        overview_of(rows)

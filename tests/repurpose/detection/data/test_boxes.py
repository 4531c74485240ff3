import numpy as np
import pytest

from repurpose.detection import detection_rows
from repurpose.detection.data.boxes import judged_truth


def judged(*boxes: list[float], size: tuple[int, int] = (10, 20), skip: bool = False) -> list:
    n = len(boxes)
    labels, ignored = np.array([f"label {number}" for number in range(n)], dtype=object), np.zeros(n, dtype=bool)
    return judged_truth(
        np.array(boxes, float).reshape(-1, 4), labels, ignored, size=size, name="row 3", skip=skip
    ).boxes.tolist()


def test_boxes_to_the_edges_are_taken_as_they_are() -> None:
    assert judged([0, 0, 20, 10], [19.5, 9.5, 20, 10]) == [[0, 0, 20, 10], [19.5, 9.5, 20, 10]]


def test_up_to_a_pixel_beyond_an_edge_is_clipped_and_more_is_refused() -> None:
    assert judged([-1, -1, 21, 11]) == [[0, 0, 20, 10]]
    for box in ([-1.1, 0, 5, 5], [0, -1.1, 5, 5], [0, 0, 21.1, 5], [0, 0, 5, 11.1]):
        with pytest.raises(ValueError, match="lies outside"):
            judged(box)


def test_a_box_beside_the_image_is_outside_even_by_less_than_a_pixel() -> None:
    with pytest.raises(ValueError, match=r"box 0, .* lies outside"):
        judged([20, 2, 20.9, 5])


def test_boxes_that_all_lie_in_one_pixel_are_taken_for_shares_of_the_image() -> None:
    with pytest.raises(ValueError, match="shares of the image, from 0 to 1: multiply them"):
        judged([0.2, 0.3, 0.9, 1.0])
    assert judged([0, 0, 1, 1], [0, 0, 9, 9]) == [[0, 0, 1, 1], [0, 0, 9, 9]]
    assert judged([0, 0, 1, 1], size=(1, 1)) == [[0, 0, 1, 1]]


def test_all_wrong_boxes_of_a_row_are_told_at_once_and_no_more_than_five_in_full() -> None:
    with pytest.raises(
        ValueError, match=r"row 3, an image of 20 x 10 pixels: box 1, .* reversed.*; box 2, .* is empty"
    ):
        judged([0, 0, 5, 5], [5, 5, 2, 9], [3, 3, 3, 5])
    with pytest.raises(ValueError, match=r"box 4, .* and 3 more"):
        judged(*[[5, 5, 2, 9]] * 8)


def test_skipped_boxes_take_their_labels_with_them() -> None:
    with pytest.warns(UserWarning, match="box 0, .*; left out"):
        assert judged([np.nan, 0, 1, 1], [2, 2, 4, 4], skip=True) == [[2, 2, 4, 4]]


def test_row_and_box_are_named_in_any_kind_of_data() -> None:
    rows = detection_rows(
        [(np.zeros((10, 20, 3), np.uint8), {"boxes": [[0, 0, 5, 5], [9, 9, 30, 30]], "labels": [1, 2]})]
    )
    with pytest.raises(
        ValueError, match=r"^row 0, an image of 20 x 10 pixels: box 1, \[9.0, 9.0, 30.0, 30.0\], lies outside"
    ):
        rows.row(0)


def test_a_box_that_is_empty_or_endless_in_the_precision_it_is_kept_in_is_refused() -> None:
    with pytest.raises(ValueError, match="is empty"):
        judged([5, 5, 5.0000001, 9])
    with pytest.raises(ValueError, match="is not finite"):
        judged([0, 0, 1e300, 9])

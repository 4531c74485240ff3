"""The size of images by the median short side, and the sizes of boxes at that size."""

import numpy as np
import pytest

from repurpose.detection.data import DetectionTruth
from repurpose.detection.learning import chosen_image_size, image_size_mistakes, sizes_of_boxes


def truth(height: int, width: int, *boxes: tuple[float, ...], ignored: int = 0) -> DetectionTruth:
    marks = np.arange(len(boxes)) < ignored
    return DetectionTruth(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(["x"] * len(boxes), object), marks, (height, width)
    )


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [([(300, 500), (400, 200), (350, 360)], 300), ([(50, 60)] * 3, 128), ([(2000, 3000)] * 3, 640)],
)
def test_the_median_short_side_is_taken_within_limits(sizes, wanted):
    assert chosen_image_size("auto", [truth(*size) for size in sizes]) == wanted


def test_a_size_that_is_given_is_taken():
    assert chosen_image_size(96, [truth(300, 500)]) == 96


@pytest.mark.parametrize("wrong", ["big", 31, 64.5, True, None])
def test_other_sizes_are_mistakes(wrong):
    assert "image_size must be" in image_size_mistakes(wrong)[0]
    assert not image_size_mistakes("auto") + image_size_mistakes(64)


def test_boxes_are_measured_as_the_network_sees_them_without_those_ignored():
    truths = [truth(200, 320, (0, 0, 9, 9), (10, 20, 50, 100), ignored=1), truth(50, 50, (0, 0, 10, 5)), truth(9, 9)]
    assert sizes_of_boxes(truths, 100, None).tolist() == [[20, 40], [10, 5]]
    assert sizes_of_boxes(truths, 100, (100, 80)).tolist() == [[10, 20], [10, 5]]

"""Anchors have the sizes of the boxes to be learned; FCOS has places, and says which boxes may lie between them."""

import warnings

import numpy as np
import pytest

from repurpose.detection.networks.anchors import anchors_for, places, warn_of_thin_boxes

STRIDES = [8, 16, 32, 64, 128]


def test_anchors_go_in_even_steps_from_the_small_boxes_to_the_large_ones():
    sides = np.linspace(16, 256, 101)  # 5 % and 95 % quantile: 28 and 244
    anchors = anchors_for(np.stack([sides * 2, sides / 2], axis=1), STRIDES, scales=1)
    assert anchors.sizes == tuple((round(28 * (244 / 28) ** (level / 4), 1),) for level in range(5))
    assert anchors.num_anchors_per_location() == [3] * 5


def test_three_scales_fill_the_step_to_the_next_level():
    anchors = anchors_for(np.array([[10.0, 10], [80, 80]]).repeat(100, axis=0), STRIDES[:4], scales=3)
    sizes = np.array(anchors.sizes).ravel()
    np.testing.assert_allclose(sizes[1:] / sizes[:-1], 2 ** (1 / 3), rtol=0.01)
    assert sizes[[0, 9]].tolist() == [10, 80]


@pytest.mark.parametrize("boxes", [None, np.empty((0, 2))])
def test_without_boxes_anchors_are_four_strides(boxes):
    assert anchors_for(boxes, STRIDES, scales=1).sizes == ((32,), (64,), (128,), (256,), (512,))


def test_anchors_of_tiny_boxes_have_at_least_four_pixels():
    assert anchors_for(np.full((5, 2), 0.5), [8], scales=1).sizes == ((4,),)


def test_places_are_as_large_as_the_strides_and_one_for_each_element():
    assert places(STRIDES).sizes == ((8,), (16,), (32,), (64,), (128,))
    assert places(STRIDES).num_anchors_per_location() == [1] * 5


def test_boxes_narrower_than_the_spacing_at_their_level_are_told():
    wide_enough = [[9, 9], [120, 9], [140, 17], [1000, 65]]  # half the long side: below 64, 64 to 128, to 256, to 512
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_thin_boxes(np.array(wide_enough), STRIDES)
        warn_of_thin_boxes(np.empty((0, 2)), STRIDES)
        warn_of_thin_boxes(np.array([[20, 20]] * 100 + [[20, 3]]), STRIDES)  # one in a hundred
    too_thin = [[9, 7], [140, 15], [1000, 60]]
    with pytest.warns(UserWarning, match="3 of 7 boxes are narrower than the 8 pixels"):
        warn_of_thin_boxes(np.array(wide_enough + too_thin), STRIDES)

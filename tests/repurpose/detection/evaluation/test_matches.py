import numpy as np
import pytest

from repurpose.detection import Detections
from repurpose.detection.evaluation.matches import IOU_THRESHOLDS, match_detections, overlaps
from tests.repurpose.detection.scenes import nothing, truth

CAT = ["cat"]


def test_overlap_is_intersection_over_union_and_for_a_crowd_over_what_was_found() -> None:
    found, true = np.array([[0.0, 0, 4, 4]]), np.array([[0.0, 0, 4, 8], [2, 2, 6, 6], [4, 0, 8, 4]])
    assert overlaps(found, true, np.zeros(3, bool)).tolist() == [[0.5, 4 / 28, 0.0]]
    assert overlaps(found, true, np.ones(3, bool)).tolist() == [[1.0, 0.25, 0.0]]


def test_boxes_without_area_overlap_nothing() -> None:
    empty = np.array([[3.0, 3, 3, 3], [5, 5, 2, 2]])
    assert overlaps(empty, np.array([[0.0, 0, 9, 9]]), np.array([False])).tolist() == [[0.0], [0.0]]


def test_the_surest_box_takes_the_true_one_and_a_second_is_wrong() -> None:
    found = Detections([[0, 0, 10, 9], [0, 0, 10, 10]], ["cat"] * 2, [0.9, 0.8])
    matches = match_detections([found], [truth([[0, 0, 10, 10]], CAT)], CAT)
    assert matches.hits[:, 0].tolist() == [True, False]
    assert matches.hits[:, -1].tolist() == [False, True]  # at .95 the first reaches too little, and leaves it free
    assert matches.voc_hits.tolist() == [True, False]


def test_coco_gives_a_second_box_the_true_one_that_is_left_and_voc_does_not() -> None:
    true = truth([[0, 0, 10, 10], [0, 0, 10, 14]], CAT * 2)
    found = Detections([[0, 0, 10, 10], [0, 0, 10, 10]], CAT * 2, [0.9, 0.8])
    matches = match_detections([found], [true], CAT)
    assert matches.hits[:, 0].tolist() == [True, True]
    assert matches.voc_hits.tolist() == [True, False]


def test_what_lies_in_an_ignored_box_counts_as_neither_however_many_there_are() -> None:
    true = truth([[0, 0, 20, 20], [30, 30, 40, 40]], CAT * 2, [True, False])
    found = Detections([[0, 0, 5, 5], [6, 6, 12, 12], [0, 0, 20, 20], [30, 30, 40, 40]], CAT * 4, [0.9, 0.8, 0.7, 0.6])
    matches = match_detections([found], [true], CAT)
    assert matches.neutral[:, 0].tolist() == [True, True, True, False]
    # VOC takes the plain overlap, in which a part of a difficult object is a mistake.
    assert matches.voc_neutral.tolist() == [False, False, True, False]
    assert matches.hits[:, 0].tolist() == matches.voc_hits.tolist() == [False, False, False, True]
    assert matches.true_images.tolist() == [0]


def test_a_box_goes_to_the_object_that_counts_before_an_ignored_one() -> None:
    true = truth([[0, 0, 10, 10], [0, 0, 10, 8]], CAT * 2, [True, False])
    matches = match_detections([Detections([[0, 0, 10, 10]], CAT, [0.9])], [true], CAT)
    assert (matches.hits[0].sum(), matches.neutral[0].sum()) == (7, 3)  # .8 is the overlap with what counts
    assert matches.voc_neutral.tolist() == [True]


def test_an_overlap_of_exactly_the_threshold_suffices() -> None:
    found = [Detections([[0, 0, 4, 4]], CAT, [0.9])]
    matches = match_detections(found, [truth([[0, 0, 4, 8]], CAT)], CAT)
    assert matches.hits[0].tolist() == (IOU_THRESHOLDS == 0.5).tolist()
    assert matches.voc_hits.tolist() == [True]


def test_boxes_of_another_class_match_nothing() -> None:
    found = [Detections([[0, 0, 4, 4]], ["dog"], [0.9])]
    matches = match_detections(found, [truth([[0, 0, 4, 4]], CAT)], ["cat", "dog"])
    assert not matches.hits.any()
    assert matches.codes.tolist() == [1]


def test_images_without_anything_are_images_all_the_same() -> None:
    matches = match_detections([nothing(), nothing()], [truth([], []), truth([[0, 0, 4, 4]], CAT)], CAT)
    assert (matches.n_images, len(matches.scores), matches.true_images.tolist()) == (2, 0, [1])


def test_true_classes_of_no_training_come_behind_those_of_training() -> None:
    true = truth([[0, 0, 4, 4], [4, 4, 8, 8], [8, 8, 9, 9]], ["owl", "cat", "ant"], [False, False, True])
    matches = match_detections([nothing()], [true], ["dog", "cat"])
    assert (matches.classes, matches.n_known) == (("dog", "cat", "owl"), 2)
    assert matches.true_codes.tolist() == [2, 1]


def test_a_found_label_of_no_training_is_refused() -> None:
    found = [nothing(), Detections([[0, 0, 4, 4]], ["Cat"], [0.9])]
    with pytest.raises(ValueError, match=r"image 1: 'Cat' was found, .*nearest: \['cat'"):
        match_detections(found, [truth([], [])] * 2, ["dog", "cat"])


def test_as_many_results_as_images_are_needed() -> None:
    with pytest.raises(ValueError, match="2 images need as many results of a detector, got 1"):
        match_detections([nothing()], [truth([], [])] * 2, CAT)


def test_numbers_can_be_labels() -> None:
    found = [Detections([[0, 0, 4, 4]], np.array([7]), [0.9])]
    assert match_detections(found, [truth([[0, 0, 4, 4]], [7])], np.array([3, 7])).hits.all()

"""Average precision is compared with torchmetrics over faster-coco-eval, and with VOC's rules counted by hand."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from repurpose.detection import Detections, DetectionTruth, evaluate_detections
from repurpose.detection.evaluation import match_detections
from repurpose.detection.evaluation.average_precision import RankedClass, all_points, at_11_recalls, at_101_recalls
from tests.repurpose.detection.scenes import CLASSES, nothing, perfect, random_boxes, random_scene, truth

Scene = tuple[list[Detections], list[DetectionTruth]]


def of_torchmetrics(found: Sequence[Detections], truths: Sequence[DetectionTruth]) -> dict[str, np.ndarray]:
    """AP and AP50, mean and by class, by COCO's own code in another translation; -1 for a class without true boxes."""
    detection = pytest.importorskip("torchmetrics.detection")
    pytest.importorskip("faster_coco_eval")
    metric = detection.MeanAveragePrecision(
        backend="faster_coco_eval",
        class_metrics=True,
        # torchmetrics' own are rounded to float32, and miss overlaps and recalls that COCO's do not.
        iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),
        rec_thresholds=np.linspace(0, 1, 101).tolist(),
    )
    metric.warn_on_many_detections = False
    codes = {label: code for code, label in enumerate(CLASSES)}
    metric.update(
        [
            {
                "boxes": torch.from_numpy(each.boxes),
                "scores": torch.from_numpy(each.scores),
                "labels": torch.tensor([codes[label] for label in each.labels.tolist()], dtype=torch.int64),
            }
            for each in found
        ],
        [
            {
                "boxes": torch.from_numpy(each.boxes),
                "labels": torch.tensor([codes[label] for label in each.labels.tolist()], dtype=torch.int64),
                "iscrowd": torch.from_numpy(each.ignored.astype(np.int64)),
            }
            for each in truths
        ],
    )
    result = metric.compute()
    return {name: np.atleast_1d(result[name].numpy()) for name in ("map", "map_50", "map_per_class", "classes")}


@pytest.mark.parametrize("seed", range(8))
def test_coco_precision_is_that_of_torchmetrics(seed: int) -> None:
    found, truths = random_scene(np.random.RandomState(seed), 25)
    expected, evaluation = of_torchmetrics(found, truths), evaluate_detections(found, truths, CLASSES, n_bootstrap=1)
    assert np.allclose([evaluation.ap, evaluation.ap50], [expected["map"][0], expected["map_50"][0]], atol=1e-6)
    assert np.allclose(evaluation.per_class.ap[expected["classes"]], expected["map_per_class"], atol=1e-6)


def test_more_than_100_boxes_of_a_class_are_not_looked_at_as_in_coco() -> None:
    rng = np.random.RandomState(0)
    boxes = random_boxes(rng, 130)
    right = truth(boxes[-20:], ["cat"] * 20)
    found = Detections(boxes, ["cat"] * 130, np.linspace(0.99, 0.01, 130))
    expected = of_torchmetrics([found], [right])
    evaluation = evaluate_detections([found], [right], CLASSES, n_bootstrap=1)
    assert np.isclose(evaluation.ap50, expected["map_50"][0], atol=1e-6)
    assert evaluation.voc_ap50 > evaluation.ap50  # VOC looks at all


def voc_by_hand(found: Sequence[Detections], truths: Sequence[DetectionTruth], label: str, *, points: int) -> float:
    """VOC's rules with fractions and loops, after the text of Everingham et al. (2010), one found box after another."""
    ranked = sorted(
        (
            (score, image, box)
            for image, each in enumerate(found)
            for box, name, score in rows_of(each)
            if name == label
        ),
        key=lambda row: -row[0],
    )
    n_true = sum(int(((each.labels == label) & ~each.ignored).sum()) for each in truths)
    taken: set[tuple[int, int]] = set()
    right: list[bool] = []
    for _, image, box in ranked:
        best, best_place = 0.0, -1
        for place, true_box in enumerate(truths[image].boxes.tolist()):
            if truths[image].labels[place] == label and overlap_by_hand(box, true_box) > best:
                best, best_place = overlap_by_hand(box, true_box), place
        if best < 0.5:
            right.append(False)
        elif not truths[image].ignored[best_place]:
            right.append((image, best_place) not in taken)
            taken.add((image, best_place))
    curve = [(sum(right[: n + 1]), sum(right[: n + 1]) / (n + 1)) for n in range(len(right))]
    if points == 11:
        best_at = [max([precision for n, precision in curve if 10 * n >= t * n_true], default=0.0) for t in range(11)]
        return sum(best_at) / 11
    return sum(max([precision for n, precision in curve if n >= k], default=0.0) for k in range(1, n_true + 1)) / n_true


def rows_of(found: Detections) -> list[tuple[list[float], str, float]]:
    return list(zip(found.boxes.tolist(), found.labels.tolist(), found.scores.tolist()))


def overlap_by_hand(one: list[float], other: list[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


@pytest.mark.parametrize("seed", range(8))
def test_voc_precision_is_that_counted_by_hand(seed: int) -> None:
    found, truths = random_scene(np.random.RandomState(100 + seed), 15)
    per_class = evaluate_detections(found, truths, CLASSES, n_bootstrap=1).per_class
    for code, label in enumerate(CLASSES):
        if per_class.n_true[code]:
            assert per_class.voc_ap50[code] == pytest.approx(voc_by_hand(found, truths, label, points=0))
            assert per_class.voc07_ap50[code] == pytest.approx(voc_by_hand(found, truths, label, points=11))


@pytest.mark.parametrize("n_true", [1, 2, 3, 7, 10, 49, 100])
def test_a_perfect_detector_has_exactly_1_by_every_rule(n_true: int) -> None:
    rng = np.random.RandomState(n_true)
    truths = [truth(3.7 * random_boxes(rng, 1), [rng.choice(CLASSES)]) for _ in range(n_true)]
    evaluation = evaluate_detections([perfect(each) for each in truths], truths, CLASSES, n_bootstrap=1)
    assert {evaluation.ap, evaluation.ap50, evaluation.voc_ap50, evaluation.voc07_ap50} == {1.0}
    assert all(each.precision.min() == each.recall.max() == 1.0 for each in evaluation.curves.values())


def test_three_of_ten_are_a_recall_of_three_tenths() -> None:
    right, counted = np.array([1, 2, 3]), np.array([1, 2, 3])
    assert at_11_recalls(right, counted, 10) == pytest.approx(4 / 11)  # at 0, .1, .2 and .3
    assert all_points(right, counted, 10) == pytest.approx(3 / 10)
    assert at_101_recalls(right, counted, 10) == pytest.approx(31 / 101)


def test_precision_is_the_best_at_this_recall_or_a_higher_one() -> None:
    right, counted = np.array([1, 2]), np.array([2, 3])  # wrong, right, right: 1/2, then 2/3
    assert all_points(right, counted, 2) == pytest.approx(2 / 3)
    assert at_11_recalls(right, counted, 2) == pytest.approx(2 / 3)
    assert at_101_recalls(right, counted, 2) == pytest.approx(2 / 3)


@pytest.mark.parametrize("seed", range(4))
def test_weights_count_as_images_that_come_again(seed: int) -> None:
    rng = np.random.RandomState(seed)
    found, truths = random_scene(rng, 8, ties=False)  # boxes of one image and one score would come in another order
    weights = rng.randint(0, 3, size=8)
    again = [number for number, n in enumerate(weights.tolist()) for _ in range(n)]
    repeated = match_detections([found[number] for number in again], [truths[number] for number in again], CLASSES)
    matches = match_detections(found, truths, CLASSES)
    for code in range(len(CLASSES)):
        expected = RankedClass(repeated, code).measures(np.ones(len(again), dtype=np.int64))
        assert RankedClass(matches, code).measures(weights) == pytest.approx(expected, nan_ok=True)


def test_a_curve_has_a_point_for_each_right_box() -> None:
    matches = match_detections(
        [Detections([[0, 0, 4, 4], [9, 9, 12, 12], [20, 20, 30, 30]], ["cat"] * 3, [0.9, 0.8, 0.7])],
        [truth([[0, 0, 4, 4], [20, 20, 30, 30], [40, 40, 50, 50]], ["cat"] * 3)],
        ["cat"],
    )
    recall, precision, scores = RankedClass(matches, 0).curve()
    assert np.allclose(recall, [1 / 3, 2 / 3])
    assert np.allclose(precision, [1, 2 / 3])
    assert scores.tolist() == [0.9, 0.7]


def test_a_class_without_true_boxes_has_no_precision_and_lowers_no_mean() -> None:
    found = [Detections([[0, 0, 4, 4], [5, 5, 9, 9]], ["cat", "dog"], [0.9, 0.8])]
    evaluation = evaluate_detections(found, [truth([[0, 0, 4, 4]], ["cat"])], CLASSES, n_bootstrap=1)
    assert evaluation.ap == 1.0
    assert np.isnan(evaluation.per_class.ap[1:]).all()
    assert Counter(evaluation.per_class.n_found.tolist()) == {1: 2, 0: 1}


def test_nothing_found_is_a_precision_of_0() -> None:
    evaluation = evaluate_detections([nothing()], [truth([[0, 0, 4, 4]], ["cat"])], CLASSES, n_bootstrap=1)
    assert (evaluation.ap, evaluation.voc_ap50, evaluation.voc07_ap50, evaluation.calibration_error) == (0, 0, 0, None)

import re
from typing import Any

import numpy as np
import pytest

from repurpose.detection import Detections, DetectionTruth, evaluate_detections
from repurpose.detection.evaluation import PlattScores, match_detections, matches
from tests.repurpose.detection.scenes import CLASSES, nothing, perfect, random_scene, truth


def test_the_table_shows_each_measure_and_each_class() -> None:
    found, truths = random_scene(np.random.RandomState(0), 20)
    evaluation = evaluate_detections(found, truths, CLASSES, n_bootstrap=20)
    text = repr(evaluation)
    assert text.startswith(f"Detection on 20 images: {evaluation.n_true} true boxes, {evaluation.n_found} found")
    low, high = evaluation.intervals["ap50"]
    row = f"AP50 (COCO)  {evaluation.ap50:.4f}  {low:.4f} to {high:.4f}  bootstrap of images"
    assert row in re.sub(r" {2,}", "  ", text)
    assert [line.split()[0] for line in text.splitlines()[-3:]] == list(CLASSES)
    assert evaluation._repr_html_().count("<tr>") == 1 + 5 + 1 + 3


def test_intervals_hold_the_value_and_are_the_same_by_the_same_seed() -> None:
    found, truths = random_scene(np.random.RandomState(1), 30)
    one, same, other = (
        evaluate_detections(found, truths, CLASSES, n_bootstrap=100, random_state=seed) for seed in (3, 3, 4)
    )
    assert one.intervals == same.intervals != other.intervals
    for name, (low, high) in one.intervals.items():
        assert 0 <= low < getattr(one, name) < high <= 1
    assert set(one.interval_methods.values()) == {"bootstrap of images"}


def test_an_interval_holds_what_as_many_other_images_give_on_average() -> None:
    found, truths = random_scene(np.random.RandomState(5), 20 * 30)
    parts = [slice(30 * part, 30 * (part + 1)) for part in range(20)]
    evaluations = [evaluate_detections(found[part], truths[part], CLASSES, n_bootstrap=25) for part in parts]
    mean = np.mean([each.ap50 for each in evaluations])
    widths = [np.ptp(each.intervals["ap50"]) for each in evaluations]
    # 25 draws make narrow intervals; with 150, those of 87 to 98 of 100 such sets hold the mean of a measure.
    assert sum(each.intervals["ap50"][0] <= mean <= each.intervals["ap50"][1] for each in evaluations) >= 15
    assert np.mean(widths) == pytest.approx(4 * np.std([each.ap50 for each in evaluations]), rel=0.35)


def test_images_that_all_agree_leave_room_for_those_unseen() -> None:
    truths = [truth([[0, 0, 9, 9]], ["cat"]) for _ in range(20)]
    evaluation = evaluate_detections([perfect(each) for each in truths], truths, CLASSES, n_bootstrap=50)
    low, high = evaluation.intervals["ap"]
    assert high == 1.0
    assert low == pytest.approx(0.025 ** (1 / 20))
    assert evaluation.per_class.ap_intervals[0] == pytest.approx([low, 1.0])


def test_a_single_image_tells_nothing_of_others() -> None:
    evaluation = evaluate_detections([nothing()], [truth([[0, 0, 9, 9]], ["cat"])], CLASSES, n_bootstrap=5)
    assert evaluation.intervals["ap"] == (0.0, 1.0)


def test_a_class_on_a_single_image_has_no_narrow_interval() -> None:
    truths = [truth([[0, 0, 9, 9]], ["cat"])] * 9 + [truth([[0, 0, 9, 9]], ["dog"])]
    evaluation = evaluate_detections([perfect(each) for each in truths], truths, CLASSES, n_bootstrap=20)
    assert evaluation.per_class.ap_intervals[1].tolist() == [0.0, 1.0]


def test_classes_never_seen_in_training_are_told_and_count_as_missed() -> None:
    truths = [truth([[0, 0, 9, 9], [20, 20, 30, 30]], ["cat", "Dog"])]
    with pytest.warns(UserWarning, match=r"not trained on: 'Dog' \(1 box\).*\['dog'\]"):
        evaluation = evaluate_detections([Detections([[0, 0, 9, 9]], ["cat"], [0.9])], truths, CLASSES, n_bootstrap=1)
    assert evaluation.ap == 0.5
    assert "Dog (not in training)" in repr(evaluation)


def test_without_a_true_box_that_counts_nothing_can_be_measured() -> None:
    truths = [truth([], []), truth([[0, 0, 9, 9]], ["cat"], [True])]
    with pytest.raises(ValueError, match="none of the 2 images has an object that counts"):
        evaluate_detections([nothing()] * 2, truths, CLASSES)


@pytest.mark.parametrize("n_bootstrap", [0, -1, 2.5])
def test_draws_are_counted(n_bootstrap: float) -> None:
    with pytest.raises(ValueError, match="n_bootstrap"):
        evaluate_detections([nothing()], [truth([[0, 0, 9, 9]], ["cat"])], CLASSES, n_bootstrap=n_bootstrap)  # type: ignore[arg-type]


def test_a_calibration_changes_the_error_of_scores_and_no_precision() -> None:
    found, truths = random_scene(np.random.RandomState(2), 20)
    plain = evaluate_detections(found, truths, CLASSES, n_bootstrap=1)
    flat = evaluate_detections(found, truths, CLASSES, n_bootstrap=1, calibration=PlattScores(np.array([0.0, 0.0])))
    assert (flat.ap, flat.voc_ap50) == (plain.ap, plain.voc_ap50)
    # With one half for every box, the error is how far their share of right ones is from it.
    hits, n_counted = np.sum([len(each.scores) for each in plain.curves.values()]), counted_boxes(found, truths)
    assert flat.calibration_error == pytest.approx(abs(0.5 - hits / n_counted))


def counted_boxes(found: list[Detections], truths: list[DetectionTruth]) -> int:
    return len(match_detections(found, truths, CLASSES).scores_and_hits()[0])


def test_draws_need_no_new_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    found, truths = random_scene(np.random.RandomState(6), 20)
    matched, of_image = [], matches._of_image

    def counted(*given: Any) -> Any:
        matched.append(given)
        return of_image(*given)

    monkeypatch.setattr(matches, "_of_image", counted)
    evaluate_detections(found, truths, CLASSES, n_bootstrap=10)
    assert len(matched) == 20

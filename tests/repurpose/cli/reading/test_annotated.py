"""Which images `repurpose detect train` holds out; what it refuses is in `test_detect`."""

from pathlib import Path

import pytest

from repurpose.cli.reading.annotated import hold_out
from repurpose.detection import CocoData, DetectionRows
from tests.repurpose.detection.data.folders import coco_file, coco_object


def data_of(folder: Path, categories: list[int], **more: int) -> CocoData:
    objects = [coco_object(1 + number, category, id=number, **more) for number, category in enumerate(categories)]
    return CocoData(coco_file(folder, objects, n_images=len(categories)), folder / "photos")


def labels_of(rows: DetectionRows) -> list[str]:
    return [label for truth in rows.truths() for label in truth.labels.tolist()]


@pytest.mark.parametrize("seed", range(5))
def test_a_class_of_one_image_is_never_held_out(tmp_path: Path, seed: int) -> None:
    data = data_of(tmp_path, [8] + [3] * 9)
    learned, held_out = hold_out(data, 0.4, seed)
    assert labels_of(held_out) == ["cat"] * 4
    assert sorted(labels_of(learned)) == ["cat"] * 5 + ["dog"]
    names = [truth.name for rows in (learned, held_out) for truth in rows.truths()]
    assert sorted(names) == sorted(truth.name for truth in data.truths())
    again = hold_out(data, 0.4, seed)[1]
    assert [truth.name for truth in again.truths()] == [truth.name for truth in held_out.truths()]


def test_a_part_without_objects_that_count_is_refused(tmp_path: Path) -> None:
    for more in ({"iscrowd": 1}, {}):
        data = data_of(tmp_path, [3], **more)
        with pytest.raises(ValueError, match=r"--holdout 0.9 of 1 images leaves none with objects to measure with"):
            hold_out(data, 0.9, 0)

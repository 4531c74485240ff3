"""Rows of one shape: images made smaller with their boxes, what is ignored left out, batches taken apart again."""

import numpy as np
import pytest
import torch

from repurpose.detection.data import detection_rows
from repurpose.detection.learning import DetectionBatches, PaddedRows
from repurpose.detection.networks.targets import listed

CLASSES = np.array(["cat", "dog"])


def rows_of(*pairs):
    rows = detection_rows(list(pairs))
    return rows, list(rows.truths())


def pair(height, width, boxes=(), labels=(), **more):
    return torch.full((3, height, width), 0.5), {
        "boxes": np.array(boxes).reshape(-1, 4),
        "labels": list(labels),
        **more,
    }


def padded(*pairs, image_size=32, fixed_size=None, augmentation=None):
    rows, truths = rows_of(*pairs)
    return PaddedRows(rows, truths, CLASSES, image_size, fixed_size, augmentation)


def test_a_large_image_shrinks_with_its_boxes_and_a_small_one_stays():
    data = padded(pair(64, 96, [(8, 4, 48, 64)], ["dog"]), pair(20, 30, [(1, 2, 3, 4)], ["cat"]))
    assert data.canvas == (32, 48)
    large, small = data[0][0], data[1][0]
    assert large["images"].shape == small["images"].shape == (3, 32, 48)
    assert large["sizes"].tolist() == [32, 48]
    assert small["sizes"].tolist() == [20, 30]
    assert large["objects"].tolist() == [[4, 2, 24, 32, 1]]
    assert small["objects"].tolist() == [[1, 2, 3, 4, 0]]
    assert small["images"][:, :20, :30].unique().tolist() == [128]
    assert not small["images"][:, 20:].any()
    assert not small["images"][:, :, 30:].any()


def test_ignored_objects_and_places_without_one_are_no_targets():
    data = padded(
        pair(32, 32, [(1, 2, 9, 9), (3, 3, 8, 8)], ["cat", "dog"], ignored=[True, False]),
        pair(32, 32, [(1, 2, 9, 9), (3, 3, 8, 8)], ["dog", "cat"]),
        pair(32, 32),
    )
    batches = DetectionBatches(data, CLASSES, rows=np.arange(3), n_rows=3, max_batch_size=3, seed=None, batch_size=3)
    (batch,) = batches.epoch(0)
    targets = listed(batch.inputs["targets"])
    assert [target["labels"].tolist() for target in targets] == [[1], [1, 0], []]
    assert [target["boxes"].shape for target in targets] == [(1, 4), (2, 4), (0, 4)]
    assert batch.inputs["images"].dtype == torch.uint8
    assert batch.inputs["sizes"].tolist() == [[32, 32]] * 3
    first, second = batch.pieces(2)
    assert [len(each.inputs["targets"]) for each in (first, second)] == [1, 2]
    assert second.inputs["images"].shape == (2, 3, 32, 32)


def test_every_row_comes_once_in_an_epoch_and_in_another_order_in_the_next():
    data = padded(*(pair(32, 32, [(0, 0, 4 + number, 9)], ["cat"]) for number in range(7)))
    batches = DetectionBatches(data, CLASSES, rows=np.arange(7), n_rows=7, max_batch_size=3, seed=1, batch_size=3)
    orders = [
        [x2 - 4 for batch in batches.epoch(number) for x2 in batch.inputs["targets"][:, 0, 2].tolist()]
        for number in (0, 1, 0)
    ]
    assert sorted(orders[0]) == list(range(7))
    assert orders[0] == orders[2] != orders[1]


def test_an_augmentation_may_change_sizes_and_not_add_boxes_without_end():
    def doubled(image, target):
        return image, {name: torch.cat([value] * 2) for name, value in target.items()}

    def fivefold(image, target):
        return image, {name: torch.cat([value] * 5) for name, value in target.items()}

    row = pair(64, 100, [(8, 4, 48, 64)], ["dog"])
    found = padded(row, augmentation=doubled)[0][0]
    assert (found["objects"][:, 4] >= 0).sum() == 2
    assert found["images"].shape == (3, 53, 53)
    with pytest.raises(ValueError, match="made 5 boxes, and there is room for 4"):
        padded(row, augmentation=fivefold)[0]


def test_a_label_that_training_has_not_is_refused_by_its_row():
    with pytest.raises(ValueError, match=r"row 1 of the list has labels that training has not: 'bird'; nearest"):
        padded(pair(32, 32), pair(32, 32, [(1, 2, 9, 9)], ["bird"]))[1]

from typing import Any

import numpy as np
import pytest
import torch
from torchvision import transforms as v1
from torchvision.transforms import v2

from repurpose.detection import DetectionRow, detection_rows
from repurpose.detection.data import augmentation_mistakes, augmented, chosen_augmentation

BOXES = [[0, 0, 4, 5], [10, 2, 20, 10]]
TARGET = {"boxes": BOXES, "labels": ["cat", "dog"], "ignored": [False, True]}


def row(image: Any = None, target: dict[str, Any] = TARGET) -> DetectionRow:
    return detection_rows([(np.zeros((10, 20, 3), np.uint8) if image is None else image, target)]).row(0)


@pytest.mark.parametrize("image", [None, torch.zeros(3, 10, 20), torch.zeros(3, 10, 20, dtype=torch.uint8)])
def test_boxes_are_carried_along(image: Any) -> None:
    before = row(image)
    flipped = augmented(before, v2.RandomHorizontalFlip(p=1))
    assert flipped.boxes.tolist() == [[16, 0, 20, 5], [0, 2, 10, 10]]
    assert flipped.labels.tolist() == ["cat", "dog"]
    assert flipped.ignored.tolist() == [False, True]
    assert type(flipped.image) is type(before.image)
    assert before.boxes.tolist() == BOXES


def test_boxes_are_clipped_and_dropped_with_their_labels_where_nothing_is_left() -> None:
    cropped = augmented(row(), right_half)
    assert (cropped.size, cropped.boxes.tolist()) == ((10, 8), [[0, 2, 8, 10]])
    assert (cropped.labels.tolist(), cropped.ignored.tolist()) == (["dog"], [True])


def test_boxes_in_another_format_are_turned_back() -> None:
    turned = augmented(row(), v2.Compose([v2.RandomHorizontalFlip(p=1), v2.ConvertBoundingBoxFormat("CXCYWH")]))
    assert turned.boxes.tolist() == [[16, 0, 20, 5], [0, 2, 10, 10]]


def right_half(image: Any, target: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    boxes = v2.functional.crop(target["boxes"], 0, 12, 10, 8)
    return v2.functional.crop(image, 0, 12, 10, 8), target | {"boxes": boxes}


@pytest.mark.parametrize(
    "transform",
    [
        v2.RandomIoUCrop(),
        v2.Compose([v2.RandomIoUCrop(), v2.SanitizeBoundingBoxes()]),
        v2.RandomZoomOut(p=1),
        v2.RandomResize(8, 30),
        v2.Compose([v2.ToImage(), v2.RandomPhotometricDistort(p=1), v2.ToDtype(torch.float32, scale=True)]),
        v2.RandomRotation(20),
        v2.ScaleJitter((16, 16)),
        chosen_augmentation("auto"),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_whatever_torchvision_draws_boxes_stay_in_the_image(transform: Any) -> None:
    torch.manual_seed(0)
    for _ in range(10):
        changed = augmented(row(), transform)
        height, width = changed.size
        assert changed.boxes.dtype == np.float32
        assert (changed.boxes >= 0).all()
        assert (changed.boxes <= [width, height, width, height]).all()
        assert (changed.boxes[:, 2:] - changed.boxes[:, :2] >= 1).all()
        assert len(changed.boxes) == len(changed.labels) == len(changed.ignored)


def test_the_automatic_one_moves_the_pixels_with_their_box_and_keeps_the_size() -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[4:9, 10:20] = 255
    before = row(pixels, {"boxes": [[10, 4, 20, 9]], "labels": ["white"]})
    auto = chosen_augmentation("auto")
    assert auto is not None
    torch.manual_seed(0)
    seen = set()
    for _ in range(12):
        after = augmented(before, auto)
        x1, y1, x2, y2 = (int(edge) for edge in after.boxes[0])
        white = np.asarray(after.image)[..., 0] > 127
        expected = np.zeros_like(white)
        expected[y1:y2, x1:x2] = True
        assert after.size == (16, 32)
        assert (white == expected).all()
        seen.add((x1, y1))
    assert len(seen) > 4


def test_the_same_seed_of_torch_draws_the_same() -> None:
    auto = chosen_augmentation("auto")
    assert auto is not None
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(augmented(row(), auto).boxes.tolist())
    assert drawn[0] == drawn[1]


def test_an_image_without_objects_is_augmented_too() -> None:
    assert augmented(row(target={"boxes": [], "labels": []}), v2.RandomIoUCrop()).boxes.shape == (0, 4)


def test_what_moves_no_boxes_is_refused_beforehand() -> None:
    (said,) = augmentation_mistakes(v1.RandomHorizontalFlip())
    assert said.endswith("RandomHorizontalFlip moves no boxes; give torchvision.transforms.v2.RandomHorizontalFlip")
    assert augmentation_mistakes(v2.RandomHorizontalFlip) == [
        "augmentation must be a transform, got its class; write RandomHorizontalFlip(...)"
    ]
    assert 'got "flip"' in augmentation_mistakes("flip")[0].replace("'", '"')
    assert [augmentation_mistakes(good) for good in (None, "auto", v2.RandomHorizontalFlip(), right_half)] == [[]] * 4
    assert (chosen_augmentation(None), chosen_augmentation(right_half)) == (None, right_half)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (lambda image, target: image, "and returned Image$"),
        (lambda image, target: (image, target["boxes"]), "and returned tuple of Image, BoundingBoxes"),
        (lambda image, target: (image, target | {"labels": target["labels"][:1]}), "returned 2 boxes and 1 labels"),
        (lambda image, target: (image, {"boxes": target["boxes"]}), "with its boxes and labels"),
    ],
)
def test_a_result_that_is_none_is_told(result: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        augmented(row(), result)


def test_a_normalised_image_is_refused() -> None:
    transform = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.2] * 3)])
    with pytest.raises(ValueError, match=r"row 0, augmented, has an image of floats from -2.5"):
        augmented(row(), transform)

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from repurpose.detection import Detections, draw
from repurpose.detection.drawing import colour_of, text_of


def found(box: list[float], label: str | int = "cat", score: float = 0.9) -> Detections:
    return Detections([box], [label], [score])


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (64, 48)),
        Image.new("L", (64, 48)),
        np.zeros((48, 64, 3), np.uint8),
        torch.zeros(3, 48, 64),
        torch.zeros(3, 48, 64, dtype=torch.uint8),
    ],
)
def test_a_box_is_drawn_on_an_image_of_any_kind_in_the_colour_of_its_class(image: Any) -> None:
    drawn = draw(image, found([10, 20, 50, 40]))
    assert (drawn.size, drawn.mode) == ((64, 48), "RGB")
    for edge in ((10, 30), (50, 30), (30, 40)):
        assert drawn.getpixel(edge) == colour_of("cat")
    assert drawn.getpixel((30, 35)) == (0, 0, 0)  # inside


def test_the_image_itself_stays_as_it_was(tmp_path: Path) -> None:
    image = Image.new("RGB", (64, 48))
    draw(image, found([10, 20, 50, 40]))
    assert image.getextrema() == ((0, 0),) * 3
    image.save(tmp_path / "a.png")
    assert draw(tmp_path / "a.png", found([10, 20, 50, 40])).getpixel((10, 30)) == colour_of("cat")


def test_floats_keep_their_brightness() -> None:
    drawn = draw(torch.full((3, 8, 8), 0.5), Detections([], [], []))
    assert drawn.getextrema() == ((128, 128),) * 3


def test_less_sure_boxes_are_left_out_and_the_surest_lies_on_top() -> None:
    both = Detections([[10, 20, 50, 40]] * 2, ["cat", "dog"], [0.3, 0.9])
    assert colour_of("cat") != colour_of("dog")
    assert draw(Image.new("RGB", (64, 48)), both).getpixel((10, 30)) == colour_of("dog")
    assert draw(Image.new("RGB", (64, 48)), both, min_score=0.95).getextrema() == ((0, 0),) * 3


@pytest.mark.parametrize(
    "box", [[-50, -50, 500, 500], [63, 47, 64, 48], [100, 100, 200, 200], [5, 5, 5, 5], [9, 9, 3, 3], [0, 0, 64, 0.5]]
)
@pytest.mark.parametrize("size", [(64, 48), (1, 1), (3, 200)])
def test_boxes_in_any_place_can_be_drawn(box: list[float], size: tuple[int, int]) -> None:
    assert draw(Image.new("RGB", size), found(box)).size == size


@pytest.mark.parametrize("label", ["", "two\nlines", "кошка 猫 🐈", "x" * 300, "\udcff", 7])
def test_any_label_is_drawn_in_one_line(label: str | int) -> None:
    assert "\n" not in text_of(label, 0.5)
    draw(Image.new("RGB", (64, 48)), found([10, 20, 50, 40], label))


def test_a_class_has_its_colour_on_every_image() -> None:
    assert colour_of("cat") == colour_of("cat")
    assert len({colour_of(label) for label in range(30)}) > 5


def test_the_list_of_several_images_is_refused_with_what_to_give() -> None:
    with pytest.raises(TypeError, match=r"must be the Detections of one image, got list; .*found\[0\]"):
        draw(Image.new("RGB", (64, 48)), [found([10, 20, 50, 40])])  # type: ignore[arg-type]

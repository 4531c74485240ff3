from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.tv_tensors import Image as TvImage

from repurpose.detection.data import as_picture
from repurpose.detection.data.rows import size_of


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (20, 10)),
        Image.new("L", (20, 10)),
        Image.new("RGBA", (20, 10)),
        Image.new("P", (20, 10)),
        np.zeros((10, 20, 3), np.uint8),
        np.zeros((10, 20), np.uint8),
        np.zeros((10, 20, 4), np.uint16),
    ],
)
def test_pixels_of_any_kind_become_a_pil_image_in_rgb(image: object) -> None:
    picture = as_picture(image, "row 0")
    assert (picture.mode, size_of(picture)) == ("RGB", (10, 20))


@pytest.mark.parametrize(
    ("image", "dtype"),
    [
        (torch.zeros(3, 10, 20), torch.float32),
        (torch.zeros(1, 10, 20, dtype=torch.float64), torch.float32),
        (np.ones((3, 10, 20), np.float16), torch.float32),
        (torch.zeros(3, 10, 20, dtype=torch.uint8), torch.uint8),
        (np.zeros((3, 10, 20), np.uint8), torch.uint8),
        (TvImage(torch.zeros(3, 10, 20, dtype=torch.uint8)), torch.uint8),
        (torch.zeros(3, 10, 3, dtype=torch.uint8), torch.uint8),
    ],
)
def test_channels_first_become_a_plain_tensor_of_three(image: object, dtype: torch.dtype) -> None:
    picture = as_picture(image, "row 0")
    assert (type(picture), picture.dtype, picture.shape[0]) == (torch.Tensor, dtype, 3)


def test_an_image_that_the_user_opened_is_taken_as_it_lies_and_a_file_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg", exif=exif)
    assert as_picture(Image.open(tmp_path / "a.jpg"), "row 0").size == (20, 10)
    assert as_picture(tmp_path / "a.jpg", "row 0").size == (10, 20)


@pytest.mark.parametrize(
    ("image", "error", "said"),
    [
        (torch.full((3, 4, 4), 1.5), ValueError, "floats from 1.5 to 1.5.*leave normalising to the detector"),
        (torch.full((3, 4, 4), -0.5), ValueError, "leave normalising"),
        (torch.full((3, 4, 4), float("nan")), ValueError, "with NaN among its values"),
        (torch.zeros(2, 3, 4, 4), ValueError, r"an image of shape \(2, 3, 4, 4\)"),
        (torch.zeros(5, 4, 4), ValueError, r"an image of shape \(5, 4, 4\)"),
        (torch.zeros(3, 0, 4), ValueError, "an image of shape"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), ValueError, "an image of torch.int64"),
        (None, TypeError, "has NoneType for an image"),
        ("missing.jpg", ValueError, r"row 0: missing\.jpg cannot be read"),
    ],
)
def test_what_is_no_image_is_told_by_its_row(image: object, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said) as raised:
        as_picture(image, "row 0")
    assert str(raised.value).startswith("row 0")

"""Every mode of PIL and every kind of pixels becomes the same RGB, or is refused by name."""

import struct
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile, features

from model_handler.data.batches import as_batches
from model_handler.data.decoding import UnreadableImageError, open_image

RNG = np.random.RandomState(0)
GREY = RNG.randint(0, 256, (6, 7)).astype(np.uint8)
COLOURS = RNG.randint(0, 256, (6, 7, 3)).astype(np.uint8)
DEEP = RNG.randint(0, 65536, (6, 7)).astype(np.uint16)


def pixels(image):
    opened = open_image(image)
    assert opened.mode == "RGB"
    return np.asarray(opened)


def grey(array):
    return np.repeat(np.asarray(array, np.uint8)[..., None], 3, axis=2)


def saved(image, path, **options):
    image.save(path, **options)
    return path


def both_ways(image, tmp_path, name="x.tif"):
    """The image itself, and a file of it."""
    return (image, saved(image, tmp_path / name))


@pytest.mark.parametrize("mode", ["CMYK", "HSV", "LAB", "RGB", "RGBA", "RGBX", "RGBa", "YCbCr"])
def test_modes_of_colour_give_the_colours_but_for_rounding(mode: str) -> None:
    colours = COLOURS // 2 + 64  # not at the edge of what LAB can tell apart
    image = Image.fromarray(colours)
    image = image.convert("RGBA").convert("RGBa") if mode == "RGBa" else image.convert(mode)
    assert np.abs(pixels(image).astype(int) - colours).max() <= {"HSV": 4, "LAB": 6, "YCbCr": 4}.get(mode, 0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "PA"])
def test_modes_of_grey_give_the_grey(mode: str) -> None:
    black_and_white = np.where(GREY > 127, 255, 0).astype(np.uint8)
    image = Image.fromarray(black_and_white)
    image = image.convert("LA").convert("La") if mode == "La" else image.convert(mode)
    assert np.array_equal(pixels(image), grey(black_and_white))


def test_a_file_of_each_mode_is_read_as_the_image_itself(tmp_path: Path) -> None:
    written = set()
    for mode in Image.MODES:
        if mode in ("I", "F") or mode.startswith("I;16"):  # below
            continue
        base = Image.fromarray(COLOURS).convert({"La": "LA", "RGBa": "RGBA"}.get(mode, "RGB"))
        image = base.convert(mode)
        for suffix in (".tif", ".png", ".tga", ".webp"):
            try:
                image.save(tmp_path / f"x{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
            except (OSError, KeyError, ValueError):  # a format that has no such mode
                continue
            written.add(mode)
            assert np.array_equal(pixels(tmp_path / f"x{suffix}"), pixels(image)), (mode, suffix)
    assert written >= {"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "YCbCr"}


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_16_bits_are_scaled_to_8_as_image_and_as_file(dtype: str, tmp_path: Path) -> None:
    image = Image.fromarray(DEEP.astype(dtype))
    assert image.mode in ("I;16", "I;16B")
    for name in ("x.tif", "x.png", "x.jp2")[: 3 if features.check("jpg_2000") and dtype == "<u2" else 2]:
        for given in both_ways(image, tmp_path, name):
            assert np.array_equal(pixels(given), grey(DEEP >> 8)), name


def test_16_bits_in_mode_i_are_scaled_whatever_the_image_holds(tmp_path: Path) -> None:
    dim = DEEP % 200  # of a format that says 16 bits, such an image is black
    for array in (DEEP, dim):
        file = tmp_path / "x.pgm"
        file.write_bytes(b"P5\n7 6\n65535\n" + array.astype(">u2").tobytes())
        assert Image.open(file).mode == "I"
        assert np.array_equal(pixels(file), grey(array >> 8))
        assert np.array_equal(pixels(Image.open(file)), grey(array >> 8))
    file.write_bytes(b"P5\n7 6\n1023\n" + (DEEP % 1024).astype(">u2").tobytes())
    assert np.abs(pixels(file).astype(int) - grey((DEEP % 1024) / 1023 * 255)).max() <= 1


def test_whole_numbers_in_mode_i_have_the_scale_of_16_bits(tmp_path: Path) -> None:
    for given in both_ways(Image.fromarray(DEEP.astype(np.int32)), tmp_path):
        assert np.array_equal(pixels(given), grey(DEEP >> 8))
    half = (DEEP // 2).astype(np.int16)
    for given in both_ways(Image.fromarray(half), tmp_path):  # signed, without a number below 0
        assert np.array_equal(pixels(given), grey(half >> 8))
    assert not pixels(Image.new("I", (2, 2))).any()


@pytest.mark.parametrize(
    ("array", "reach"),
    [
        (DEEP.astype(np.int32) - 32768, "-27466"),
        ((DEEP.astype(np.int32) - 32768).astype(np.int16), "-27466"),
        (DEEP.astype(np.int32) * 3, "to 1"),
        (GREY.astype(np.int32), "to 25"),
    ],
    ids=["negative", "int16", "32 bits", "8 bits"],
)
def test_whole_numbers_without_a_known_white_are_refused(array: np.ndarray, reach: str, tmp_path: Path) -> None:
    for given in both_ways(Image.fromarray(array), tmp_path):
        with pytest.raises(UnreadableImageError, match=f'mode "I" and numbers from .*{reach}.*what is white'):
            open_image(given)


def test_floating_images_reach_from_0_to_1_or_are_refused(tmp_path: Path) -> None:
    shares = GREY.astype(np.float32) / 255
    for given in both_ways(Image.fromarray(shares), tmp_path):
        assert np.array_equal(pixels(given), grey(GREY))
    for array in (GREY.astype(np.float32), shares - 0.5, np.where(GREY > 200, np.nan, shares).astype(np.float32)):
        for given in both_ways(Image.fromarray(array), tmp_path):
            with pytest.raises(UnreadableImageError, match=r'mode "F" and numbers from .*what is white'):
                open_image(given)


def test_transparent_pixels_keep_the_colour_they_have(tmp_path: Path) -> None:
    palette = Image.fromarray(COLOURS).quantize(16)
    for info in (3, bytes(range(16))):
        file = saved(palette, tmp_path / "p.png", transparency=info)
        assert np.array_equal(pixels(file), np.asarray(palette.convert("RGB")))
    file = saved(Image.fromarray(COLOURS), tmp_path / "c.png", transparency=tuple(COLOURS[0, 0].tolist()))
    assert np.array_equal(pixels(file), COLOURS)
    assert np.array_equal(pixels(saved(Image.fromarray(GREY), tmp_path / "g.png", transparency=3)), grey(GREY))
    clear = np.dstack([COLOURS, np.zeros((6, 7), np.uint8)])
    assert np.array_equal(pixels(Image.fromarray(clear)), COLOURS)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, ">u2"])
def test_arrays_and_tensors_of_8_and_16_bits(dtype: object) -> None:
    def wide(array: np.ndarray) -> np.ndarray:
        return array if dtype == np.uint8 else (array.astype(dtype) << 8) + 7

    for array, expected in [(GREY, grey(GREY)), (GREY[..., None], grey(GREY)), (COLOURS, COLOURS)]:
        assert np.array_equal(pixels(wide(array)), expected)
        assert np.array_equal(
            pixels(torch.from_numpy(wide(array).astype(wide(array).dtype.newbyteorder("=")))), expected
        )


def test_lists_arrays_and_datasets_of_16_bits_are_images() -> None:
    def transform(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image)[..., 0].copy())

    wanted = torch.from_numpy((DEEP >> 8).astype(np.uint8))
    as_image = Image.fromarray(DEEP)
    dataset = torch.utils.data.StackDataset([as_image, as_image], [0, 1])
    for data in ([as_image] * 2, [DEEP] * 2, np.stack([DEEP] * 2), ([as_image, DEEP], [0, 1]), dataset):
        (batch,) = as_batches(data, transform=transform)
        assert torch.equal(batch.inputs, torch.stack([wanted] * 2))
    with pytest.raises(UnreadableImageError, match=r'image 1 cannot be read as an image: it has mode "F".*the list'):
        list(as_batches([as_image, Image.fromarray(GREY.astype(np.float32))], transform=transform))
    dataset = torch.utils.data.StackDataset([as_image.convert("F")], [0])
    with pytest.raises(ValueError, match='the dataset StackDataset: it has mode "F"'):
        list(as_batches(dataset, transform=transform))


def test_no_file_starts_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = saved(Image.fromarray(COLOURS), tmp_path / "x.eps")
    hidden = Path(file.rename(tmp_path / "x.png"))
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    for image in (hidden, Image.open(hidden)):
        with pytest.raises(UnreadableImageError, match="EPS files are read by starting another program"):
            open_image(image)


def test_heic_is_read_by_its_package_where_that_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = tmp_path / "x.heic"
    photo.write_bytes(b"TOYHEIF!" + bytes([7]))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UnreadableImageError, match="pip install pillow-heif"):
        open_image(photo)

    class Toy(ImageFile.ImageFile):
        format, format_description = "TOYHEIF", "one grey value"

        def _open(self) -> None:
            value = self.fp.read()[-1]
            self._size, self._mode = (1, 1), "L"
            self.im = Image.new("L", (1, 1), value).im
            self.tile = []

    package = types.ModuleType("pillow_heif")
    package.register_heif_opener = lambda: Image.register_open("TOYHEIF", Toy, lambda start: start[:4] == b"TOYH")
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    assert pixels(photo).tolist() == [[[7, 7, 7]]]
    assert pixels(photo.rename(tmp_path / "called.jpg")).tolist() == [[[7, 7, 7]]]


def test_what_is_no_image_says_so(tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    file.write_bytes(b"no image")
    with pytest.raises(UnreadableImageError, match="cannot identify image file"):
        open_image(file)
    file.write_bytes(b"")
    with pytest.raises(UnreadableImageError, match="cannot identify image file"):
        open_image(file)


UPRIGHT = {  # by the EXIF standard: what the 0th row and the 0th column of the stored pixels are to be
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),
    8: np.rot90,
    9: lambda stored: stored,  # no such side
}


class TestWhichSideIsUp:
    @pytest.mark.parametrize("side", UPRIGHT)
    def test_a_file_is_turned_and_so_is_a_picture_opened_from_it(self, tmp_path, side):
        exif = Image.Exif()
        exif[0x0112] = side
        path = saved(Image.fromarray(COLOURS), tmp_path / "x.png", exif=exif)
        expected = UPRIGHT[side](COLOURS)
        assert np.array_equal(pixels(path), expected)
        with Image.open(path) as opened:
            assert np.array_equal(pixels(opened), expected)
            assert np.array_equal(np.asarray(opened), COLOURS)  # the user's own stays as it is

    def test_a_picture_that_the_user_has_turned_is_not_turned_again(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        path = saved(Image.fromarray(COLOURS), tmp_path / "x.png", exif=exif)
        with Image.open(path) as opened:
            assert np.array_equal(pixels(opened.rotate(-90, expand=True)), np.rot90(COLOURS, -1))

    def test_odd_tags_beside_the_side_do_not_make_a_photograph_unreadable(self, tmp_path):
        side, unit = struct.pack("<HHII", 0x112, 3, 1, 6), struct.pack("<HHII", 0x128, 2, 1, 5)  # a unit that is text
        exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + side + unit + bytes(4)
        path = saved(Image.fromarray(COLOURS), tmp_path / "x.jpg", exif=exif)
        with Image.open(path) as opened:
            stored = np.asarray(opened)
        assert np.array_equal(pixels(path), np.rot90(stored, -1))

"""Folders of images: their order, their classes, and files that cannot be read."""

import errno
import os
import pickle
import sys
import types
import warnings

import numpy as np
import pytest
import torch
from PIL import Image, features
from torchvision.transforms import Normalize, ToTensor
from torchvision.transforms.functional import to_tensor

from model_handler.data.batches import as_batches
from model_handler.data.image_folder import ImageFolderData


def shade(path, value):
    """Save an image of one grey value, by which a row can be told from another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(path)
    return path


def values_of(batches):
    return [round(value * 255) for batch in batches for value in batch.inputs[:, 0, 0, 0].tolist()]


def labels_of(batches):
    return [label for batch in batches for label in batch.labels.tolist()]


@pytest.fixture
def folder(tmp_path):
    """Two classes of three images: 20, 21, 22 are owls; 10, 11, 12 are cats."""
    for index, name in enumerate(["b.PNG", "a.jpeg", "deep/er/c.bmp"]):
        shade(tmp_path / "owl" / name, 20 + index)
        shade(tmp_path / "cat" / name, 10 + index)
    shade(tmp_path / "cat" / ".hidden.png", 99)
    shade(tmp_path / "cat" / ".thumbnails" / "x.png", 99)
    shade(tmp_path / ".cache" / "x.png", 99)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "README.md").write_text("no image")
    return tmp_path


def test_sub_folders_are_classes_in_sorted_order(folder):
    data = ImageFolderData(folder)
    assert data.classes == ["cat", "owl"]
    assert data.labels.tolist() == ["cat"] * 3 + ["owl"] * 3
    inside = ["a.jpeg", "b.PNG", "deep/er/c.bmp"]
    assert [path.relative_to(folder).as_posix() for path in data.paths] == [
        f"{c}/{n}" for c in data.classes for n in inside
    ]
    assert len(data) == 6
    assert data.skipped == []


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_folder_its_path_and_its_text_give_the_same_batches(folder, num_workers):
    for data in (ImageFolderData(folder), folder, str(folder)):
        batches = as_batches(data, transform=ToTensor(), batch_size=4, num_workers=num_workers)
        assert batches.n_rows == 6
        assert [batch.n_rows for batch in batches] == [4, 2]
        assert values_of(batches) == [11, 10, 12, 21, 20, 22]
        assert labels_of(batches) == ["cat"] * 3 + ["owl"] * 3


def test_the_folders_own_transform_comes_before_the_sources(folder):
    halved = ImageFolderData(folder, transform=lambda image: to_tensor(image) / 2)
    full = next(iter(as_batches(folder, transform=ToTensor())))
    half = next(iter(as_batches(halved, transform=Normalize(0, 1))))
    torch.testing.assert_close(half.inputs * 2, full.inputs)


def test_a_folder_without_any_transform_says_what_to_pass(folder):
    with pytest.raises(ValueError, match="pass transform="):
        as_batches(folder)


def test_a_flat_folder_has_no_labels(tmp_path):
    for name in ["b.png", "a.png"]:
        shade(tmp_path / name, ord(name[0]))
    (tmp_path / "notes").mkdir()
    data = ImageFolderData(tmp_path)
    assert (data.labels, data.classes) == (None, None)
    batches = as_batches(data, transform=ToTensor())
    assert values_of(batches) == [97, 98]
    assert next(iter(batches)).labels is None


def test_a_class_may_be_a_link_to_a_folder(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shade(elsewhere / "x.png", 5)
    (folder / "zebra").symlink_to(elsewhere)
    assert ImageFolderData(folder).labels.tolist()[-1] == "zebra"


def test_images_beside_class_folders_are_ambiguous(folder):
    shade(folder / "stray.png", 1)
    with pytest.raises(ValueError, match=r"stray\.png\) beside folders of images \(cat, owl\)"):
        ImageFolderData(folder)


def test_an_empty_class_folder_is_named(folder):
    (folder / "dodo").mkdir()
    with pytest.raises(ValueError, match="class folders without images: dodo"):
        ImageFolderData(folder)


def test_a_folder_without_images_is_named(tmp_path):
    (tmp_path / "text.txt").write_text("")
    with pytest.raises(ValueError, match=f"{tmp_path.name} has no images.*jpeg"):
        ImageFolderData(tmp_path)


def test_a_path_that_is_no_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder '.*nowhere'"):
        ImageFolderData(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match=r"'.*x\.png' is a file"):
        ImageFolderData(shade(tmp_path / "x.png", 1))


def test_an_unknown_on_error_names_the_valid_ones(folder):
    with pytest.raises(ValueError, match=r"\['raise', 'skip'\], got 'ignore'"):
        ImageFolderData(folder, on_error="ignore")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_unreadable_image_is_named_with_the_way_to_skip_it(folder, num_workers):
    (folder / "owl" / "a.jpeg").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r'owl/a\.jpeg cannot be read.*on_error="skip"') as caught:
        list(as_batches(folder, transform=ToTensor(), num_workers=num_workers))
    assert "worker process" not in str(caught.value)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_skipping_leaves_out_what_cannot_be_read_and_says_so_once(folder, num_workers):
    truncated = shade(folder / "cat" / "a.jpeg", 11)
    truncated.write_bytes(truncated.read_bytes()[:300])
    broken = folder / "owl" / "deep" / "er" / "c.bmp"
    broken.write_bytes(b"")
    data = ImageFolderData(folder, on_error="skip")
    batches = as_batches(data, transform=ToTensor(), batch_size=2, num_workers=num_workers)
    with pytest.warns(UserWarning, match=r"2 of 6 images .* skipped") as caught:
        values = values_of(batches)
    assert len(caught) == 1
    assert str(truncated) in str(caught[0].message)
    assert str(broken) in str(caught[0].message)
    assert values == [10, 12, 21, 20]
    assert data.skipped == [truncated, broken]
    assert [path.name for path in data.paths] == ["b.PNG", "c.bmp", "a.jpeg", "b.PNG"]
    assert data.labels.tolist() == ["cat", "cat", "owl", "owl"]
    with warnings.catch_warnings():  # a second pass knows already
        warnings.simplefilter("error")
        assert values_of(batches) == values
        assert labels_of(as_batches(data, transform=ToTensor())) == data.labels.tolist()


def test_a_whole_batch_of_unreadable_images_does_no_harm(folder):
    for path in ImageFolderData(folder).paths[:4]:
        path.write_bytes(b"broken")
    data = ImageFolderData(folder, on_error="skip")
    with pytest.warns(UserWarning, match="4 of 6"):
        batches = list(as_batches(data, transform=ToTensor(), batch_size=2))
    assert values_of(batches) == [20, 22]
    assert labels_of(batches) == ["owl", "owl"]


def test_nothing_readable_at_all_is_an_error(folder):
    for path in ImageFolderData(folder).paths:
        path.write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"none of the 6 images .* can be read"):
        list(as_batches(ImageFolderData(folder, on_error="skip"), transform=ToTensor()))


def test_breaking_off_forgets_nothing(folder):
    bad = ImageFolderData(folder).paths[0]
    bad.write_bytes(b"broken")
    data = ImageFolderData(folder, on_error="skip")
    next(iter(as_batches(data, transform=ToTensor(), batch_size=2)))
    assert data.skipped == [bad]
    with pytest.warns(UserWarning, match="1 of 6"):
        assert len(values_of(as_batches(data, transform=ToTensor()))) == 5


def test_an_error_of_the_transform_is_not_taken_for_a_broken_file(folder):
    data = ImageFolderData(folder, transform=lambda image: 1 / 0, on_error="skip")
    with pytest.raises(ZeroDivisionError):
        list(as_batches(data))


def test_a_folder_can_be_pickled_and_tells_what_it_is(folder):
    data = pickle.loads(pickle.dumps(ImageFolderData(folder, transform=ToTensor())))
    assert len(list(as_batches(data))) == 1
    assert repr(data) == f"ImageFolderData({str(folder)!r}: 6 images, 2 classes)"


def test_a_picture_is_turned_as_the_camera_says(tmp_path):
    pixels = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be seen upright, turn by 90 degrees clockwise
    Image.fromarray(np.ascontiguousarray(np.rot90(pixels))).save(tmp_path / "turned.png", exif=exif)
    data = ImageFolderData(tmp_path, transform=lambda picture: torch.from_numpy(np.asarray(picture).copy()))
    (batch,) = as_batches(data)
    assert torch.equal(batch.inputs[0], torch.from_numpy(pixels))


class TestWhichFiles:
    def test_every_suffix_that_can_be_decoded_is_an_image(self, tmp_path):
        formats = {".jfif": "JPEG", ".jpe": "JPEG", ".pbm": "PPM", ".pnm": "PPM", ".tga": "TGA", ".apng": "PNG"}
        formats |= {".qoi": "QOI"} if "QOI" in Image.SAVE else {}
        formats |= {".avif": "AVIF"} if features.check("avif") else {}
        formats |= {".jp2": "JPEG2000", ".J2K": "JPEG2000"} if features.check("jpg_2000") else {}
        picture = Image.fromarray(np.full((4, 4, 3), 9, np.uint8))
        for suffix, name in formats.items():
            picture.convert("1" if suffix == ".pbm" else "RGB").save(tmp_path / f"x{suffix}", name)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            data = ImageFolderData(tmp_path)
        assert {path.suffix for path in data.paths} == set(formats)
        assert len(values_of(as_batches(data, transform=ToTensor()))) == len(formats)

    def test_what_is_left_out_is_counted_by_suffix_in_one_warning(self, folder, monkeypatch):
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        for name in ("1.HEIC", "2.heic", "3.eps", "Makefile", "Thumbs.db", ".DS_Store"):
            (folder / "cat" / name).write_bytes(b"x")
        with pytest.warns(UserWarning, match="left out") as caught:
            data = ImageFolderData(folder)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert data.left_out == {".heic": 2, ".txt": 1, ".md": 1, ".eps": 1, "without suffix": 1}
        assert all(f"{n} {suffix}" in str(caught[0].message) for suffix, n in data.left_out.items())
        assert "(for HEIC: pip install pillow-heif)" in str(caught[0].message)
        assert len(data) == 6

    def test_heic_is_an_image_where_its_package_is_installed(self, folder, monkeypatch):
        monkeypatch.setitem(sys.modules, "pillow_heif", types.ModuleType("pillow_heif"))
        (folder / "cat" / "1.heic").write_bytes(b"x")
        assert len(ImageFolderData(folder)) == 7

    def test_a_folder_of_nothing_else_says_what_was_found(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "1.heic").write_bytes(b"x")
        with pytest.raises(ValueError, match=r"no images.*left out: 1 \.heic \(for HEIC: pip install"):
            ImageFolderData(tmp_path)
        shade(tmp_path / "b" / "1.png", 1)
        with pytest.raises(ValueError, match=r"class folders without images: a;.*left out: 1 \.heic"):
            ImageFolderData(tmp_path)

    def test_folders_of_archives_and_servers_are_no_classes(self, folder):
        for name in ("__MACOSX", "cat/__MACOSX", "owl/@eaDir", "lost+found"):
            shade(folder / name / "x.png", 99)
        data = ImageFolderData(folder)
        assert (data.classes, len(data)) == (["cat", "owl"], 6)

    def test_a_pipe_is_no_image_and_a_broken_link_to_one_is_named_when_it_is_read(self, folder):
        os.mkfifo(folder / "cat" / "pipe.png")
        (folder / "cat" / "gone.png").symlink_to(folder / "nowhere.png")
        (folder / "owl" / "gone").symlink_to(folder / "nowhere")
        data = ImageFolderData(folder)
        assert data.left_out == {".txt": 1, ".md": 1, "pipe or device": 1, "broken link": 1}
        with pytest.raises(ValueError, match=r"gone\.png cannot be read as an image: FileNotFoundError"):
            list(as_batches(data, transform=ToTensor()))

    def test_a_folder_that_cannot_be_listed_is_an_error_that_names_it(self, folder, monkeypatch):
        scan = os.scandir

        def refuse(path):
            if str(path).endswith("deep"):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return scan(path)

        monkeypatch.setattr(os, "scandir", refuse)
        with pytest.raises(PermissionError, match=r"cat/deep' cannot be listed \(Permission denied\); allow"):
            ImageFolderData(folder)


class TestLinks:
    """Images are named by their class; no image may come twice, or under the label of another folder."""

    @pytest.fixture
    def plain(self, tmp_path):
        for name in ("a/1.png", "a/deep/2.png", "b/3.png", "b/4.png"):
            shade(tmp_path / "data" / name, int(name[-5]))
        return tmp_path / "data"

    @staticmethod
    def found(folder):
        data = ImageFolderData(folder)
        return [(label, path.name) for label, path in zip(data.labels.tolist(), data.paths)]

    ALL = [("a", "1.png"), ("a", "2.png"), ("b", "3.png"), ("b", "4.png")]  # noqa: RUF012

    @pytest.mark.parametrize(
        ("link", "target"),
        [
            ("a/up", ".."),
            ("a/deep/up", "../.."),
            ("a/above", "../.."),
            ("a/itself", "."),
            ("a/sibling", "../b"),
            ("b/sibling", "../a/deep"),
            ("c", "a"),
            ("0", "b"),
            ("c", "."),
            ("c", ".."),
            ("c", "a/deep"),
        ],
    )
    def test_a_folder_reached_twice_is_read_once_under_its_own_name(self, plain, link, target):
        (plain.parent / "beside").mkdir()
        shade(plain.parent / "beside" / "5.png", 5)
        (plain / link).symlink_to(target)
        with pytest.warns(
            UserWarning, match=rf"read once, under its own name.*not followed: {link} leads to"
        ) as caught:
            assert self.found(plain) == self.ALL
        assert len(caught) == 1

    def test_links_in_a_circle_and_to_nothing_end(self, plain):
        (plain / "a" / "x").symlink_to("y")
        (plain / "a" / "y").symlink_to("x")
        (plain / "a" / "b").symlink_to("../b")
        (plain / "b" / "a").symlink_to("../a")
        with pytest.warns(UserWarning, match="read once") as caught:
            assert self.found(plain) == self.ALL
        assert sorted(str(warning.message).split(": ", 1)[1] for warning in caught) == [
            "each folder is read once, under its own name, so that these were not followed: "
            f"a/b leads to {plain / 'b'}, b/a leads to {plain / 'a'}",
            "left out, as no images by their suffix: 2 broken link",
        ]

    def test_links_to_folders_elsewhere_are_read_and_once(self, plain):
        elsewhere = plain.parent / "elsewhere"
        shade(elsewhere / "5.png", 5)
        shade(elsewhere / "more" / "6.png", 6)
        (elsewhere / "up").symlink_to("..")  # to what holds all of it
        (plain / "a" / "linked").symlink_to(elsewhere)
        (plain / "b" / "linked").symlink_to(elsewhere / "more")
        (plain / "c").symlink_to(elsewhere)  # nearer to the root than a/linked
        with pytest.warns(UserWarning, match="read once"):
            assert self.found(plain) == [*self.ALL, ("c", "5.png"), ("c", "6.png")]

    def test_links_to_files_and_to_what_is_hidden_stay(self, plain):
        shade(plain / ".store" / "5.png", 5)
        (plain / "c").symlink_to(".store")
        (plain / "b" / "same.png").symlink_to("../a/1.png")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert self.found(plain) == [*self.ALL, ("b", "same.png"), ("c", "5.png")]

    def test_the_folder_itself_may_be_a_link(self, plain):
        (plain.parent / "link").symlink_to(plain)
        assert self.found(plain.parent / "link") == self.ALL

    def test_a_class_of_nothing_but_a_link_to_another_is_empty(self, plain):
        (plain / "c").mkdir()
        (plain / "c" / "more").symlink_to("../a")
        with pytest.raises(ValueError, match="class folders without images: c"):
            ImageFolderData(plain)

"""Folders of images: their order, their classes, and files that cannot be read."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
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
    whole = next(iter(as_batches(folder, transform=ToTensor())))
    half = next(iter(as_batches(halved, transform=Normalize(0, 1))))
    torch.testing.assert_close(half.inputs * 2, whole.inputs)


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

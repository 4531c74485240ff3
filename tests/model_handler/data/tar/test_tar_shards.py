"""Images and labels in tar files are data."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from torch import nn
from torchvision.transforms import ToTensor

from model_handler import CorruptFileError, ModelHandler, TarShards
from model_handler.data import as_batches, named_classes
from tests.model_handler.data.tar.tars import image, write_tar


@pytest.fixture
def pattern(tmp_path: Path) -> str:
    for number in range(2):
        rows = [(f"{row:03d}", image(10 * number + row)) for row in range(4)]
        members = [member for key, data in rows for member in ((f"{key}.png", data), (f"{key}.cls", b"%d" % number))]
        write_tar(tmp_path / f"s-{number:03d}.tar", members)
    return str(tmp_path / "s-{000..001}.tar")


def test_rows_are_images_and_labels_in_order(pattern: str) -> None:
    data = TarShards(pattern, classes=["cat", "dog"])
    assert (len(data), data.names[5]) == (8, "s-001.tar/001")
    picture, label = pickle.loads(pickle.dumps(data))[5]
    assert label == 1
    assert np.array_equal(np.asarray(picture), np.random.default_rng(11).integers(0, 255, (6, 6, 3), np.uint8))
    assert named_classes(data) == ("cat", "dog")


def test_the_name_alone_is_data_too(pattern: str) -> None:
    (batch, *_) = as_batches(pattern, transform=ToTensor(), batch_size=8)
    assert batch.labels is not None
    assert batch.labels.tolist() == [0] * 4 + [1] * 4


@pytest.mark.parametrize("kind", ["jpeg", "webp", "png"])
def test_images_of_each_kind_are_read(tmp_path: Path, kind: str) -> None:
    data = TarShards(write_tar(tmp_path / "a.tar", [(f"1.{kind}", image(0, kind))]))
    assert data[0][0].size == (6, 6)
    assert len(data[0]) == 1


@pytest.mark.parametrize(
    ("suffix", "text", "label"),
    [
        ("cls", "7", 7),
        ("txt", " a cat\n", "a cat"),
        ("json", json.dumps({"label": "dog", "cls": 3}), "dog"),
        ("json", json.dumps({"class": 2}), 2),
    ],
)
def test_labels_of_each_kind_are_read(tmp_path: Path, suffix: str, text: str, label: object) -> None:
    data = TarShards(write_tar(tmp_path / "a.tar", [("1.png", image(0)), (f"1.{suffix}", text.encode())]))
    assert data[0][1] == label


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("1.cls", b"1")], "'1' has no image"),
        ([("1.png", image(0)), ("1.jpg", image(0))], "'1' has 2 images"),
        ([("1.png", image(0)), ("1.cls", b"1"), ("2.png", image(0))], r"'2' has no \.cls"),
        (
            [("1.png", image(0)), ("2.png", image(0)), ("2.txt", b"a")],
            r"'2' has \.txt, and rows before it have no label",
        ),
    ],
)
def test_rows_without_an_image_or_a_label_are_refused(
    tmp_path: Path, members: list[tuple[str, bytes]], said: str
) -> None:
    path = write_tar(tmp_path / "a.tar", members)
    with pytest.raises(CorruptFileError, match=said):
        TarShards(path)


@pytest.mark.parametrize(
    ("suffix", "text"), [("cls", b"cat"), ("json", b'{"id": 3}'), ("json", b"[1]"), ("cls", b"\xff")]
)
def test_what_holds_no_label_is_named(tmp_path: Path, suffix: str, text: bytes) -> None:
    data = TarShards(write_tar(tmp_path / "a.tar", [("1.png", image(0)), (f"1.{suffix}", text)]))
    with pytest.raises(CorruptFileError, match=rf"a\.tar/1: its \.{suffix} holds no label"):
        data[0]


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    data = TarShards(write_tar(tmp_path / "a.tar", [("1.png", image(0)[:60])]))
    with pytest.raises(CorruptFileError, match=r"a\.tar/1 cannot be read as an image"):
        data[0]


def test_missing_and_empty_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="2 of 2 tar files are not there"):
        TarShards(str(tmp_path / "{0..1}.tar"))
    with pytest.raises(ValueError, match="hold no images"):
        TarShards(write_tar(tmp_path / "a.tar", []))
    with pytest.raises(ValueError, match="label must be"):
        TarShards(tmp_path / "a.tar", label="cap")


def test_shards_of_features_skip_what_is_finished(
    pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    get = TarShards.__getitem__

    def counted(self: TarShards, row: int) -> object:
        read.append(row)
        return get(self, row)

    handler = ModelHandler(nn.Sequential(nn.Conv2d(3, 4, 3)), transform=ToTensor(), batch_size=2, verbose=False)
    shards = handler.extract_to(tmp_path / "f", pattern, ["0"], pooling="avg", rows_per_shard=3)
    assert shards is not None
    assert shards.paths == TarShards(pattern).names
    (tmp_path / "f" / "shard-000001.safetensors").unlink()
    monkeypatch.setattr(TarShards, "__getitem__", counted)
    handler.extract_to(tmp_path / "f", pattern, ["0"], pooling="avg", rows_per_shard=3)
    assert read == [3, 4, 5]

"""Images in Hugging Face datasets are read row by row."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import nn
from torchvision.transforms import ToTensor

from model_handler import ImageFolderData, ModelHandler
from model_handler.data import as_batches, named_classes, opened

datasets = pytest.importorskip("datasets")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(6):
        file = tmp_path / "photos" / "ab"[number // 3] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (6, 6, 3), np.uint8)
        Image.fromarray(pixels).save(file)
    return tmp_path / "photos"


def table(photos: Path, **columns: Any) -> Any:
    files = [str(path) for path in ImageFolderData(photos).paths]
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}
    rows = {"image": files, "label": [0, 0, 0, 1, 1, 1], **columns}
    more = {name: datasets.Image() for name in columns}
    return datasets.Dataset.from_dict(rows, features=datasets.Features({**features, **more}))


def handler() -> ModelHandler:
    network = nn.Sequential(nn.Conv2d(3, 4, 3))
    nn.init.constant_(network[0].weight, 0.1), nn.init.zeros_(network[0].bias)
    return ModelHandler(network, transform=ToTensor(), batch_size=2, verbose=False)


def test_rows_and_streams_are_what_a_folder_is(photos: Path) -> None:
    wanted = np.concatenate([batch.inputs for batch in as_batches(photos, transform=ToTensor())])
    for data in (table(photos), table(photos).to_iterable_dataset()):
        assert named_classes(opened(data)) == ("a", "b")
        batches = list(as_batches(data, transform=ToTensor(), batch_size=2))
        assert np.array_equal(np.concatenate([batch.inputs for batch in batches]), wanted)
        assert np.concatenate([batch.labels for batch in batches]).tolist() == [0, 0, 0, 1, 1, 1]


def test_shards_of_both_go_on_without_decoding_what_is_finished(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    decode = datasets.Image.decode_example

    def counted(self: Any, value: Any, **options: Any) -> Any:
        decoded.append(1)
        return decode(self, value, **options)

    monkeypatch.setattr(datasets.Image, "decode_example", counted)
    for name, data, n_read in (("rows", table(photos), 2), ("stream", table(photos).to_iterable_dataset(), 6)):
        whole = handler().extract_to(tmp_path / name, data, ["0"], pooling="avg", rows_per_shard=2)
        before = {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}
        assert whole is not None
        assert len(whole) == 6
        (tmp_path / name / "shard-000002.safetensors").unlink()
        decoded.clear()
        handler().extract_to(tmp_path / name, data, ["0"], pooling="avg", rows_per_shard=2)
        assert {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} == before
        assert sum(decoded) == n_read  # of a stream, the first row twice, and those of the last finished shard


def test_a_stream_of_other_images_is_other_data(photos: Path, tmp_path: Path) -> None:
    rows = table(photos)
    handler().extract_to(tmp_path / "s", rows.to_iterable_dataset(), ["0"], pooling="avg", rows_per_shard=2)
    others = rows.select([3, 4, 5]).to_iterable_dataset()
    with pytest.raises(ValueError, match=r"holds features of something else: the data \("):
        handler().extract_to(tmp_path / "s", others, ["0"], pooling="avg", rows_per_shard=2)


def test_several_columns_of_images_are_asked_about(photos: Path) -> None:
    files = [str(path) for path in ImageFolderData(photos).paths]
    with pytest.raises(TypeError, match=r"several columns of images, \['image', 'mask'\]"):
        opened(table(photos, mask=files))


def test_a_stream_of_texts_is_read_by_its_one_column() -> None:
    rows = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}).to_iterable_dataset()
    assert list(opened(rows)) == [("a", 0), ("b", 1)]

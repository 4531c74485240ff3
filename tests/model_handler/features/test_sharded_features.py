"""Directories of shards are read in parts."""

import pickle
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from model_handler import CorruptFileError, Features, ModelHandler, ShardedFeatures, UnknownLayerError
from model_handler.features import sharded_features

X, Y = torch.linspace(0, 1, 11 * 3).reshape(11, 3), [f"class {row % 3}" for row in range(11)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Features, Path]:
    handler = ModelHandler(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), batch_size=2, verbose=False)
    path = tmp_path_factory.mktemp("features") / "shards"
    handler.extract_to(path, (X, Y), ["0", "1"], rows_per_shard=4)
    return handler.extract((X, Y), ["0", "1"]), path


@pytest.fixture
def copied(whole: tuple[Features, Path], tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in whole[1].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.mark.parametrize(
    "rows",
    [
        slice(None),
        slice(3, 9),
        slice(None, None, -2),
        slice(4, 4),
        5,
        -1,
        [7, 0, 7, 10],
        np.arange(11) % 2 == 0,
        np.array([], dtype=int),
    ],
)
def test_rows_are_those_of_features_in_memory(whole: tuple[Features, Path], rows: Any) -> None:
    features, path = whole
    got, wanted = ShardedFeatures(path)[rows], features[rows]
    assert np.array_equal(got.matrix, wanted.matrix)
    assert got.labels is not None
    assert wanted.labels is not None
    assert got.labels.tolist() == wanted.labels.tolist()


def test_rows_out_of_reach_and_layers_in_place_of_rows_are_refused(whole: tuple[Features, Path]) -> None:
    shards = Features.open(whole[1])
    with pytest.raises(IndexError):
        shards[11]
    with pytest.raises((TypeError, IndexError)):
        shards["0"]


@pytest.mark.parametrize("n", [1, 4, 5, 11, 100])
def test_blocks_are_all_rows_in_order(whole: tuple[Features, Path], n: int) -> None:
    features, path = whole
    blocks = list(Features.open(path).blocks(n))
    assert [len(block) for block in blocks[:-1]] == [n] * (len(blocks) - 1)
    assert np.array_equal(np.concatenate([block.matrix for block in blocks]), features.matrix)


@pytest.mark.parametrize("n", [0, -3, 1.5, True])
def test_blocks_of_no_rows_are_refused(whole: tuple[Features, Path], n: Any) -> None:
    with pytest.raises(ValueError, match="n_rows must be a whole number of at least 1"):
        next(Features.open(whole[1]).blocks(n))


def test_what_it_is_is_known_without_reading_rows(whole: tuple[Features, Path]) -> None:
    features, path = whole
    shards = Features.open(path)
    assert (len(shards), shards.shape, shards.layer_names) == (11, features.shape, ["0", "1"])
    assert shards.widths == {"0": 4, "1": 4}
    assert shards.class_names is None
    assert shards.paths is None
    assert all(np.array_equal(shards.indices_per_layer[name], features.indices_per_layer[name]) for name in "01")
    assert not shards._open


def test_layers_can_be_chosen(whole: tuple[Features, Path]) -> None:
    features, path = whole
    chosen = Features.open(path).select(["1"])
    assert chosen.shape == (11, 4)
    assert np.array_equal(chosen.load().matrix, features.select(["1"]).matrix)
    with pytest.raises(UnknownLayerError, match="no layer 'one'"):
        chosen.select(["one"])


def test_few_shards_are_open_at_a_time(whole: tuple[Features, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharded_features, "_MOST_OPEN", 1)
    shards = Features.open(whole[1])
    assert np.array_equal(shards[[0, 10, 5, 1]].matrix, whole[0][[0, 10, 5, 1]].matrix)
    assert len(shards._open) == 1


def test_a_changed_bit_is_found_when_its_shard_is_read(copied: Path) -> None:
    file = copied / "shard-000001.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    shards = Features.open(copied)
    assert len(shards[:4]) == 4
    with pytest.raises(CorruptFileError, match=r"shard-000001.safetensors is damaged.*computes it again"):
        shards[3:5]


def test_shards_that_change_places_are_found(copied: Path) -> None:
    first, second = copied / "shard-000000.safetensors", copied / "shard-000001.safetensors"
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)
    with pytest.raises(CorruptFileError, match="is not the shard that its manifest lists"):
        Features.open(copied)[:2]


def test_a_shard_that_is_gone_is_named(copied: Path) -> None:
    (copied / "shard-000001.safetensors").unlink()
    with pytest.raises(CorruptFileError, match=r"its shard shard-000001.safetensors is gone"):
        Features.open(copied).load()


def test_what_is_no_directory_of_features_is_refused(whole: tuple[Features, Path], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        Features.open(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"holds no features: it has no manifest.json"):
        Features.open(tmp_path)
    with pytest.raises(NotADirectoryError, match=r"Features.load reads files"):
        Features.open(next(whole[1].glob("shard-*")))


def test_labels_of_several_kinds_are_refused(tmp_path: Path) -> None:
    class Mixed(Dataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, row: int) -> tuple[torch.Tensor, object]:
            return X[row], row if row < 2 else "text"

    handler = ModelHandler(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), batch_size=2, verbose=False)
    shards = handler.extract_to(tmp_path / "s", Mixed(), ["1"], rows_per_shard=2)
    assert shards is not None
    for read in (shards.load, lambda: shards.labels):
        with pytest.raises(ValueError, match=r"labels of several kinds, \['numbers', 'text'\]"):
            read()


def test_parquet_has_a_row_for_each(whole: tuple[Features, Path], tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    features, path = whole
    Features.open(path).to_parquet(tmp_path / "f.parquet")
    table = parquet.read_table(tmp_path / "f.parquet")
    assert table.column("label").to_pylist() == Y
    assert np.array_equal(np.array(table.column("1").to_pylist(), np.float32), features.values["1"])
    assert [file.name for file in tmp_path.iterdir()] == ["f.parquet"]


def test_what_is_pickled_are_no_rows(whole: tuple[Features, Path]) -> None:
    shards = ShardedFeatures(whole[1])
    n_bytes = len(pickle.dumps(shards))
    assert len(shards[:]) == 11  # which opens all shards
    assert len(pickle.dumps(shards)) < n_bytes + 100
    assert np.array_equal(pickle.loads(pickle.dumps(shards))[3:5].matrix, whole[0][3:5].matrix)


@pytest.fixture
def often_switched() -> Iterator[None]:
    """Threads give way to each other at nearly every step."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("often_switched")
def test_threads_may_read_at_once(whole: tuple[Features, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharded_features, "_MOST_OPEN", 1)
    shards = ShardedFeatures(whole[1])
    rows = np.random.default_rng(0).integers(0, 11, (40, 3))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda numbers: shards[numbers].matrix, rows))
    assert all(np.array_equal(matrix, whole[0].matrix[numbers]) for matrix, numbers in zip(found, rows))


def test_the_class_keeps_its_path_for_pickles_from_before() -> None:
    assert pickle.loads(b"cmodel_handler.features\nFeatures\n.") is Features

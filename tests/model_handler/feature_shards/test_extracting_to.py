"""Extraction into a directory of shards, and after a break on from there."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torchvision.transforms import ToTensor

from model_handler import FeatureExtractor, Features, ImageFolderData, ModelHandler, ShardedFeatures, TableData
from model_handler.extraction.engine import Engine
from model_handler.feature_shards import directory
from model_handler.files import whole_files

X, Y = torch.linspace(0, 1, 11 * 3).reshape(11, 3), [f"class {row % 3}" for row in range(11)]


def make_handler(batch_size: int = 2, **options: Any) -> ModelHandler:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    return ModelHandler(network, batch_size=batch_size, verbose=False, **options)


def image_handler(**options: Any) -> ModelHandler:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    return ModelHandler(network, batch_size=2, transform=ToTensor(), verbose=False, **options)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of each batch that goes through the network."""
    counted: list[int] = []
    rows = Engine.rows

    def count(self: Engine, inputs: object, n_rows: int, wanted: Any) -> Any:
        counted.append(n_rows)
        return rows(self, inputs, n_rows, wanted)

    monkeypatch.setattr(Engine, "rows", count)
    return counted


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(9):
        file = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (6, 6, 3), np.uint8)).save(file)
    return tmp_path / "photos"


def test_shards_are_what_extract_gives(tmp_path: Path) -> None:
    shards = make_handler().extract_to(tmp_path / "s", (X, Y), ["0", "2"], rows_per_shard=4)
    wanted = make_handler().extract((X, Y), ["0", "2"])
    assert shards is not None
    assert np.array_equal(shards.load().matrix, wanted.matrix)
    assert shards.labels is not None
    assert shards.labels.tolist() == Y
    assert [len(Features.load(file)) for file in sorted((tmp_path / "s").glob("shard-*"))] == [4, 4, 3]


def test_a_finished_directory_is_opened_and_nothing_is_computed(tmp_path: Path, computed: list[int]) -> None:
    make_handler().extract_to(tmp_path / "s", X, ["1"], rows_per_shard=4)
    computed.clear()
    assert isinstance(make_handler().extract_to(tmp_path / "s", X, ["1"], rows_per_shard=4), ShardedFeatures)
    assert not computed


def test_only_what_is_missing_or_damaged_is_computed_again(tmp_path: Path, computed: list[int]) -> None:
    make_handler().extract_to(tmp_path / "s", X, ["1"], rows_per_shard=4)
    before = {file.name: file.read_bytes() for file in (tmp_path / "s").iterdir()}
    (tmp_path / "s" / "shard-000002.safetensors").unlink()
    cut = before["shard-000000.safetensors"][:-7]
    (tmp_path / "s" / "shard-000000.safetensors").write_bytes(cut)
    computed.clear()
    with pytest.warns(UserWarning, match="computed again: .*shard-000000.safetensors"):
        make_handler().extract_to(tmp_path / "s", X, ["1"], rows_per_shard=4)
    assert sum(computed) == 4 + 3
    assert {file.name: file.read_bytes() for file in (tmp_path / "s").iterdir()} == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda: ((X, Y), {"layers": ["0"]}), r"the layers \(\['1'\] there, \['0'\] now\)"),
        (lambda: ((X + 1, Y), {}), "the data"),
        (lambda: ((X, Y[::-1]), {}), "the labels"),
        (lambda: ((X, Y), {"pooling": "avg"}), r"the pooling \(flatten there, avg now\)"),
        (lambda: ((X, Y), {"rows": 5}), r"the rows_per_shard \(4 there, 5 now\)"),
        (lambda: ((X, Y), {"batch_size": 3}), "the settings .*'2'.* there, .*'3'.* now"),
        (lambda: ((X, Y), {"precision": "bfloat16"}), "the settings .*'float32'.*'bfloat16'"),
        (lambda: ((X, Y), {"seed": 1}), "the network"),
    ],
)
def test_features_of_something_else_are_refused_by_name(
    tmp_path: Path, change: Callable[[], tuple[Any, dict[str, Any]]], said: str
) -> None:
    make_handler().extract_to(tmp_path / "s", (X, Y), ["1"], rows_per_shard=4)
    data, options = change()
    handler = make_handler(options.pop("batch_size", 2), precision=options.pop("precision", "float32"))
    if options.pop("seed", 0):
        with torch.no_grad():
            next(iter(handler.get_module().parameters())).mul_(2)
        network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        handler = ModelHandler(network, batch_size=2, verbose=False)
    before = {file.name: file.read_bytes() for file in (tmp_path / "s").iterdir()}
    with pytest.raises(ValueError, match=f"holds features of something else: {said}"):
        handler.extract_to(
            tmp_path / "s",
            data,
            options.get("layers", ["1"]),
            pooling=options.get("pooling", "flatten"),
            rows_per_shard=options.get("rows", 4),
        )
    assert {file.name: file.read_bytes() for file in (tmp_path / "s").iterdir()} == before


def test_killed_at_random_points_it_gives_what_an_unbroken_run_gives(tmp_path: Path) -> None:
    _check_killed(tmp_path, n_kills=3)


@pytest.mark.slow
def test_killed_thirty_times_it_gives_what_an_unbroken_run_gives(tmp_path: Path) -> None:
    _check_killed(tmp_path, n_kills=30)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def _check_killed(folder: Path, n_kills: int) -> None:
    command = [sys.executable, "-m", "tests.model_handler.feature_shards.killed", str(folder), str(n_kills), "0"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert found["equal"]
    assert found["code"] == 0
    assert not found["repeated"]
    assert found["finished"][-1] > 0


def test_a_full_disk_says_the_bytes_needed_and_leaves_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computed: list[int]
) -> None:
    write = whole_files._write

    def full(file: Any, *rest: Any) -> None:
        if "shard-000001" in str(file.name):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, *rest)

    monkeypatch.setattr(whole_files, "_write", full)
    with pytest.raises(OSError, match=r"needs [\d,]+ bytes; .* are free there; the shards that are finished") as caught:
        make_handler().extract_to(tmp_path / "s", X, ["1"], rows_per_shard=4)
    assert caught.value.errno == errno.ENOSPC
    assert [file.name for file in (tmp_path / "s").glob("*shard-*")] == ["shard-000000.safetensors"]
    with pytest.raises(ValueError, match=r"lacks 2 of 3 shards: shard-000001.safetensors, shard-000002.safetensors"):
        Features.open(tmp_path / "s")
    monkeypatch.setattr(whole_files, "_write", write)
    computed.clear()
    shards = make_handler().extract_to(tmp_path / "s", X, ["1"], rows_per_shard=4)
    assert shards is not None
    assert np.array_equal(shards[:].matrix, make_handler().extract(X, ["1"]).matrix)


def test_two_writers_do_not_write_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "SECONDS", 0.05)
    make_handler().extract_to(tmp_path / "s", X, ["1"], rows_per_shard=4)
    (tmp_path / "s" / "shard-000001.safetensors").unlink()
    with (
        directory.writing_alone(tmp_path / "s", directory.Rank()),
        pytest.raises(TimeoutError, match="another process is writing features to"),
    ):
        make_handler().extract_to(tmp_path / "s", X, ["1"], rows_per_shard=4)


class TestSeveralProcesses:
    """As torchrun starts them; none waits for another."""

    @staticmethod
    def be(rank: int, of: int, patch: pytest.MonkeyPatch) -> None:
        for name, value in {"RANK": rank, "WORLD_SIZE": of, "LOCAL_RANK": 0, "MASTER_ADDR": "localhost"}.items():
            patch.setenv(name, str(value))

    def test_each_takes_its_shards_and_the_last_lists_all(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.be(1, 2, monkeypatch)
        assert make_handler().extract_to(tmp_path / "s", (X, Y), ["1"], rows_per_shard=2) is None
        assert sorted(file.name[-13] for file in (tmp_path / "s").glob("shard-*")) == ["1", "3", "5"]
        self.be(0, 2, monkeypatch)
        shards = make_handler().extract_to(tmp_path / "s", (X, Y), ["1"], rows_per_shard=2)
        assert shards is not None
        assert np.array_equal(shards[:].matrix, make_handler(share=False).extract(X, ["1"]).matrix)

    def test_shards_of_a_lost_one_are_done_by_the_next_call(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computed: list[int]
    ) -> None:
        self.be(0, 2, monkeypatch)
        assert make_handler().extract_to(tmp_path / "s", X, ["1"], rows_per_shard=2) is None
        computed.clear()
        shards = make_handler(share=False).extract_to(tmp_path / "s", X, ["1"], rows_per_shard=2)
        assert shards is not None
        assert len(shards) == 11
        assert sum(computed) == 5

    def test_a_stream_is_shared_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for rank, is_complete in ((0, False), (1, True)):
            self.be(rank, 2, monkeypatch)
            shards = make_handler().extract_to(tmp_path / "s", Stream(), ["1"], rows_per_shard=4)
            assert (shards is not None) == is_complete
        assert np.array_equal(shards[:].matrix, make_handler(share=False).extract(X, ["1"]).matrix)


class Stream(IterableDataset):
    def __init__(self, rows: torch.Tensor = X) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[torch.Tensor]:
        yield from self.rows


def test_streams_are_told_apart_by_their_first_row(tmp_path: Path) -> None:
    make_handler().extract_to(tmp_path / "s", Stream(), ["1"], rows_per_shard=4)
    for other in (Stream(X + 1), DataLoader(Stream(X[1:]), batch_size=2)):
        with pytest.raises(ValueError, match=r"something else: the data \("):
            make_handler().extract_to(tmp_path / "s", other, ["1"], rows_per_shard=4)


class Named(TensorDataset):
    """Rows of two classes, with names for them."""

    def __init__(self, classes: list[str]) -> None:
        super().__init__(X, torch.arange(len(X)) % 2)
        self.classes = classes


def test_other_names_of_classes_are_refused(tmp_path: Path) -> None:
    make_handler().extract_to(tmp_path / "s", Named(["cat", "dog"]), ["1"], rows_per_shard=4)
    with pytest.raises(ValueError, match=r"the class names \(\['cat', 'dog'\] there, \['dog', 'cat'\] now\)"):
        make_handler().extract_to(tmp_path / "s", Named(["dog", "cat"]), ["1"], rows_per_shard=4)
    assert Features.open(tmp_path / "s").class_names == ("cat", "dog")


def test_data_in_its_own_order_is_cut_between_batches(tmp_path: Path, computed: list[int]) -> None:
    loader = DataLoader(TensorDataset(X, torch.arange(11)), batch_size=3)
    shards = make_handler().extract_to(tmp_path / "s", loader, ["1"], rows_per_shard=4)
    assert shards is not None
    assert [len(Features.load(file)) for file in sorted((tmp_path / "s").glob("shard-*"))] == [6, 5]
    assert np.array_equal(shards[:].matrix, make_handler().extract(loader, ["1"]).matrix)
    assert shards.labels is not None
    assert shards.labels.tolist() == list(range(11))
    (tmp_path / "s" / "shard-000001.safetensors").unlink()
    computed.clear()
    make_handler().extract_to(tmp_path / "s", loader, ["1"], rows_per_shard=4)
    assert sum(computed) == 5


def test_a_folder_keeps_paths_and_leaves_out_what_cannot_be_read(photos: Path, tmp_path: Path) -> None:
    (photos / "a" / "2.png").write_bytes(b"no image")
    for name in ("1", "3", "5"):
        (photos / "b" / f"{name}.png").write_bytes(b"no image")  # a whole shard
    data = ImageFolderData(photos, on_error="skip")
    with pytest.warns(UserWarning, match="4 images were skipped"):
        shards = image_handler().extract_to(tmp_path / "s", data, ["1"], pooling="avg", rows_per_shard=1)
    assert shards is not None
    assert shards.paths == ["a/0.png", "a/4.png", "a/6.png", "a/8.png", "b/7.png"]
    assert shards.labels is not None
    assert shards.labels.tolist() == ["a"] * 4 + ["b"]
    assert len(shards.skipped) == 4
    assert "2.png" in shards.skipped[0]
    assert len(image_handler().extract_to(tmp_path / "s", data, ["1"], pooling="avg", rows_per_shard=1) or ()) == 5


def test_an_image_that_cannot_be_read_ends_it_and_what_was_finished_stays(photos: Path, tmp_path: Path) -> None:
    (photos / "b" / "7.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"7.png cannot be read"):
        image_handler().extract_to(tmp_path / "s", photos, ["1"], pooling="avg", rows_per_shard=2)
    assert len(list((tmp_path / "s").glob("shard-*"))) == 4


def test_a_changed_file_is_other_data(photos: Path, tmp_path: Path) -> None:
    image_handler().extract_to(tmp_path / "s", photos, ["1"], pooling="avg", rows_per_shard=2)
    Image.new("RGB", (6, 6)).save(photos / "a" / "0.png")
    with pytest.raises(ValueError, match=r"something else: the data \("):
        image_handler().extract_to(tmp_path / "s", photos, ["1"], pooling="avg", rows_per_shard=2)


def test_a_table_of_images(photos: Path, tmp_path: Path) -> None:
    lines = [f"{file.relative_to(photos)},{file.parent.name}" for file in sorted(photos.rglob("*.png"))]
    (photos / "table.csv").write_text("\n".join(["path,label", *lines]))
    table = TableData(photos / "table.csv", input="path", label="label")
    shards = image_handler().extract_to(tmp_path / "s", table, ["1"], pooling="avg", rows_per_shard=4)
    wanted = image_handler().extract(table, ["1"], pooling="avg")
    assert shards is not None
    assert np.array_equal(shards[:].matrix, wanted.matrix)
    assert shards.paths == [line.split(",")[0] for line in lines]


@pytest.mark.parametrize("n", [0, -1, 2.5, True, "3"])
def test_rows_per_shard_are_a_number_above_zero(tmp_path: Path, n: Any) -> None:
    with pytest.raises(ValueError, match="rows_per_shard must be a whole number of at least 1"):
        make_handler().extract_to(tmp_path / "s", X, ["1"], rows_per_shard=n)
    assert not (tmp_path / "s").exists()


def test_empty_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is empty"):
        make_handler().extract_to(tmp_path / "s", X[:0], ["1"])
    assert not (tmp_path / "s").exists()


def test_a_loader_that_shuffles_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"shuffles \(RandomSampler\)"):
        make_handler().extract_to(tmp_path / "s", DataLoader(TensorDataset(X), shuffle=True), ["1"])


def test_what_nothing_identifies_wants_a_key(photos: Path, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    handler = ModelHandler(network, transform=lambda image: ToTensor()(image), verbose=False)
    with pytest.raises(ValueError, match=r"is in the preprocessing, .* key='any text'"):
        handler.extract_to(tmp_path / "s", photos, ["1"], pooling="avg")
    assert handler.extract_to(tmp_path / "s", photos, ["1"], pooling="avg", key="mine")
    with pytest.raises(ValueError, match=r"the key \(mine there, other now\)"):
        handler.extract_to(tmp_path / "s", photos, ["1"], pooling="avg", key="other")


def test_the_extractor_and_the_handler_write_the_same(tmp_path: Path) -> None:
    handler = make_handler()
    extractor = FeatureExtractor(handler.get_module(), ["1"], pooling="flatten", batch_size=2, verbose=False)
    shards = extractor.extract_to(tmp_path / "s", X, rows_per_shard=4)
    assert shards is not None
    assert np.array_equal(shards[:].matrix, handler.extract(X, ["1"]).matrix)

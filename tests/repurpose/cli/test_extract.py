"""`repurpose extract` writes features to shards, and goes on after a break."""

import json
from pathlib import Path

import numpy as np
import pytest

from model_handler import Features, ImageFolderData, ModelHandler, load_source
from model_handler.handler import ModelHandler as Handler
from tests.model_handler.data.tar.tars import image, write_tar
from tests.repurpose.cli.commands import run

TINY = "tiny/net"


def test_a_folder_is_extracted_and_the_next_step_named(photos: Path, tmp_path: Path) -> None:
    result = run("extract", TINY, photos, "--out", tmp_path / "f", "--rows-per-shard", 10)
    assert result.code == 0, result.text
    assert f"{tmp_path / 'f'}: 24 rows of" in result.text
    assert "the same command goes on" in result.stderr
    wanted = ModelHandler(load_source(TINY)).extract(ImageFolderData(photos), ["flat"], pooling="auto")
    shards = Features.open(tmp_path / "f")
    assert np.array_equal(shards.load().matrix, wanted.matrix)
    assert shards.paths is not None
    assert shards.paths[0] == "blue/0.png"


def test_tar_files_and_json(tmp_path: Path) -> None:
    for number in range(2):
        write_tar(tmp_path / f"s-{number}.tar", [("1.png", image(number)), ("1.cls", b"%d" % number)])
    pattern = str(tmp_path / "s-{0..1}.tar")
    result = run("extract", TINY, pattern, "--out", tmp_path / "f", "--layer", "relu", "--pooling", "max", "--json")
    said = json.loads(result.stdout)
    assert (said["complete"], said["n_rows"], said["layers"], said["has_labels"]) == (True, 2, {"relu": 8}, True)


def test_a_table_of_images(photos: Path, tmp_path: Path) -> None:
    files = sorted(photos.rglob("*.png"))
    (tmp_path / "t.csv").write_text("\n".join(["file,kind", *(f"{file},{file.parent.name}" for file in files)]))
    columns = ("--input-column", "file", "--label-column", "kind")
    result = run("extract", TINY, "--table", tmp_path / "t.csv", *columns, "--out", tmp_path / "f")
    assert result.code == 0, result.text
    labels = Features.open(tmp_path / "f").labels
    assert labels is not None
    assert labels.tolist() == [file.parent.name for file in files]


def test_other_features_are_refused(photos: Path, tmp_path: Path) -> None:
    assert run("extract", TINY, photos, "--out", tmp_path / "f").code == 0
    result = run("extract", TINY, photos, "--out", tmp_path / "f", "--layer", "conv")
    assert result.code == 1
    assert "holds features of something else: the layers (['pool'] there, ['conv'] now)" in result.text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give a folder of images or tar files, or a --table"),
        (["a", "b"], "give one folder of images, or tar files alone"),
        (["a.tar", "--on-error", "skip"], "--on-error skip is for folders"),
        (["a", "--table", "t.csv"], "not both"),
        (["--table", "t.csv", "--on-error", "skip"], "--on-error skip is for folders"),
        (["a", "--rows-per-shard", "0"], "Invalid value for '--rows-per-shard'"),
    ],
)
def test_mistakes_in_what_was_typed_end_with_2(tmp_path: Path, arguments: list[str], said: str) -> None:
    result = run("extract", TINY, *arguments, "--out", tmp_path / "f")
    assert result.code == 2
    assert said in result.text.replace("│", "").replace("  ", " ")


def test_an_interruption_leaves_what_is_finished(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows_of = Handler._rows_of

    def interrupted(self: Handler, names: list[str], poolings: list[str]) -> object:
        compute, n = rows_of(self, names, poolings), iter(range(100))

        def rows(batch: object) -> object:
            if next(n) == 2:
                raise KeyboardInterrupt
            return compute(batch)

        return rows

    command = ("extract", TINY, photos, "--out", tmp_path / "f", "--rows-per-shard", 8, "--batch-size", 4)
    with monkeypatch.context() as patch:
        patch.setattr(Handler, "_rows_of", interrupted)
        result = run(*command)
    assert result.code == 130
    assert "has 1 finished shard; after a break, the same command goes on behind them" in result.stderr
    assert [file.name for file in (tmp_path / "f").glob("*shard-*")] == ["shard-000000.safetensors"]
    assert "24 rows of" in run(*command).text

"""The directory of shards is one of its own."""

from pathlib import Path

import pytest

from model_handler import CorruptFileError, FormatVersionError
from model_handler.feature_shards.directory import ShardDirectory
from model_handler.features.manifests import MANIFEST, Manifest
from model_handler.files.canonical_json import with_own_hash

WANTED = Manifest(["1"], 4, 10, 3, None, {"data": "x", "layers": ["1"]})


def test_it_is_made_and_gone_on_with(tmp_path: Path) -> None:
    assert not ShardDirectory(tmp_path / "a" / "b", WANTED).is_complete
    assert ShardDirectory(tmp_path / "a" / "b", WANTED).manifest == WANTED


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file is a file; give the directory"):
        ShardDirectory(tmp_path / "file", WANTED)


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(ValueError, match=r"holds other files, such as 'thesis.txt'"):
        ShardDirectory(tmp_path, WANTED)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_damaged_manifest_is_told(tmp_path: Path) -> None:
    ShardDirectory(tmp_path / "s", WANTED)
    text = (tmp_path / "s" / MANIFEST).read_text()
    for damaged in (text[:-9], text.replace('"n_rows":10', '"n_rows":11'), "", "[]"):
        (tmp_path / "s" / MANIFEST).write_text(damaged)
        with pytest.raises(CorruptFileError, match=r"manifest.json"):
            ShardDirectory(tmp_path / "s", WANTED)


def test_a_later_format_is_told(tmp_path: Path) -> None:
    tmp_path.joinpath(MANIFEST).write_text(with_own_hash({"feature_shards": 2}))
    with pytest.raises(FormatVersionError, match="has format 2, and this version reads up to 1"):
        ShardDirectory(tmp_path, WANTED)

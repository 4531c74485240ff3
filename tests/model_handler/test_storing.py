"""What others may do with the files that are written."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from model_handler import Features
from model_handler.storing import store_arrays


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_file_may_be_read_by_all_whom_the_umask_allows(tmp_path: Path, umask: int) -> None:
    Features({"0": np.eye(2)}, [0, 1]).save(tmp_path / "new" / "features.safetensors")
    assert mode_of(tmp_path / "new" / "features.safetensors") == 0o666 & ~umask
    assert mode_of(tmp_path / "new") == 0o777 & ~umask


def test_a_file_that_is_replaced_lets_others_do_what_it_did(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.touch()
    file.chmod(0o640)
    store_arrays({"x": np.arange(3)}, file)
    assert mode_of(file) == 0o640
    assert load_file(file)["x"].tolist() == [0, 1, 2]


def test_a_failed_write_leaves_no_empty_file_and_the_old_one_whole(tmp_path: Path) -> None:
    unwritable = {"x": np.array(["text"])}
    with pytest.raises(OSError, match="cannot be written: Unknown dtype"):
        store_arrays(unwritable, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    store_arrays({"x": np.arange(3)}, tmp_path / "old")
    with pytest.raises(OSError, match="cannot be written: Unknown dtype"):
        store_arrays(unwritable, tmp_path / "old")
    assert load_file(tmp_path / "old")["x"].tolist() == [0, 1, 2]
    with pytest.raises(FileNotFoundError):
        store_arrays({}, tmp_path / "no" / "folder")

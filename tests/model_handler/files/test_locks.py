"""Locks keep other writers out, also where processes are forked meanwhile, and a system without them is told of."""

import errno
import logging
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from model_handler.files.locks import locked


def test_one_at_a_time_holds_a_lock_and_the_next_one_when_it_is_given_back(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path / "lock", seconds=0) as excludes:
            assert excludes
            with (
                pytest.raises(TimeoutError, match=r"lock has been locked by another writer for 0\.02 seconds"),
                locked(tmp_path / "lock", seconds=0.02),
            ):
                pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_process_forked_meanwhile_does_not_keep_the_lock(tmp_path: Path) -> None:
    with locked(tmp_path / "lock", seconds=0):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
        child.start()  # as a worker that reads data does, in another thread
    try:
        with locked(tmp_path / "lock", seconds=0) as excludes:
            assert excludes
    finally:
        child.kill()
        child.join()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_written_to_and_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def flock(handle: int, operation: int) -> None:
        raise OSError(code, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    with caplog.at_level(logging.WARNING), locked(tmp_path / "lock", seconds=0) as excludes:
        assert not excludes
    assert f"{tmp_path / 'lock'}: writers do not exclude each other here" in caplog.text


def test_a_lock_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="lock cannot be written"), locked(tmp_path / "no" / "lock", seconds=0):
        pass


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="lock cannot be written"), locked(tmp_path / "lock", seconds=0):
        pass
    assert not (tmp_path / "elsewhere").exists()

"""The store is bounded, outlives two processes at once, and keeps labels of every kind."""

import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest

from model_handler.feature_cache import store
from model_handler.feature_cache.store import Entry, FeatureStore

KEYS = [f"{number:064x}" for number in range(4)]


def entry(n_rows: int = 100, labels: np.ndarray | None = None) -> Entry:
    return Entry(np.full((n_rows, 5), 7, np.float32), [2, 3], [["tensor", ["0", [4]]]], labels)


@pytest.mark.parametrize(
    "labels", [None, np.array([3, 1, 2]), np.array([0.5, np.nan, 1]), np.array(list("abc")), np.array(["a", None, "c"])]
)
def test_an_entry_comes_back_as_it_was(labels: np.ndarray | None, tmp_path: Path) -> None:
    FeatureStore(tmp_path).write(KEYS[0], entry(3, labels))
    found = FeatureStore(tmp_path).read(KEYS[0], 2)
    assert found is not None
    assert np.array_equal(found.matrix, entry(3).matrix)
    assert (found.widths, found.shapes) == ([2, 3], [["tensor", ["0", [4]]]])
    assert found.labels is labels is None or str(found.labels) == str(labels)


def test_what_was_used_least_recently_goes_first_and_the_newest_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = FeatureStore(tmp_path)
    kept.write(KEYS[0], entry())
    size = next(tmp_path.iterdir()).stat().st_size
    monkeypatch.setattr(store, "MOST_BYTES", int(3.5 * size))
    for key in KEYS[1:3]:
        kept.write(key, entry())
    for age, key in enumerate(KEYS[2::-1]):
        os.utime(tmp_path / f"{key}.features", (time.time() - 1000 + age,) * 2)  # the last one written is the oldest
    (tmp_path / "mine.txt").write_text("x" * 10 * size)  # which is nobody's but the user's
    assert kept.read(KEYS[2], 2)  # and now the one used last
    kept.write(KEYS[3], entry())
    assert [kept.read(key, 2) is not None for key in KEYS] == [True, False, True, True]
    monkeypatch.setattr(store, "MOST_BYTES", size)
    kept.write(KEYS[1], entry())
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{KEYS[1]}.features", "mine.txt"]


def test_an_entry_that_is_too_large_alone_costs_no_other_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = FeatureStore(tmp_path)
    kept.write(KEYS[0], entry())
    monkeypatch.setattr(store, "MOST_BYTES", 2000)
    with pytest.warns(UserWarning, match=r"could not be kept in .*: 2,020 bytes are more than the 2,000 "):
        kept.write(KEYS[1], entry(101))
    assert [kept.read(key, 2) is not None for key in KEYS[:2]] == [True, False]


def test_an_entry_of_other_layers_is_damaged(tmp_path: Path) -> None:
    FeatureStore(tmp_path).write(KEYS[0], entry())
    with pytest.warns(UserWarning, match="its parts do not fit"):
        assert FeatureStore(tmp_path).read(KEYS[0], 3) is None


def write_read_and_remove(folder: Path, number: int) -> None:
    kept = FeatureStore(folder)
    for turn in range(30):
        for key in ("a" * 64, f"{number}{turn % 10}" * 32):
            kept.write(key, Entry(np.full((300, 5), turn, np.float32), [5], [], None))
            found = kept.read(key, 1)
            assert found is None or (found.matrix == found.matrix[0, 0]).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that begin where this one is")
@pytest.mark.filterwarnings("error")
def test_two_processes_write_read_and_remove_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST_BYTES", 20_000)  # so that each removes what the other wrote
    start = multiprocessing.get_context("fork").Process
    writers = [start(target=write_read_and_remove, args=(tmp_path, number)) for number in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".features"]

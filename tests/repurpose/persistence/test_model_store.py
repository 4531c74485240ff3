"""A store of versions: whole at any moment, whoever is killed, writes, reads or removes; and what it does not take."""

import errno
import json
import multiprocessing
import os
import shutil
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_handler.errors import CorruptFileError, FormatVersionError, UnsafeFileError
from repurpose import LrRepurposer, ModelStore
from repurpose.persistence import model_store
from tests.repurpose.examples import blobs, identity_network, lr

X, Y = blobs(20)
NETWORK = identity_network()
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@cache
def trained(c: float = 1.0) -> LrRepurposer:
    return LrRepurposer(NETWORK, ["0"], c=c).repurpose((X, Y))


def store_of(path: Path, *penalties: float) -> ModelStore:
    store = ModelStore(path)
    for c in penalties:
        store.save(trained(c))
    return store


def loaded_c(store: ModelStore, version: int | None = None) -> float:
    """The parameter by which the versions of these tests differ."""
    return store.load(version, source_model=NETWORK).c


def numbers(store: ModelStore) -> list[int]:
    return [version.number for version in store.list()]


def folders(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir() if each.is_dir())


def test_versions_are_numbered_from_one_and_each_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "new" / "models")
    assert store.list() == ()
    first, second = trained(0.1), trained(2.0)
    assert [store.save(first), store.save(second)] == [1, 2]
    again = ModelStore(tmp_path / "new" / "models")
    for number, saved in ((1, first), (2, second)):
        answers = again.load(number, source_model=NETWORK).predict_probability(X)
        assert np.array_equal(answers, saved.predict_probability(X))


def test_the_promoted_version_is_loaded_else_the_newest(tmp_path: Path) -> None:
    store = store_of(tmp_path, 0.1, 0.2, 0.3)
    assert loaded_c(store) == 0.3
    store.promote(2)
    store.save(trained(0.4))
    assert loaded_c(store) == 0.2
    assert [version.promoted for version in store.list()] == [False, True, False, False]
    store.promote(1)
    assert [version.number for version in store.list() if version.promoted] == [1]


def test_a_record_tells_date_class_size_and_hash_and_needs_no_file_but_the_index(tmp_path: Path) -> None:
    store = store_of(tmp_path, 0.1, 0.2)
    sizes = [sum(file.stat().st_size for file in (tmp_path / name).iterdir()) for name in ("000001", "000002")]
    for name in ("000001", "000002"):
        shutil.rmtree(tmp_path / name)
    first, second = store.list()
    assert [first.size, second.size] == sizes
    assert first.class_name == "repurpose.meta_model.lr_repurposer:LrRepurposer"
    assert first.sha256 != second.sha256
    assert timedelta(0) <= second.saved_at - first.saved_at <= datetime.now(UTC) - first.saved_at


def test_an_unknown_version_is_refused_with_those_that_are_there(tmp_path: Path) -> None:
    absent = ModelStore(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="has no version of a model yet"):
        absent.load()
    with pytest.raises(FileNotFoundError, match="has no version 1, which was never saved; there is none at all"):
        absent.promote(1)
    assert absent.prune(1) == ()
    assert not absent.path.exists()
    store = store_of(tmp_path, 0.1, 0.2, 0.3)
    store.prune(2)
    for call in (store.load, store.promote):
        with pytest.raises(FileNotFoundError, match=r"has no version 7, which was never saved; there are 2, 3$"):
            call(7)
        with pytest.raises(FileNotFoundError, match=r"has no version 1, which was removed by prune; there are 2, 3$"):
            call(1)
        for wrong in ("2", 0, True, 2.0):
            with pytest.raises(ValueError, match="version is a number from 1"):
                call(wrong)  # type: ignore[arg-type]


def test_pruning_keeps_the_newest_and_the_promoted_and_no_number_comes_twice(tmp_path: Path) -> None:
    store = store_of(tmp_path, *np.linspace(0.1, 0.5, 5))
    store.promote(2)
    assert store.prune(1) == (1, 3, 4)
    assert numbers(store) == [2, 5]
    assert folders(tmp_path) == ["000002", "000005"]
    assert store.prune(9) == ()
    assert store.save(trained()) == 6
    with pytest.raises(ValueError, match="keep is the number of versions to keep, at least 1, got 0"):
        store.prune(0)


def test_options_of_saving_and_loading_are_passed_on(tmp_path: Path) -> None:
    given: list[dict[str, Any]] = []

    class Noting(LrRepurposer):
        def save_repurposer(self, path: Any, **options: Any) -> str:
            given.append(options)
            return super().save_repurposer(path)

    store = ModelStore(tmp_path)
    store.save(Noting(NETWORK, ["0"], c=1.0).repurpose((X, Y)), overwrite=False)
    assert given == [{"overwrite": False}]
    assert store.load(source_model=NETWORK, batch_size=7).batch_size == 7


def test_the_hash_of_a_version_is_the_one_that_saving_returned_and_is_demanded(tmp_path: Path) -> None:
    store, key = ModelStore(tmp_path / "models"), bytes(32)
    store.save(trained())
    store.save(trained(), encryption_key=key)
    assert store.list()[0].sha256 == trained().save_repurposer(tmp_path / "saved")
    assert store.load(2, source_model=NETWORK, encryption_key=key).c == 1.0
    with pytest.raises(CorruptFileError, match="where 000000000000"):
        store.load(1, source_model=NETWORK, expected_hash="0" * 64)


def test_what_cannot_be_saved_makes_no_version(tmp_path: Path) -> None:
    store, untrained = store_of(tmp_path, 0.1), lr()
    with pytest.raises(TypeError, match=r"keeps Repurposers, which have save_repurposer\(path\), got int"):
        store.save(7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has not learned anything yet"):
        store.save(untrained)
    broken = lr().repurpose((X, Y))
    broken.strange_ = object()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="cannot be saved"):
        store.save(broken)
    assert numbers(store) == [1]
    assert folders(tmp_path) == ["000001"]
    assert store.save(trained()) == 2


@pytest.mark.parametrize("after", [False, True])
def test_an_interruption_leaves_whole_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    store, write = store_of(tmp_path, 0.1), model_store.write_index

    def interrupted(*arguments: Any) -> None:
        if after:
            write(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(model_store, "write_index", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.save(trained(0.2))
    assert numbers(store) == ([1, 2] if after else [1])
    assert folders(tmp_path) == ["000001", "000002"][: 1 + after]
    assert [loaded_c(store, number) for number in numbers(store)] == [0.1, 0.2][: 1 + after]


def test_a_file_system_without_locks_is_refused_and_nothing_saved_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    store = store_of(tmp_path / "models", 0.5)

    def flock(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="without locks"):
        store.save(trained())
    assert (numbers(store), folders(store.path)) == ([1], ["000001"])


def save_some(path: Path, first: float, n: int) -> None:
    for number in range(n):
        store_of(path, first + number)


@forks
def test_two_processes_that_save_ten_versions_each_make_twenty(tmp_path: Path) -> None:
    context, path = multiprocessing.get_context("fork"), tmp_path / "models"
    writers = [context.Process(target=save_some, args=(path, first, 10)) for first in (1.0, 101.0)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    store = ModelStore(path)
    assert numbers(store) == list(range(1, 21))
    found = [loaded_c(store, number) for number in numbers(store)]
    assert sorted(found) == [*np.arange(1.0, 11.0), *np.arange(101.0, 111.0)]


def do(action: str, store: ModelStore) -> None:
    if action == "save":
        store.save(trained(0.9))
    elif action == "promote":
        store.promote(2)
    else:
        store.prune(1)


@forks
@pytest.mark.parametrize("action", ["save", "promote", "prune"])
def test_a_kill_at_any_step_leaves_whole_versions_and_nothing_after_the_next_save(tmp_path: Path, action: str) -> None:
    """Every renaming, removal and making of a directory is a step, before which the process ends, as at a kill."""
    n_steps, before = 0, [] if action == "save" else [0.1, 0.2, 0.3]
    store_of(tmp_path / "before", *before)
    while True:
        path = tmp_path / str(n_steps)
        if before:
            shutil.copytree(tmp_path / "before", path)
        store = ModelStore(path)
        if (child := os.fork()) == 0:
            end_at(n_steps)
            do(action, store)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        found = [loaded_c(store, number) for number in numbers(store)]
        assert found in (before, {"save": [0.9], "promote": before, "prune": [0.3]}[action])
        assert sum(version.promoted for version in store.list()) <= (action == "promote")
        assert store.save(trained(0.7)) == len(before) + (len(found) if action == "save" else 0) + 1
        assert folders(path) == [f"{number:06d}" for number in numbers(store)]
        assert not [file.name for file in path.rglob("*.writing-*")]
        if os.waitstatus_to_exitcode(status) == 0:
            break
        n_steps += 1
    assert n_steps >= {"save": 5, "promote": 1, "prune": 3}[action]


def end_at(step: int) -> None:
    """End this process before the step of that number."""
    left = [step]

    def ending(function: Any) -> Any:
        def instead(*arguments: Any, **options: Any) -> Any:
            if left[0] == 0:
                os._exit(9)
            left[0] -= 1
            return function(*arguments, **options)

        return instead

    for name in ("replace", "mkdir", "unlink", "rmdir"):
        setattr(os, name, ending(getattr(os, name)))


def test_a_reader_of_the_default_goes_on_with_the_new_one_when_its_version_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, load = store_of(tmp_path, 0.1, 0.2), model_store.load
    store.promote(1)

    def removed_meanwhile(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "000001":
            store.promote(2)
            store.prune(1)
        return load(path, *arguments, **options)

    monkeypatch.setattr(model_store, "load", removed_meanwhile)
    assert loaded_c(store) == 0.2


def test_a_reader_of_a_version_that_is_removed_meanwhile_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, load = store_of(tmp_path, 0.1, 0.2), model_store.load

    def removed_meanwhile(path: Path, *arguments: Any, **options: Any) -> Any:
        store.prune(1)
        return load(path, *arguments, **options)

    monkeypatch.setattr(model_store, "load", removed_meanwhile)
    with pytest.raises(FileNotFoundError, match="has no version 1, which was removed by prune"):
        loaded_c(store, 1)


def test_a_version_that_is_not_what_was_saved_is_refused(tmp_path: Path) -> None:
    store = store_of(tmp_path, 0.1, 0.2)
    trained(0.5).save_repurposer(tmp_path / "000001")  # whole in itself, and another model
    with pytest.raises(CorruptFileError, match=r"000001.* has the hash \w{12}\.\.\., where \w{12}\.\.\. was expected"):
        loaded_c(store, 1)
    arrays = next((tmp_path / "000002").glob("arrays-*"))
    arrays.write_bytes(arrays.read_bytes()[:-1])
    with pytest.raises(CorruptFileError, match=r"arrays-\w+.safetensors is damaged"):
        loaded_c(store, 2)
    shutil.rmtree(tmp_path / "000002")
    with pytest.raises(FileNotFoundError, match=r"no saved repurposer at .*000002"):
        loaded_c(store, 2)


def test_a_directory_of_other_things_is_refused_and_stays_as_it_was(tmp_path: Path) -> None:
    trained().save_repurposer(tmp_path / "saved")
    (tmp_path / "numbers" / "000001").mkdir(parents=True)  # as of a store whose index is lost
    (tmp_path / "file").write_text("x")
    for name, holds in (("saved", "README.md"), ("numbers", "000001")):
        before = sorted((tmp_path / name).iterdir())
        for call in (
            lambda store: store.save(trained()),
            ModelStore.list,
            ModelStore.load,
            lambda store: store.prune(1),
        ):
            with pytest.raises(
                FileExistsError, match=rf"is no store of models: it has no store.json, and holds .*{holds}"
            ):
                call(ModelStore(tmp_path / name))  # type: ignore[operator]
        assert sorted((tmp_path / name).iterdir()) == before
    with pytest.raises(FileExistsError, match="is a file, not a directory"):
        ModelStore(tmp_path / "file").save(trained())


def test_links_pipes_and_odd_names_are_neither_followed_nor_removed(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "models", tmp_path / "elsewhere"
    store = store_of(path, 0.1, 0.2)
    trained(0.5).save_repurposer(elsewhere)
    os.mkfifo(path / "pipe")
    os.mkfifo(path / "000009")
    (path / "..odd\n").mkdir()
    (path / "000007").symlink_to(elsewhere)
    assert store.prune(2) == ()
    assert store.save(trained(0.3)) == 3
    assert {"pipe", "000009", "..odd\n", "000007"} <= set(os.listdir(path))
    shutil.rmtree(path / "000002")
    (path / "000002").symlink_to(elsewhere)
    with pytest.raises(UnsafeFileError, match="000002 is a symbolic link, where version 2 was expected"):
        loaded_c(store, 2)
    assert store.prune(1) == (1, 2)
    assert loaded_c_of(elsewhere) == 0.5
    (path / "000004").symlink_to(elsewhere)
    with pytest.raises(FileExistsError, match="000004 is a file or a link"):
        store.save(trained())
    assert loaded_c_of(elsewhere) == 0.5
    assert numbers(store) == [3]


def loaded_c_of(path: Path) -> float:
    from repurpose import load

    return load(path, source_model=NETWORK).c


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_an_index_that_is_no_file_of_its_own_is_refused(tmp_path: Path, kind: str) -> None:
    store_of(tmp_path / "other", 0.1)
    path = tmp_path / "models"
    path.mkdir()
    index = path / "store.json"
    if kind == "link":
        index.symlink_to(tmp_path / "other" / "store.json")
    elif kind == "pipe":
        os.mkfifo(index)
    else:
        index.mkdir()
    for call in (ModelStore.list, lambda store: store.save(trained())):
        with pytest.raises(UnsafeFileError, match=r"models/store\.json"):
            call(ModelStore(path))  # type: ignore[operator]


def test_an_index_with_any_byte_changed_is_refused_and_nothing_is_removed(tmp_path: Path) -> None:
    store = store_of(tmp_path, 0.1, 0.2)
    index, names = tmp_path / "store.json", folders(tmp_path)
    whole = index.read_bytes()
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        index.write_bytes(damaged)
        for call in (store.list, store.load, lambda: store.prune(1)):
            with pytest.raises(CorruptFileError, match=r"store\.json is damaged"):
                call()
    assert folders(tmp_path) == names


def test_an_index_of_a_newer_format_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repurpose.persistence.store_index._FORMAT", 2)
    store = store_of(tmp_path, 0.1)
    monkeypatch.undo()
    assert json.loads((tmp_path / "store.json").read_text())["content"]["format"] == 2
    with pytest.raises(FormatVersionError, match="has format 2, and this version reads formats up to 1: upgrade"):
        store.list()

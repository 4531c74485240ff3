"""`ModelStore`: numbered versions of one model in a directory, one of which is promoted.

Each version is a directory as `save_repurposer` writes it, called by its number; `store.json` lists them. A version is
there once it is listed, and gone once it is not: a version is saved first and listed then, and taken from the list
first and removed then, each time by one atomic replacement. Writers hold one lock of the system, under which whatever
is not listed, as a killed writer leaves it, is removed.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from model_handler import Source
from model_handler.errors import CorruptFileError, UnsafeFileError
from model_handler.files.locks import locked
from model_handler.files.whole_files import is_being_written, make_folder
from repurpose.parameters import is_whole
from repurpose.persistence.container.generations import LOCK
from repurpose.persistence.loading import load
from repurpose.persistence.registry import class_name
from repurpose.persistence.store_index import INDEX, Index, ModelVersion, read_index, write_index

__all__ = ["ModelStore"]

_FOLDER = re.compile(r"[0-9]{6,}")
_SECONDS = 600.0  # to wait for another writer, who may be saving a large model
_TRIES = 20  # of a reader, in each of which the version that is to be loaded was replaced by another


class Savable(Protocol):
    """What a store can save: a Repurposer."""

    @property
    def save_repurposer(self) -> Callable[..., str]:
        """What writes it to a path and returns the hash of that, as `Repurposer.save_repurposer` does."""
        ...


class ModelStore:
    """Numbered versions of one model in the directory `path`, for training that saves and services that load.

    Any number of processes of one machine may use it at a time, in any way: each version is there whole or not at all,
    no number comes twice, and what a killed writer leaves goes when the next one writes. Versions are never changed.
    The directory is made when the first one is saved. Put nothing of your own into it.

    Every method raises FileExistsError where `path` is something else than a store, CorruptFileError where its index
    is damaged, and UnsafeFileError where a link, a pipe or the like is in the place of one of its files; what else
    lies there is neither followed nor removed. Writing raises TimeoutError where another writer takes ten minutes,
    and OSError on a file system without locks.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import LrRepurposer, ModelStore
    >>> X, y = make_blobs(30, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> store = ModelStore("models")
    >>> for c in (0.1, 1.0):
    ...     number = store.save(LrRepurposer(network, c=c).repurpose((X, y)))
    >>> store.promote(1)
    >>> [(version.number, version.promoted) for version in store.list()]
    [(1, True), (2, False)]
    >>> store.load(source_model=network).c, store.load(2, source_model=network).c
    (0.1, 1.0)
    """

    def __init__(self, path: str | PathLike) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"ModelStore({str(self.path)!r})"

    def save(self, repurposer: Savable, **save_options: Any) -> int:
        """Save a trained repurposer as the next version, and return its number, from 1; it is not promoted.

        `save_options` are those of `Repurposer.save_repurposer`, which also tells what it raises; nothing is saved
        then.
        """
        if not hasattr(repurposer, "save_repurposer"):
            raise TypeError(
                f"a store keeps Repurposers, which have save_repurposer(path), got {type(repurposer).__name__}"
            )
        with self._writing() as index:
            folder = self._folder(index.next_number)
            try:
                digest = repurposer.save_repurposer(folder, **save_options)
                version = self._described(index.next_number, type(repurposer), digest)
                write_index(self.path, Index((*index.versions, version)))
            except BaseException:  # an interruption from the keyboard too, which may come after the index was written
                self._remove_what_is_not_listed()
                raise
        return version.number

    def load(
        self, version: int | None = None, source_model: nn.Module | Source | str | None = None, **load_options: Any
    ) -> Any:
        """Load a version: by its number, else the promoted one, or where none is promoted, the newest.

        Parameters
        ----------
        version : int, optional
            One of the numbers in `list`.
        source_model, **load_options
            As in `repurpose.load`.

        Raises
        ------
        FileNotFoundError
            Where there is no such version, saying which there are; also where it is removed meanwhile.
        CorruptFileError
            Where its files are not those that were saved as this version.
        ValueError
            As in `repurpose.load`.
        """
        for attempt in range(_TRIES):
            found = self._find(version)
            try:
                folder = self._folder(found.number)
                if folder.is_symlink():
                    raise UnsafeFileError(f"{folder} is a symbolic link, where version {found.number} was expected")
                return load(folder, source_model, **{"expected_hash": found.sha256, **load_options})
            except (FileNotFoundError, CorruptFileError):
                # One that is listed still is damaged; of another, the next attempt says that it is gone.
                if attempt == _TRIES - 1 or self._index().find(found.number) is not None:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def list(self) -> tuple[ModelVersion, ...]:
        """Return all versions, the oldest first, from the index alone; none where nothing was saved yet."""
        return self._index().versions

    def promote(self, version: int) -> None:
        """Make a version the one that `load` gives from now on. Raises FileNotFoundError where there is no such one."""
        self._find(version)  # before a directory is made where no store is
        with self._writing() as index:
            number = self._found_in(index, version).number
            versions = (replace(each, promoted=each.number == number) for each in index.versions)
            write_index(self.path, Index(tuple(versions)))

    def prune(self, keep: int) -> tuple[int, ...]:
        """Remove all versions but the newest `keep` and the promoted one, and return their numbers.

        A process that is loading one of them gets FileNotFoundError. Raises ValueError for a `keep` below 1.
        """
        if not is_whole(keep, 1):
            raise ValueError(f"keep is the number of versions to keep, at least 1, got {keep!r}")
        if not self.list():
            return ()
        with self._writing() as index:
            kept = tuple(each for each in index.versions if each in index.versions[-keep:] or each.promoted)
            write_index(self.path, Index(kept))
            self._remove_what_is_not_listed()
        return tuple(version.number for version in index.versions if version not in kept)

    @contextmanager
    def _writing(self) -> Iterator[Index]:
        """Be the only writer inside this block, and get the index as it is now."""
        self._index()  # before anything is made in a directory that is no store
        make_folder(self.path)
        with locked(self.path / LOCK, seconds=_SECONDS) as is_alone:
            if not is_alone:
                raise OSError(
                    f"{self.path} is on a file system without locks, where two writers could take one number: save by "
                    "save_repurposer(path) there, or keep the store on another"
                )
            index = self._index()
            if not (self.path / INDEX).exists():  # before the first version: without it, that would be of somebody else
                write_index(self.path, index)
            self._remove_what_is_not_listed()
            yield index

    def _index(self) -> Index:
        """Read the index; it is empty where nothing was saved yet. Raises FileExistsError for what is no store."""
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"{self.path} is a file, not a directory; give the path of a new directory")
        with suppress(FileNotFoundError):
            return read_index(self.path)
        names = sorted(file.name for file in self.path.iterdir()) if self.path.exists() else []
        if INDEX in names:  # another process made the store since
            return read_index(self.path)
        if others := [name for name in names if name != LOCK and not is_being_written(name, INDEX)]:
            raise FileExistsError(
                f"{self.path} is no store of models: it has no {INDEX}, and holds {', '.join(others[:3])}; give the "
                "path of a store or of a new directory"
            )
        return Index()

    def _find(self, number: int | None) -> ModelVersion:
        index = self._index()
        if number is not None:
            return self._found_in(index, number)
        if not index.versions:
            raise FileNotFoundError(f"{self.path} has no version of a model yet: save(repurposer) makes one")
        return index.promoted or index.versions[-1]

    def _found_in(self, index: Index, number: int) -> ModelVersion:
        if not is_whole(number, 1):
            raise ValueError(f"version is a number from 1, as in list(), got {number!r}")
        if (found := index.find(int(number))) is not None:
            return found
        numbers = [version.number for version in index.versions]
        reason = "was removed by prune" if number < index.next_number else "was never saved"
        there = f"there are {', '.join(map(str, numbers[-10:]))}" if numbers else "there is none at all"
        raise FileNotFoundError(f"{self.path} has no version {number}, which {reason}; {there}")

    def _folder(self, number: int) -> Path:
        return self.path / f"{number:06d}"

    def _described(self, number: int, cls: type, digest: str) -> ModelVersion:
        size = sum(file.lstat().st_size for file in self._folder(number).iterdir())
        return ModelVersion(number, datetime.now(UTC), class_name(cls), size, digest)

    def _remove_what_is_not_listed(self) -> None:
        """Remove directories of versions that the index does not list; only by who holds the lock."""
        listed = {version.number for version in self._index().versions}
        for path in self.path.iterdir():
            is_ours = _FOLDER.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
            if is_ours and int(path.name) not in listed:
                shutil.rmtree(path, ignore_errors=True)  # what stays, open in another process, goes the next time

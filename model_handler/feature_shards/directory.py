"""The directory of shards: made, or gone on with where it was begun by the same; each process alone writes its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from model_handler.errors import CorruptFileError, with_fix
from model_handler.feature_shards.fingerprint import differences
from model_handler.feature_shards.ranks import Rank
from model_handler.features.manifests import Manifest, read_manifest, write_manifest
from model_handler.features.shard_files import entry_of, shard_name
from model_handler.features.sharded_features import completed
from model_handler.files.locks import locked
from model_handler.files.whole_files import is_being_written, make_folder, remove_left_behind
from model_handler.user_warnings import warn_user

__all__ = ["ShardDirectory", "writing_alone"]

# Workers that read data for a killed process have its lock until they notice, which takes torch's five seconds.
SECONDS = 15.0


class ShardDirectory:
    """A directory of shards that are parts of what `wanted` says.

    Raises
    ------
    NotADirectoryError
        For a path that is a file.
    ValueError
        Where the directory holds features of something else, naming what differs, or other files.
    CorruptFileError
        For a damaged manifest.
    """

    def __init__(self, path: str | PathLike[str], wanted: Manifest) -> None:
        self.path = Path(path)
        self.manifest = self._begun(wanted)

    @property
    def is_complete(self) -> bool:
        """Whether it lists all shards, and holds them."""
        listed = self.manifest.shards
        return listed is not None and all(self.first_row(number) is not None for number in range(len(listed)))

    def first_row(self, number: int) -> int | None:
        """Return the number of the first row of a shard; None if it is missing, or damaged, and then removed."""
        try:
            found = entry_of(self.path, number, self.manifest)
        except CorruptFileError as error:
            warn_user(f"a shard is computed again: {error}")
            (self.path / shard_name(number)).unlink()
            return None
        return None if found is None else found[0].first

    def complete(self, n_shards: int, n_rows: int) -> bool:
        """List all shards in the manifest where they are there, and tell whether they are."""
        if not all((self.path / shard_name(number)).is_file() for number in range(n_shards)):
            return False
        self.manifest = completed(self.path, replace(self.manifest, n_shards=n_shards, n_rows=n_rows))
        write_manifest(self.path, self.manifest)
        return True

    def _begun(self, wanted: Manifest) -> Manifest:
        if self.path.exists() and not self.path.is_dir():
            raise NotADirectoryError(f"{self.path} is a file; give the directory that the shards are to be in")
        make_folder(self.path)
        others = [file.name for file in self.path.iterdir() if not _is_ours(file.name)]  # before the manifest is read
        there = read_manifest(self.path)
        if there is None:
            if others:
                raise ValueError(f"{self.path} holds other files, such as {others[0]!r}; give a directory of its own")
            write_manifest(self.path, wanted)
            return wanted
        if found := _differences(there, wanted):
            raise with_fix(
                ValueError,
                f"{self.path} holds features of something else: {'; '.join(found)}",
                python="give another directory, or delete this one",
            )
        return there


@contextmanager
def writing_alone(path: Path, rank: Rank) -> Iterator[None]:
    """Hold the lock of this rank's shards in a directory. Raises TimeoutError where another process writes them."""
    lock = path / f".{rank.index}-of-{rank.of}.lock"
    try:
        with locked(lock, seconds=SECONDS):
            remove_left_behind(path, shard_name(0)[:5])
            yield
    except TimeoutError as error:
        raise TimeoutError(
            f"another process is writing features to {path} ({error}); let it end, and call again"
        ) from None


def _differences(there: Manifest, wanted: Manifest) -> list[str]:
    parts: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (dict(there.computed_by), dict(wanted.computed_by)),
        ({"rows_per_shard": there.rows_per_shard}, {"rows_per_shard": wanted.rows_per_shard}),
        ({"class names": there.class_names}, {"class names": wanted.class_names}),
    ]
    return [said for pair in parts for said in differences(*pair)]


def _is_ours(name: str) -> bool:
    return is_being_written(name) or (name.startswith(".") and name.endswith(".lock"))

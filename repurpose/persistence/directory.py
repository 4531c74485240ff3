"""A directory is written as a whole: the old one or the new one is there, never half of either, whatever fails."""

import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from uuid import uuid4

__all__ = ["check_parents", "refuse_other_contents", "replace_directory"]


def replace_directory(
    path: Path, write: Callable[[Path], None], *, marker: str, may_hold: Callable[[str], bool]
) -> None:
    """Let `write` fill a new directory and put it at `path`, whose parents are made where they are missing.

    Raises FileExistsError, with nothing changed, if `path` is a file, or a directory with contents that lacks the file
    `marker` or holds names that `may_hold` denies.
    """
    path = Path(os.path.abspath(path))
    refuse_other_contents(path, marker, may_hold)
    path.parent.mkdir(parents=True, exist_ok=True)
    # On the same disk, since a rename across disks is a copy, which can fail half way.
    fresh = _beside(path)
    fresh.mkdir()
    try:
        write(fresh)
        _swap(fresh, path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def check_parents(path: str | os.PathLike) -> None:
    """Raise OSError unless the nearest directory above `path` that exists can be written to, which is tried."""
    above = next(parent for parent in Path(os.path.abspath(path)).parents if parent.exists())
    if not above.is_dir():
        raise NotADirectoryError(f"nothing can be written to {path}: {above} is not a directory")
    probe = _beside(above / Path(os.path.abspath(path)).name)
    try:  # `os.access` says yes to root, also on a disk that is mounted to be read only
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = f"{above} does not take new files ({error.strerror})"
        raise type(error)(f"nothing can be written to {path}: {reason}") from error


def refuse_other_contents(path: Path, marker: str, may_hold: Callable[[str], bool]) -> None:
    """Raise FileExistsError as `replace_directory` does, without writing."""
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_dir() or path.is_symlink():
        raise FileExistsError(f"{path} is a file or a link, not a directory; give the path of a new directory")
    if os.path.ismount(path):
        raise FileExistsError(
            f"{path} is a mount point, whose directory cannot be exchanged as a whole; give one in it: {path / 'saved'}"
        )
    names = {entry.name for entry in path.iterdir()}
    if names and marker not in names:
        raise FileExistsError(f"{path} holds other things ({_some(names)}); give the path of a new directory")
    if others := {name for name in names if not may_hold(name)}:
        raise FileExistsError(
            f"{path} holds a saved repurposer and other files besides ({_some(others)}); move them, or give another "
            "path"
        )


def _swap(fresh: Path, path: Path) -> None:
    """Rename `fresh` to `path`; an old directory there stands aside until that has succeeded."""
    if not path.exists():
        fresh.rename(path)
        return
    aside = _beside(path)
    path.rename(aside)
    try:
        fresh.rename(path)
    # An interruption between the two renames must not leave the user without either.
    except BaseException:
        aside.rename(path)
        raise
    # The new one is in place: leftovers of the old are no failure of saving.
    shutil.rmtree(aside, ignore_errors=True)


def _beside(path: Path) -> Path:
    """A new hidden name in the same directory."""
    return path.with_name(f".{path.name}.{uuid4().hex}")


def _some(names: Collection[str], n: int = 3) -> str:
    return ", ".join(sorted(names)[:n]) + (", ..." if len(names) > n else "")

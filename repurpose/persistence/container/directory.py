"""Checks of directories to save to: whether one can be written to, and whether what it holds may be replaced."""

import os
from collections.abc import Callable, Collection
from pathlib import Path
from uuid import uuid4

__all__ = ["check_parents", "refuse_other_contents"]


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
        raise OSError(error.errno, f"nothing can be written to {path}: {reason}") from error


def refuse_other_contents(path: Path, is_saved: Callable[[set[str]], bool], may_hold: Callable[[str], bool]) -> None:
    """Raise FileExistsError unless `path` is free, an empty directory, or one that holds nothing but what is replaced.

    Parameters
    ----------
    path : Path
    is_saved : function of set of str
        Whether these names, all that are in the directory, are those of something saved.
    may_hold : function of str
        Whether a file of this name is part of it.
    """
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_dir() or path.is_symlink():
        raise FileExistsError(f"{path} is a file or a link, not a directory; give the path of a new directory")
    names = {entry.name for entry in path.iterdir()}
    if names and not is_saved(names):
        raise FileExistsError(f"{path} holds other things ({_some(names)}); give the path of a new directory")
    if others := {name for name in names if not may_hold(name)}:
        raise FileExistsError(
            f"{path} holds a saved repurposer and other files besides ({_some(others)}); move them, or give another "
            "path"
        )


def _beside(path: Path) -> Path:
    """Return a new hidden name in the same directory."""
    return path.with_name(f".{path.name}.{uuid4().hex}")


def _some(names: Collection[str], n: int = 3) -> str:
    return ", ".join(sorted(names)[:n]) + (", ..." if len(names) > n else "")

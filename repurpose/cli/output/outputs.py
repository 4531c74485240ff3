"""The output file of a command is checked before any work, written as a whole, and told of after an interruption."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer

from model_handler.files.whole_files import make_folder, write_whole
from model_handler.files.write_errors import writing
from repurpose.cli.output.screen import aside, shown

__all__ = ["STDOUT", "Output", "check_file", "file_named", "replace_file", "told_when_interrupted", "write_result"]

STDOUT = "-"


@dataclass(frozen=True)
class Output:
    """A file or directory that a command is going to write, and what was there before."""

    path: Path
    signs: tuple[Path, ...]
    before: list[tuple[int, ...] | None]

    @classmethod
    def at(cls, path: Path, *signs: Path) -> "Output":
        """What is at `path`, where the files `signs` change when it is replaced; without any, it is a file itself."""
        return cls(path, signs or (path,), [_state(sign) for sign in signs or (path,)])

    def left(self) -> str:
        """What is there now, as a phrase."""
        now = [_state(sign) for sign in self.signs]
        if not any(now):
            return "nothing was saved"
        return f"{self.path} {'is as it was before' if now == self.before else 'is written, and whole'}"


@contextmanager
def told_when_interrupted(output: Output | None) -> Iterator[None]:
    """End with exit code 130 after an interruption from the keyboard, saying what became of the output, if any."""
    try:
        yield
    except KeyboardInterrupt as error:
        aside.print(f"[bold]Interrupted:[/] {shown(output.left()) if output else 'nothing was saved'}", soft_wrap=True)
        raise typer.Exit(130) from error


def check_file(path: Path) -> None:
    """Raise OSError unless a file can be written at `path`, whose parents may be missing."""
    from repurpose.persistence.container.directory import check_parents

    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory; give the path of a file")
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(f"{path} may not be written to; change its permissions, or give another path")
    if _is_regular(path):
        check_parents(path)


def file_named(target: str | None) -> Path | None:
    """Return the file that --csv or --json names, having checked that it can be written; None for none and for -."""
    if target in (None, STDOUT):
        return None
    check_file(Path(target))
    return Path(target)


def write_result(target: str, data: bytes) -> None:
    """Write to a file, or to standard output where its name is -."""
    if target == STDOUT:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
    else:
        replace_file(Path(target), data)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file with these bytes: the old one or the new one is at `path`, never half of either."""
    if _is_regular(path):
        make_folder(path.resolve().parent)  # of a link, where it points to
        write_whole(path, [data])
    else:  # /dev/stdout or a named pipe is written to, not exchanged
        with writing(path):
            path.write_bytes(data)


def _is_regular(path: Path) -> bool:
    return path.is_file() or not path.exists()


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns

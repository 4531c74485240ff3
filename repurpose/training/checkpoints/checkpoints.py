"""Checkpoints hold what a training has reached, in a directory, so that it resumes where it was killed.

One file an epoch, safetensors with JSON in its header, no pickle. It is written under another name, flushed to the disk
and renamed, so that what bears a checkpoint's name is whole; the two last ones are kept. Every array bears the SHA-256
of its bytes as its name, so that damage shows and equal arrays are written once. `configuration` describes what a
training must have in common with a checkpoint to resume from it.
"""

import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from model_handler.storing import store_arrays
from repurpose.persistence.codec import Codec
from repurpose.training.plan.differences import differences

__all__ = ["Checkpoints", "OtherTrainingError", "checkpoint_mistakes"]

FORMAT = 1
_NAME = re.compile(r"epoch-(\d{5,})\.safetensors")
_KEPT = 2
_WRITING = ".writing-checkpoint"
_log = logging.getLogger(__name__)


class OtherTrainingError(ValueError):
    """The checkpoints in a directory are those of another training."""


class Checkpoints:
    """The checkpoints of one training in a directory, which is made where it is missing.

    Other files in it are left alone. Raises OSError at once if nothing can be written there.
    """

    def __init__(self, directory: str | PathLike) -> None:
        self.directory = Path(directory)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for left_behind in self.directory.glob(f"{_WRITING}*"):  # by a process that was killed
                left_behind.unlink()
            _write_whole(self.directory / _WRITING, Path.touch)
            (self.directory / _WRITING).unlink()
        except OSError as error:
            raise type(error)(f"checkpoint_dir={str(directory)!r} cannot be written to: {error}") from error

    def save(self, state: Mapping[str, Any], epoch: int, configuration: Mapping[str, Any]) -> None:
        """Write what was reached after `epoch` whole epochs: nested dicts of tensors and plain values.

        Raises OSError if it cannot be written, UnsavableError for values that a file cannot hold; what was written
        before stays.
        """
        path = self.directory / f"epoch-{epoch:05d}.safetensors"
        write = _writer({"configuration": dict(configuration), "state": dict(state)})
        try:
            _write_whole(path, write)
            for old in self._paths()[_KEPT:]:
                old.unlink()
        except OSError as error:
            raise type(error)(
                f"the checkpoint {path} cannot be written: {error}; those before it are as they were, and the "
                "same call goes on from the last one"
            ) from error

    def load(self, configuration: Mapping[str, Any]) -> dict[str, Any] | None:
        """Read what was reached last; None where there is no checkpoint.

        A damaged checkpoint is passed over, with a UserWarning. Raises OtherTrainingError, listing the differences, for
        one of another configuration, ValueError if none of several can be read.
        """
        found = self._read()
        if found is None:
            return None
        if lines := differences(found["configuration"], configuration, "in the checkpoint", "now"):
            raise OtherTrainingError(
                f"the checkpoints in {self.directory} are those of another training:\n"
                + "\n".join(f"- {line}" for line in lines)
                + "\nset the old values to go on with it, or give another checkpoint_dir"
            )
        return found["state"]

    def seed(self) -> int | None:
        """Read the seed of the training so far; None where there is no checkpoint. Raises ValueError as `load` does."""
        found = self._read()
        return None if found is None else int(found["configuration"]["seed"])

    def _read(self) -> dict[str, Any] | None:
        """Read the last checkpoint that is whole."""
        mistakes = []
        for path in self._paths():
            try:
                found = _unpacked(path)
            except (ValueError, KeyError, TypeError, OSError) as error:
                mistakes.append(f"{path} cannot be read: {error}")
                continue
            if mistakes:
                warnings.warn(
                    "\n".join(mistakes) + f"\ntraining goes on from {path.name} instead", UserWarning, stacklevel=2
                )
            _log.info("training goes on from %s", path)
            return found
        if mistakes:
            raise ValueError("\n".join(mistakes) + "\nno checkpoint is left: remove these files to start over")
        return None

    def _paths(self) -> list[Path]:
        """List all checkpoints, the last one first."""
        numbers = {path: _NAME.fullmatch(path.name) for path in self.directory.iterdir()}
        return sorted((path for path, match in numbers.items() if match), key=lambda path: -_number(path))


def checkpoint_mistakes(directory: object) -> list[str]:
    """List what is wrong with the parameter."""
    if directory is None or (isinstance(directory, (str, PathLike)) and str(directory)):
        return []
    return [f"checkpoint_dir must be the path of a directory or None, got {directory!r}"]


def _number(path: Path) -> int:
    return int(path.stem.partition("-")[2])


def _write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file as a whole or not at all, so that it is on the disk when this returns."""
    fresh = path.with_name(f"{_WRITING}-{os.getpid()}")  # in the same directory, as no rename crosses file systems
    try:
        write(fresh)
        _flush(fresh)
        os.replace(fresh, path)  # atomic: a reader sees the old file or the new one
    except BaseException:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # the new name, for after a power cut; not every system can do this
        _flush(path.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _writer(content: dict[str, Any]) -> Callable[[Path], None]:
    """Return a function that writes the content to a file. Raises UnsavableError for what a file cannot hold."""
    codec = Codec()
    encoded = codec.encode(content, "")
    names = {key: _digest(array) for key, array in codec.arrays.items()}
    arrays = {names[key]: array for key, array in codec.arrays.items()}  # equal ones, as of kept weights, fall together
    text = json.dumps({"format": FORMAT, "arrays": names, "content": encoded})
    metadata = {"checkpoint": text, "sha256": sha256(text.encode()).hexdigest()}

    return lambda path: store_arrays(arrays, path, metadata)


def _unpacked(path: Path) -> dict[str, Any]:
    """Read the content of a file. Raises ValueError for one that is damaged, or of another format."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata()
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except SafetensorError as error:
        raise ValueError(f"it is not whole ({error})") from error
    if header is None or sha256(header["checkpoint"].encode()).hexdigest() != header["sha256"]:
        raise ValueError("it is damaged: its text is not the one that was written")
    found = json.loads(header["checkpoint"])
    if found["format"] != FORMAT:
        raise ValueError(f"it has the format {found['format']}, and this version of the library reads {FORMAT}")
    if damaged := [key for key, name in found["arrays"].items() if _digest(arrays[name]) != name]:
        raise ValueError(f"it is damaged: {', '.join(damaged[:3])} is not what was written")
    return Codec({key: arrays[name] for key, name in found["arrays"].items()}).decode(found["content"])


def _digest(array: np.ndarray) -> str:
    start = f"{array.dtype.str}{array.shape}".encode()  # equal bytes may be other numbers
    return sha256(start + np.ascontiguousarray(array).tobytes()).hexdigest()

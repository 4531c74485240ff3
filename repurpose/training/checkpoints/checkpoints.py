"""Checkpoints of a training run, in a directory, from which it resumes after it was killed.

One file an epoch, safetensors with JSON in its header, no pickle. It is written under another name, flushed to the disk
and renamed, so that what bears a checkpoint's name is whole; the two last ones are kept. Every array bears the SHA-256
of its bytes as its name, so that damage shows and equal arrays are written once. `configuration` describes what a
training must have in common with a checkpoint to resume from it.
"""

import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import Any

from model_handler.errors import CorruptFileError, FormatVersionError
from model_handler.files.array_files import array_digest, little_endian, pieces_of, read_arrays
from model_handler.files.canonical_json import parse_json
from model_handler.files.whole_files import Piece, make_folder, remove_left_behind, write_whole
from repurpose.persistence.values.codec import Codec
from repurpose.training.plan.differences import differences

__all__ = ["Checkpoints", "OtherTrainingError", "checkpoint_mistakes"]

FORMAT = 1
_NAME = re.compile(r"epoch-(\d{5,})\.safetensors")
_CONTENT = ("configuration", "state")
_SEED = re.compile(r"\d{1,20}")
_KEPT = 2  # the last but one serves where the last is damaged
_WRITING = ".writing-checkpoint"
_log = logging.getLogger(__name__)


class OtherTrainingError(ValueError):
    """The checkpoints in a directory are those of another training."""


class Checkpoints:
    """The checkpoints of one training in a directory, which is made where it is missing.

    Other files in it are left alone. Raises OSError at once if nothing can be written there.

    Attributes
    ----------
    directory : Path
    last_read : Path or None
        The file that `load` or `seed` took the state from, in the process that read it.
    """

    def __init__(self, directory: str | PathLike) -> None:
        self.directory = Path(directory)
        self.last_read: Path | None = None
        try:
            make_folder(self.directory)
            remove_left_behind(self.directory, "epoch-")
            for left_behind in self.directory.glob(f"{_WRITING}*"):  # by earlier versions of the library
                left_behind.unlink()
            # Tried now, since the first save may come after hours of training.
            write_whole(self.directory / _WRITING, [], follow_links=False)
            (self.directory / _WRITING).unlink()
        except OSError as error:
            said = error.strerror or error
            raise OSError(error.errno, f"checkpoint_dir={str(directory)!r} cannot be written to: {said}") from error

    def save(self, state: Mapping[str, Any], epoch: int, configuration: Mapping[str, Any]) -> None:
        """Write the state after `epoch` whole epochs: nested dicts of tensors and plain values.

        Raises OSError if it cannot be written, UnsavableError for values that a file cannot hold; what was written
        before stays.
        """
        path = self.directory / f"epoch-{epoch:05d}.safetensors"
        pieces = _pieces({"configuration": dict(configuration), "state": dict(state)})
        try:
            write_whole(path, pieces, follow_links=False)
            for old in self._paths()[_KEPT:]:
                old.unlink()
        except OSError as error:
            raise OSError(
                error.errno,
                f"{error.strerror or error}; the checkpoints before it are as they were, and the same call goes on "
                "from the last one",
            ) from error

    def load(self, configuration: Mapping[str, Any]) -> dict[str, Any] | None:
        """Read the last state; None where there is no checkpoint.

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
        if found is None:
            return None
        seed = found["configuration"].get("seed", "")
        if not _SEED.fullmatch(seed):
            raise CorruptFileError(f"{self.last_read} is damaged: its seed is {seed[:40]!r}")
        return int(seed)

    def _read(self) -> dict[str, Any] | None:
        """Read the last checkpoint that is whole."""
        mistakes = []
        for path in self._paths():
            try:
                found = _unpacked(path)
            except Exception as error:  # what fails, and how, is up to the file
                reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
                mistakes.append(f"{path} cannot be read: {reason or type(error).__name__}")
                continue
            if mistakes:
                warnings.warn(
                    "\n".join(mistakes) + f"\ntraining goes on from {path.name} instead", UserWarning, stacklevel=2
                )
            _log.info("training goes on from %s", path)
            self.last_read = path
            return found
        if mistakes:
            raise ValueError("\n".join(mistakes) + "\nno checkpoint is left: remove these files to start over")
        return None

    def _paths(self) -> list[Path]:
        """List all checkpoints, the last one first."""
        # By number, since names of more than five digits no longer sort as text.
        numbers = {path: _NAME.fullmatch(path.name) for path in self.directory.iterdir()}
        return sorted((path for path, match in numbers.items() if match), key=lambda path: -_number(path))


def checkpoint_mistakes(directory: object) -> list[str]:
    """List what is wrong with the parameter `checkpoint_dir`."""
    if directory is None or (isinstance(directory, (str, PathLike)) and str(directory)):
        return []
    return [f"checkpoint_dir must be the path of a directory or None, got {directory!r}"]


def _number(path: Path) -> int:
    return int(path.stem.partition("-")[2])


def _pieces(content: dict[str, Any]) -> Iterator[Piece]:
    """Return the bytes of a file in pieces. Raises UnsavableError at once for content that a file cannot hold."""
    codec = Codec()
    encoded = codec.encode(content, "")
    arrays = little_endian(codec.arrays)
    names = {key: array_digest(array) for key, array in arrays.items()}
    text = json.dumps({"format": FORMAT, "arrays": names, "content": encoded})
    notes = {"checkpoint": text, "sha256": sha256(text.encode()).hexdigest()}
    return pieces_of({names[key]: array for key, array in arrays.items()}, notes)


def _unpacked(path: Path) -> dict[str, Any]:
    """Read the content of a file. Raises ValueError for one that is damaged, or of another format."""
    file = read_arrays(path)
    if sha256(file.notes["checkpoint"].encode()).hexdigest() != file.notes["sha256"]:
        raise CorruptFileError("it is damaged: its text is not the one that was written")
    found = parse_json(file.notes["checkpoint"], "it")
    if found["format"] != FORMAT:
        raise FormatVersionError(f"it has the format {found['format']}, and this version of the library reads {FORMAT}")
    if damaged := [key for key, name in found["arrays"].items() if array_digest(file.arrays[name]) != name]:
        raise CorruptFileError(f"it is damaged: {', '.join(damaged[:3])} is not what was written")
    if sorted(file.arrays) != sorted(set(found["arrays"].values())):
        raise CorruptFileError("it is damaged: it does not hold the arrays that its text names")
    codec = Codec({key: file.arrays[name] for key, name in found["arrays"].items()})
    content = codec.decode(found["content"])
    codec.check_all_used()
    if not isinstance(content, dict) or not all(isinstance(content.get(part), dict) for part in _CONTENT):
        raise CorruptFileError(f"it is damaged: it lacks {' or '.join(_CONTENT)}")
    if not all(isinstance(text, str) for text in content["configuration"].values()):
        raise CorruptFileError("it is damaged: its configuration is no texts by name")
    return content

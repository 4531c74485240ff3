"""`SavedModel`: a saved repurposer that travels to other processes, each of which loads it once."""

import tempfile
from collections import OrderedDict
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import Any, Protocol, Self
from uuid import uuid4

from torch import nn

from model_handler import Source
from repurpose.persistence import load
from repurpose.serving.row_answers import RowAnswers, SetOptions

__all__ = ["SavableRepurposer", "SavedModel"]

_N_KEPT = 2  # models that a process keeps, for engines that unpickle the predictor for each task
_kept: OrderedDict[tuple[str, SetOptions], RowAnswers] = OrderedDict()
_keeping = Lock()


class SavableRepurposer(Protocol):
    """What is asked of a Repurposer to take it to other processes."""

    source_model: Any
    _finds_its_source: bool
    _used_in_training_only: Any

    def save_repurposer(self, path: str | PathLike) -> str:
        """Write it without pickle; returns the SHA-256 of the manifest."""
        ...

    def _parameters_for_file(self) -> dict[str, Any]: ...


@dataclass(frozen=True, eq=False)
class SavedModel:
    """A saved repurposer: where it lies, or the bytes of its file, and what a file cannot hold.

    Attributes
    ----------
    path : str or None
        Where it is saved, for every process the same; None where it travels as bytes.
    contents : bytes or None
        Of the file.
    manifest_hash : str
        Nothing else than what was saved is loaded.
    given : dict
        Parameters that a file cannot hold, which are pickled: a network given as a module, and functions.
    """

    path: str | None
    contents: bytes | None = field(repr=False)
    manifest_hash: str
    given: dict[str, Any] = field(repr=False)
    _key: str = field(repr=False)

    @classmethod
    def of(cls, repurposer: SavableRepurposer, path: str | PathLike | None) -> Self:
        """Save a repurposer at a path, or into memory. Raises as `save_repurposer`."""
        given = _what_no_file_holds(repurposer)
        if path is not None:
            place = Path(path).absolute()
            manifest_hash, contents = repurposer.save_repurposer(place), None
        else:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder, "model.zip")
                manifest_hash, contents = repurposer.save_repurposer(file), file.read_bytes()
        # The hash tells everything of a model whose functions, if there are any, are those of its network: its weights
        # and its preprocessing are in the manifest. Engines that hash what they run then know it again.
        is_told = set(given) <= {"source_model"}
        key = manifest_hash if is_told else f"{manifest_hash} {uuid4()}"
        return cls(None if path is None else str(place), contents, manifest_hash, given, key)

    @property
    def n_bytes(self) -> int:
        """How many bytes of it travel with every copy, networks given as modules included."""
        return len(self.contents or b"") + sum(map(_size_of, self.given.values()))

    def answers(self, options: SetOptions) -> RowAnswers:
        """Return what answers rows, loaded once in this process however often this object is pickled and sent here."""
        key = (self._key, options)
        with _keeping:  # a second thread waits for the first, and does not load it again
            if key not in _kept:
                _kept[key] = RowAnswers(self._load(), options)
                while len(_kept) > _N_KEPT:
                    _kept.popitem(last=False)
            _kept.move_to_end(key)
            return _kept[key]

    def _load(self) -> Any:
        if self.path is not None:
            return load(self.path, expected_hash=self.manifest_hash, **self.given)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "model.zip")
            file.write_bytes(self.contents or b"")
            return load(file, expected_hash=self.manifest_hash, **self.given)


def _what_no_file_holds(repurposer: SavableRepurposer) -> dict[str, Any]:
    """Return the parameters that `load` has to be given again."""
    given = {
        name: value
        for name, value in repurposer._parameters_for_file().items()
        if callable(value) and name not in repurposer._used_in_training_only
    }
    if not repurposer._finds_its_source and not isinstance(repurposer.source_model, str):
        given["source_model"] = repurposer.source_model
    return given


def _size_of(value: object) -> int:
    network = value.network if isinstance(value, Source) else value
    if not isinstance(network, nn.Module):
        return 0
    tensors = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())

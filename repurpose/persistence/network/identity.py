"""What a file says of its source: the name or the kind of the network, its fingerprint, its preprocessing, its ties."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from model_handler import Source
from model_handler.errors import CorruptFileError
from model_handler.files.canonical_json import JsonValue
from repurpose.persistence.network.fingerprint import (
    Table,
    fingerprint,
    fingerprint_of_table,
    layers_of,
    table_differences,
    table_of,
)
from repurpose.persistence.network.kept import channels_last_of, ties_of
from repurpose.persistence.network.preprocessing import describe_transform
from repurpose.source import open_source, weights_are_here

__all__ = ["SavedSource", "describe"]

_TEXTS = ("name", "network", "loaded_as", "fingerprint", "layers")


@dataclass(frozen=True)
class SavedSource:
    """The source as the plan in a file has it.

    Attributes
    ----------
    name : str or None
        Of a source that was given by name; of one of the Hugging Face Hub, with its commit.
    network, loaded_as : str or None
        The class of a network that was given as a module or a `Source`, and the name of the latter.
    fingerprint : str or None
        None where the weights of a source by name were not on the machine that saved.
    tensors : dict or None
        The table of the network; None in files of earlier versions, whose fingerprint is another one.
    layers : str or None
        A hash of the classes of its layers, by which its architecture is known.
    tied : dict of str to str
        Further names of tensors, each with the first.
    channels_last : list of str
        Tensors whose channels are the last in memory.
    preprocessing : value that JSON holds
        What the transform of the source is made of; None for none, and in files of earlier versions.
    """

    name: str | None
    network: str | None
    loaded_as: str | None
    fingerprint: str | None
    layers: str | None
    tensors: Table | None
    tied: dict[str, str]
    channels_last: list[str]
    preprocessing: JsonValue

    @classmethod
    def parse(cls, said: dict[str, Any], what: str) -> "SavedSource":
        """Read it from the plan. Raises CorruptFileError, naming the file `what`, for anything else."""
        texts = {name: said.get(name) for name in _TEXTS}
        tensors, tied, last = said.get("tensors"), said.get("tied", {}), said.get("channels_last", [])
        mistakes = [name for name, value in texts.items() if not isinstance(value, str | None)]
        mistakes += [] if tensors is None or _is_table(tensors) else ["tensors"]
        mistakes += [] if isinstance(tied, dict) and all(isinstance(name, str) for name in tied.values()) else ["tied"]
        mistakes += [] if isinstance(last, list) and all(isinstance(name, str) for name in last) else ["channels_last"]
        if mistakes:
            raise CorruptFileError(f"{what} is damaged: no usable {mistakes} of its source")
        preprocessing = said.get("preprocessing")
        return cls(**texts, tensors=tensors, tied=tied, channels_last=last, preprocessing=preprocessing)

    @property
    def architecture(self) -> str | None:
        """The name under which the network could be built, where it has one."""
        return self.loaded_as if self.name is None else self.name

    def weights_differ(self, network: nn.Module) -> str:
        """Say what differs between a network and that of training; "" where nothing does, or nothing is known."""
        if self.fingerprint is None:
            return ""
        table = None if self.tensors is None else table_of(network)
        now = fingerprint(network) if table is None else fingerprint_of_table(table)
        if now == self.fingerprint:
            return ""
        if self.tensors is not None and table is not None and (found := table_differences(self.tensors, table)):
            return "; ".join(found)
        return f"its weights, or their names and shapes, differ (fingerprint {now[:12]}, saved {self.fingerprint[:12]})"


def describe(source_model: nn.Module | Source | str) -> dict[str, Any]:
    """Describe the source for a file: its name, or the class of its network, and what tells it from others.

    One given by name is described by its name alone where its weights are not on this machine: nothing is fetched.
    """
    said: dict[str, Any]
    if isinstance(source_model, str):
        said = {"name": source_model}
        if not weights_are_here(source_model):
            return said
        source_model = open_source(source_model)
        said["name"] = getattr(source_model, "name", None) or said["name"]  # of the Hub, with the commit
    else:
        name = source_model.name if isinstance(source_model, Source) else None
        network = source_model.network if isinstance(source_model, Source) else source_model
        said = {"network": type(network).__qualname__, "loaded_as": name}
    source = source_model if isinstance(source_model, Source) else Source(source_model)
    table = table_of(source.network)
    return {
        **said,
        "fingerprint": fingerprint_of_table(table),
        "tensors": table,
        "layers": layers_of(source.network),
        "tied": ties_of(source.network),
        "channels_last": channels_last_of(source.network),
        "preprocessing": describe_transform(source.transform),
    }


def _is_table(table: object) -> bool:
    return isinstance(table, dict) and all(map(_is_entry, table.values()))


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, list) or len(entry) != 3:
        return False
    dtype, shape, digest = entry
    is_shape = isinstance(shape, list) and all(type(size) is int for size in shape)
    return isinstance(dtype, str) and is_shape and isinstance(digest, str)

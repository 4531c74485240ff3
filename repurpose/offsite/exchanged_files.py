"""The files that owner and data owner exchange: JSON and tensors in the container of saved Repurposers, by kind.

A directory, or one file where the name ends in ``.zip``; hashed, perhaps encrypted and signed. They hold what they are
given and nothing else: no card, no date, no name of a machine or of who wrote them.
"""

from collections.abc import Mapping
from functools import partial
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from model_handler.errors import CorruptFileError, FormatVersionError, UnsafeFileError
from model_handler.files.array_files import little_endian, parse_arrays, pieces_of
from model_handler.files.canonical_json import JsonValue
from repurpose.persistence.container.archives import is_archive, read_archive, write_archive
from repurpose.persistence.container.encryption import KeyFix
from repurpose.persistence.container.generations import (
    MANIFEST,
    read_generation,
    remove_earlier_generations,
    write_generation,
)
from repurpose.persistence.container.manifests import Demands, Generation, Protection
from repurpose.persistence.values.codec import Codec
from repurpose.persistence.values.schema import Dict, Table, Text, check_table

__all__ = [
    "ADAPTER",
    "PACKAGE",
    "Tensors",
    "check_name",
    "check_target",
    "key_fix",
    "read_exchanged",
    "write_exchanged",
]

PACKAGE, ADAPTER = "offsite package", "offsite adapter"  # the kinds
FORMAT = 1
_ARRAYS = "arrays.safetensors"
# By the kind that a manifest states: what a sentence calls it, who writes it, and who takes it.
_KINDS = {
    PACKAGE: ("a package", "OffsiteOwner.export", "OffsiteRepurposer(package) takes it"),
    ADAPTER: ("an adapter", "OffsiteRepurposer.save_adapter", "OffsiteOwner.plug_in takes it"),
}
_SAVED = ("a saved repurposer", "save_repurposer", "repurpose.load(path) takes it")
_KEY_IN_SHELL = "give it by --encryption-key FILE"
_TENSORS = Dict(Text(), Dict(Text()))
Tensors = Mapping[str, Mapping[str, Tensor]]  # by part, then by name


def write_exchanged(path: str | PathLike, kind: str, said: JsonValue, tensors: Tensors, protection: Protection) -> str:
    """Write a file of a kind, as a whole, with what it says and its tensors; return the SHA-256 of its manifest.

    Raises FileExistsError where anything but one of that kind is there, ValueError for tensors that no file can hold.
    """
    place = Path(path)
    check_target(place, kind, Demands(protection.key))
    _check_tensors(tensors)
    codec = Codec()
    held = {part: codec.encode(dict(named), part) for part, named in tensors.items()}
    content = {"format": FORMAT, "kind": kind, **said, "tensors": held}
    payloads = {_ARRAYS: partial(pieces_of, little_endian(codec.arrays), {})}
    if is_archive(place):
        return write_archive(place, content, payloads, b"", protection)
    digest = write_generation(place, content, payloads, protection=protection)
    remove_earlier_generations(place, protection)  # blocks that were not distilled, say, or were tuned on other rows
    return digest


def read_exchanged(
    path: str | PathLike, kind: str, table: Table, parts: tuple[str, ...], demands: Demands
) -> tuple[dict[str, JsonValue], dict[str, dict[str, Tensor]], str]:
    """Read what `write_exchanged` wrote: what it says, checked against a table, its tensors by part, and its SHA-256.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        For one of another kind, which is named.
    CorruptFileError, UnsafeFileError, FormatVersionError
        As `repurpose.load` does, naming the file.
    """
    place, what = Path(path), str(path)
    found = _found(place, kind, demands)
    content = _of_kind(found.content, kind, what)
    arrays = found.files.pop(_ARRAYS, None)
    if arrays is None or found.files:
        raise CorruptFileError(f"{what} is damaged: it does not name {_ARRAYS} alone")
    codec = Codec(parse_arrays(arrays, f"{what}: {_ARRAYS}").arrays)
    held = content.pop("tensors", None)
    try:
        check_table(table, content, {})
        _TENSORS.check(held, "tensors", {})
        if sorted(held) != sorted(parts):
            raise ValueError(f"it has tensors of {sorted(held)[:9]}, where {sorted(parts)} were expected")
        tensors = {part: codec.decode(held[part]) for part in parts}
        codec.check_all_used()
        _check_tensors(tensors)
    except Exception as error:  # what fails, and how, is up to the file
        raise CorruptFileError(f"{what} is damaged: {str(error) or type(error).__name__}") from error
    return content, tensors, found.digest


def check_target(path: str | PathLike, kind: str, demands: Demands) -> None:
    """Raise FileExistsError unless the place is free, or holds one of that kind, which is then replaced."""
    place = Path(path)
    if not place.exists() and not place.is_symlink():
        return
    if place.is_dir() and not place.is_symlink() and not any(place.iterdir()):
        return
    name, writer, _ = _KINDS[kind]
    try:
        _of_kind(_found(place, kind, Demands(demands.key, key_fix=key_fix(writer))).content, kind, str(place))
    except (OSError, ValueError) as error:
        raise FileExistsError(f"{place} holds something else than {name}; give another path ({error})") from error


def key_fix(call: str, argument: str = "path") -> KeyFix:
    """Return how the key of a file is given to a call that takes its path."""
    return KeyFix(f"{call}({argument}, encryption_key=...)", _KEY_IN_SHELL)


def _found(place: Path, kind: str, demands: Demands) -> Generation:
    name, writer, _ = _KINDS[kind]
    if place.is_symlink():
        raise UnsafeFileError(f"{place} is a link, where {name} was expected")
    if place.exists() and not place.is_dir():
        return read_archive(place, demands)
    if not (place / MANIFEST).exists() and not (place / MANIFEST).is_symlink():
        why = f"the directory has no {MANIFEST}" if place.is_dir() else "there is nothing of that name"
        raise FileNotFoundError(f"there is not {name} at {place}: {why}; {writer} writes one")
    return read_generation(place, demands)


def _of_kind(content: JsonValue, kind: str, what: str) -> dict[str, JsonValue]:
    """Return what a manifest says beside format and kind, once it is of that kind and of a format that is read here."""
    name, writer, _ = _KINDS[kind]
    stated = content.get("kind") if isinstance(content, dict) else None
    is_saved = isinstance(content, dict) and "class" in content
    is_other, _, taken = _SAVED if is_saved else _KINDS.get(str(stated), (None, "", ""))
    if is_other is not None and stated != kind:
        raise ValueError(f"{what} is {is_other}, and not {name}, which {writer} writes: {taken}")
    if not isinstance(content, dict) or stated != kind or type(content.get("format")) is not int:
        raise CorruptFileError(f"{what} is not {name}, which {writer} writes: it states no such kind and format")
    if content["format"] > FORMAT:
        raise FormatVersionError(
            f"{what} has format {str(content['format'])[:20]} of {kind}s, and this version of the library reads "
            f"formats up to {FORMAT}: upgrade it"
        )
    if content["format"] < 1:
        raise CorruptFileError(f"{what} is damaged: it has format {str(content['format'])[:20]}")
    return {name: value for name, value in content.items() if name not in ("format", "kind")}


def check_name(value: object) -> None:
    """Raise ValueError for what names no module or tensor, as what acts on a terminal or has no UTF-8."""
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError(f"it is {str(value)[:40]!a}, which is no name of a module or tensor")


def _check_tensors(tensors: Tensors) -> None:
    """Raise ValueError, naming it, for what is no tensor of plain numbers, and for one that holds NaN."""
    for part, named in tensors.items():
        for name, value in named.items():
            check_name(name)
            if not isinstance(value, Tensor) or value.is_quantized or value.layout is not torch.strided:
                raise ValueError(f"its {part} {name[:60]!r} is no tensor of plain numbers")
            if bool(torch.isnan(value).any()):
                raise ValueError(f"its {part} {name[:60]!r} holds NaN")

"""Saving a Repurposer: a generation of a directory, or one file, as docs/format.md describes both.

The manifest has everything that JSON has a word for; arrays are in a safetensors file, and the estimators of
scikit-learn that a head needs in skops files.
"""

import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from model_handler import Source
from model_handler.files.array_files import little_endian, pieces_of
from repurpose.persistence.card import card
from repurpose.persistence.container.archives import begins_as_archive, is_archive, write_archive
from repurpose.persistence.container.directory import check_parents, refuse_other_contents
from repurpose.persistence.container.generations import is_of_a_generation, write_generation
from repurpose.persistence.container.manifests import CARD, MANIFEST, Payload, Protection
from repurpose.persistence.network.identity import describe
from repurpose.persistence.network.kept import arrays_of
from repurpose.persistence.registry import class_name
from repurpose.persistence.values.codec import Codec, Json, UnsavableError
from repurpose.persistence.values.schema import is_of_library
from repurpose.persistence.values.written_schema import written_schema_of
from repurpose.source import open_source
from repurpose.version import DISTRIBUTION, library_versions, own_version

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["ARRAYS", "FORMAT", "PLAN_OF_OLD", "SOURCE", "check_target", "files_that_tell", "is_saved_in", "save"]

FORMAT = 3  # since everything has a hash; format 2 came with another resize of the embedded source
ARRAYS = "arrays.safetensors"
SOURCE = "source.safetensors"  # the weights of the source, where they are kept
PLAN_OF_OLD = "repurposer.json"  # of formats 1 and 2, in the place of the manifest
_log = logging.getLogger(__name__)


def save(
    path: str | PathLike,
    cls: type,
    source_model: nn.Module | Source | str,
    parameters: Mapping[str, object],
    learned: Mapping[str, object],
    spare: Collection[str] = (),
    *,
    overwrite: bool = True,
    save_source_model: bool = False,
    encryption_key: bytes | str | None = None,
    signing_key: "bytes | Ed25519PrivateKey | None" = None,
) -> str:
    """Write a trained repurposer to `path`, as a whole; a saved repurposer that is there is replaced.

    A source given by name is written as its name, any other as a fingerprint, and its weights where that is wanted.
    Callable parameters are left out, to be given again when loading.

    Parameters
    ----------
    path : str or path
        A file where it ends in ``.zip``, else a directory.
    cls : type
        Of the repurposer.
    source_model : nn.Module, Source or str
    parameters, learned : mapping of str to object
        Its other parameters, and what it learned, by attribute name.
    spare : collection of str, optional
        Parameters that need not be in the file, such as those of training alone; they are at their defaults after
        loading where a file cannot hold them.
    overwrite : bool
        Whether a saved repurposer that is there may be replaced.
    save_source_model : bool
        Whether the weights of the source are written too.
    encryption_key, signing_key : optional
        As `Repurposer.save_repurposer` takes them.

    Returns
    -------
    str
        The SHA-256 of the manifest.

    Raises
    ------
    TypeError, ValueError, ImportError
        For keys of another type or size, or without the package that uses them; nothing is written.
    ValueError
        Listing every learned attribute and parameter that a file cannot hold, or weights of the source; nothing is
        written.
    FileExistsError
        If `path` holds anything but a saved repurposer, or one that may not be replaced.
    OSError
        If a file cannot be written; what was saved there before stays.
    """
    place, protection = Path(path), Protection.by(encryption_key, signing_key)
    _refuse_others(place)
    if (replaces := is_saved_in(place)) and not overwrite:
        raise FileExistsError(f"{place} holds a saved repurposer already; give overwrite=True or another path")
    codec = Codec()
    plan: dict[str, Any] = {
        "format": FORMAT,
        "library": {"name": DISTRIBUTION, "version": own_version()},
        "libraries": library_versions(),
        "class": class_name(cls),
        **_encoded(codec, cls, parameters, learned, spare),
    }
    if not is_of_library(cls):
        plan["schema"] = written_schema_of(learned)
    payloads: dict[str, Payload] = {ARRAYS: partial(pieces_of, little_endian(codec.arrays), {})}
    payloads |= {name: partial(iter, [data]) for name, data in codec.estimators.items()}
    if save_source_model:
        source = open_source(source_model)
        weights = arrays_of(source.network if isinstance(source, Source) else source)
        payloads[SOURCE] = partial(pieces_of, little_endian(weights), {})
    plan["source"] = describe(source_model)
    write = write_archive if is_archive(place) else write_generation
    # Names of folders that are no UTF-8 come as lone surrogates, which UTF-8 has no bytes for.
    text = card(plan, learned).encode(errors="backslashreplace")
    digest = write(place, plan, payloads, text, protection)
    if write is write_generation:
        _remove_older_format(place)
    replaced = ", in place of the one there" if replaces else ""
    _log.info("%s was saved to %s%s%s", cls.__name__, place, protection, replaced)
    return digest


def _encoded(
    codec: Codec,
    cls: type,
    parameters: Mapping[str, object],
    learned: Mapping[str, object],
    spare: Collection[str],
) -> dict[str, Any]:
    """Return the parts of the plan that hold values. Raises ValueError listing those that a file cannot hold."""
    left_out = sorted(name for name, value in parameters.items() if callable(value) and name not in spare)
    kept = {name: value for name, value in parameters.items() if not callable(value)}
    parts: dict[str, dict[str, Json]] = {"parameters": {}, "fitted": {}}
    mistakes = []
    for part, values in (("parameters", kept), ("fitted", learned)):
        for name, value in values.items():
            try:
                parts[part][name] = codec.encode(value, f"{part}.{name}")
            except UnsavableError as error:
                if part == "fitted" or name not in spare:
                    mistakes.append(f"{name} is or holds {error}")
    if mistakes:
        raise ValueError(_refusal(cls.__name__, mistakes))
    return {**parts, "left_out": left_out}


def check_target(path: str | PathLike) -> None:
    """Raise OSError if `save` could not or would not write to `path`; call it before long work."""
    _refuse_others(Path(path))
    check_parents(path)


def is_saved_in(place: Path) -> bool:
    """Tell whether a saved repurposer is in the directory, or is the file."""
    return any(file.is_file() for file in files_that_tell(place))


def files_that_tell(place: Path) -> list[Path]:
    """List the files of which one exists where a repurposer is saved at `place`, and changes with it."""
    return [place] if is_archive(place) else [place / MANIFEST, place / PLAN_OF_OLD]


def _refuse_others(place: Path) -> None:
    """Raise FileExistsError unless the place is free or holds what may be replaced."""
    if not is_archive(place):
        refuse_other_contents(place, _are_saved, _is_ours)
    elif place.is_symlink() or (place.exists() and not (place.is_file() and begins_as_archive(place))):
        raise FileExistsError(f"{place} is a link, or no saved repurposer; give the path of a new file")


def _are_saved(names: set[str]) -> bool:
    """Tell whether these are the names of a saved repurposer, or of what a first saving that was killed left."""
    # A manifest alone may be of another program, which calls one of its files so too: ours has others beside it.
    is_any = any(is_of_a_generation(name) for name in names - {MANIFEST})
    return PLAN_OF_OLD in names or (is_any and (MANIFEST in names or all(map(is_of_a_generation, names))))


def _is_ours(name: str) -> bool:
    return is_of_a_generation(name) or name == CARD or _is_of_older_format(name)


def _is_of_older_format(name: str) -> bool:
    return name in (PLAN_OF_OLD, ARRAYS) or name.endswith(".skops")


def _remove_older_format(folder: Path) -> None:
    """Remove what formats 1 and 2 called their files, the plan first: without it they are nothing."""
    names = [
        path.name for path in folder.iterdir() if _is_of_older_format(path.name) and not is_of_a_generation(path.name)
    ]
    for name in sorted(names, key=lambda name: name != PLAN_OF_OLD):
        with suppress(OSError):
            (folder / name).unlink()


def _refusal(class_name: str, mistakes: list[str]) -> str:
    return (
        f"this {class_name} cannot be saved:\n"
        + "\n".join(f"- {mistake}" for mistake in mistakes)
        + "\nA file holds numbers, text, arrays, tensors, lists and dicts of them, and scikit-learn's estimators where "
        "every part is a known type. A head of another kind is saved where its class defines _head_state(), which "
        "returns such values, and _load_head_state(state), which returns the head. Keep the rest in attributes whose "
        "names do not end in '_', or in callable parameters, which are given again to load(path, name=value)."
    )

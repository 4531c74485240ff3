"""Saving a Repurposer: a generation of a directory, or one file, as docs/format.md describes both.

The manifest has everything that JSON has a word for; arrays are in a safetensors file, and the estimators of
scikit-learn that a head needs in skops files.
"""

import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from model_handler import Source
from model_handler.errors import first_few
from model_handler.files.array_files import little_endian, pieces_of
from repurpose.persistence.archives import begins_as_archive, is_archive, write_archive
from repurpose.persistence.codec import Codec, UnsavableError
from repurpose.persistence.directory import check_parents, refuse_other_contents
from repurpose.persistence.fingerprint import fingerprint
from repurpose.persistence.generations import is_of_a_generation, write_generation
from repurpose.persistence.manifests import CARD, MANIFEST, Payload, Protection
from repurpose.persistence.registry import class_name
from repurpose.version import DISTRIBUTION, own_version

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["ARRAYS", "FORMAT", "PLAN_OF_OLD", "check_target", "describe", "files_that_tell", "is_saved_in", "save"]

FORMAT = 3  # since everything has a hash; format 2 came with another resize of the embedded source
ARRAYS = "arrays.safetensors"
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
    encryption_key: bytes | str | None = None,
    signing_key: "bytes | Ed25519PrivateKey | None" = None,
) -> str:
    """Write a trained repurposer to `path`, as a whole; a saved repurposer that is there is replaced.

    A source given by name is written as its name, any other as a fingerprint. Callable parameters are left out, to be
    given again when loading.

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
    encryption_key, signing_key : optional
        As `Repurposer.save_repurposer` takes them.

    Returns
    -------
    str
        The SHA-256 of the manifest.

    Raises
    ------
    TypeError, ValueError, ImportError
        For keys that are none, or without the package that uses them; nothing is written.
    ValueError
        Listing every learned attribute and parameter that a file cannot hold; nothing is written.
    FileExistsError
        If `path` holds anything but a saved repurposer, or one that may not be replaced.
    OSError
        If a file cannot be written; what was saved there before stays.
    """
    place, protection = Path(path), Protection.by(encryption_key, signing_key)
    _refuse_others(place)
    if (replaces := is_saved_in(place)) and not overwrite:
        raise FileExistsError(f"{place} holds a saved repurposer already; give overwrite=True or another path")
    codec, mistakes = Codec(), []
    plan: dict[str, Any] = {
        "format": FORMAT,
        "library": {"name": DISTRIBUTION, "version": own_version()},
        "class": class_name(cls),
        "source": describe(source_model),
    }
    plan["left_out"] = sorted(name for name, value in parameters.items() if callable(value) and name not in spare)
    kept = {name: value for name, value in parameters.items() if not callable(value)}
    for part, values in (("parameters", kept), ("fitted", learned)):
        plan[part] = {}
        for name, value in values.items():
            try:
                plan[part][name] = codec.encode(value, f"{part}.{name}")
            except UnsavableError as error:
                if part == "fitted" or name not in spare:
                    mistakes.append(f"{name} is or holds {error}")
    if mistakes:
        raise ValueError(_refusal(cls.__name__, mistakes))
    arrays = little_endian(codec.arrays)
    payloads: dict[str, Payload] = {ARRAYS: partial(pieces_of, arrays, {})}
    payloads |= {name: partial(iter, [data]) for name, data in codec.estimators.items()}
    write = write_archive if is_archive(place) else write_generation
    digest = write(place, plan, payloads, _card(plan, learned).encode(), protection)
    if write is write_generation:
        _remove_older_format(place)
    replaced = ", in place of the one there" if replaces else ""
    _log.info("%s was saved to %s%s%s", cls.__name__, place, protection, replaced)
    return digest


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


def describe(source_model: nn.Module | Source | str) -> dict[str, Any]:
    """Describe the source as the file has it: its name, or the fingerprint of its network."""
    if isinstance(source_model, str):
        return {"name": source_model}
    network: nn.Module = source_model.network if isinstance(source_model, Source) else source_model
    name = source_model.name if isinstance(source_model, Source) else None
    return {"fingerprint": fingerprint(network), "network": type(network).__qualname__, "loaded_as": name}


def _refuse_others(place: Path) -> None:
    """Raise FileExistsError unless the place is free or holds what may be replaced."""
    if not is_archive(place):
        refuse_other_contents(place, _are_saved, _is_ours)
    elif place.is_symlink() or (place.exists() and not (place.is_file() and begins_as_archive(place))):
        raise FileExistsError(f"{place} is a link, or no saved repurposer; give the path of a new file")


def _are_saved(names: set[str]) -> bool:
    """Tell whether these are the names of a saved repurposer, or of what a first saving that was killed left."""
    return MANIFEST in names or PLAN_OF_OLD in names or all(is_of_a_generation(name) for name in names)


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


def _card(plan: Mapping[str, Any], learned: Mapping[str, object]) -> str:
    """Return the text of the README for a person who finds the directory."""
    source = plan["source"]
    classes = learned.get("classes_")
    names = [] if classes is None else [str(name) for name in np.asarray(classes).tolist()]
    lines = {
        "Made by": f"{plan['class'].partition(':')[2]} of {plan['library']['name']} {plan['library']['version']}",
        "Date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Source network": source.get("name") or f"{source['network']}, given as a module",
        "Layers": learned.get("feature_layer_names_"),
        "Features": learned.get("n_features_in_"),
        "Classes": f"{len(names)}: {first_few(names)}",
    }
    said = "\n".join(f"- {name}: {value}" for name, value in lines.items() if value is not None)
    return (
        f'# A repurposed network\n\n{said}\n\n`repurpose.load("this directory")` gives it back. The other files are '
        f"for programs: {MANIFEST} names them, with a hash of each.\n"
    )


def _refusal(class_name: str, mistakes: list[str]) -> str:
    return (
        f"this {class_name} cannot be saved:\n"
        + "\n".join(f"- {mistake}" for mistake in mistakes)
        + "\nA file holds numbers, text, arrays, tensors, lists and dicts of them, and scikit-learn's estimators where "
        "every part is a known type. Keep the rest in attributes whose names do not end in '_', or in callable "
        "parameters, which are given again to load(path, name=value)."
    )

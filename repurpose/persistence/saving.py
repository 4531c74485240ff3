"""Saving a Repurposer writes `repurposer.json`, `arrays.safetensors` and, where a head needs it, `*.skops`."""

import json
from collections.abc import Collection, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from model_handler import Source
from model_handler.storing import store_arrays
from repurpose.persistence.codec import Codec, UnsavableError
from repurpose.persistence.directory import check_parents, refuse_other_contents, replace_directory
from repurpose.persistence.fingerprint import fingerprint
from repurpose.persistence.registry import class_name
from repurpose.version import DISTRIBUTION, own_version

__all__ = ["ARRAYS", "FORMAT", "PLAN", "check_target", "save"]

FORMAT = 2  # since the embedded source enlarges images otherwise: readers of format 1 would give other answers
PLAN = "repurposer.json"
ARRAYS = "arrays.safetensors"


def save(
    path: str | PathLike,
    cls: type,
    source_model: nn.Module | Source | str,
    parameters: Mapping[str, object],
    learned: Mapping[str, object],
    spare: Collection[str] = (),
) -> None:
    """Write a trained repurposer to the directory `path`, as a whole; a saved repurposer that is there is replaced.

    A source given by name is written as its name, any other as a fingerprint. Callable parameters are left out, to be
    given again when loading.

    Parameters
    ----------
    path : str or path
    cls : type
        Of the repurposer.
    source_model : nn.Module, Source or str
    parameters, learned : mapping of str to object
        Its other parameters, and what it learned, by attribute name.
    spare : collection of str, optional
        Parameters that need not be in the file, such as those of training alone; they are at their defaults after
        loading where a file cannot hold them.

    Raises
    ------
    ValueError
        Listing every learned attribute and parameter that a file cannot hold; nothing is written.
    FileExistsError
        If `path` holds anything but a saved repurposer.
    """
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
    replace_directory(Path(path), lambda folder: _write(folder, plan, codec), marker=PLAN, may_hold=_is_ours)


def check_target(path: str | PathLike) -> None:
    """Raise OSError if `save` could not or would not write to `path`; to be asked before long work."""
    refuse_other_contents(Path(path), PLAN, _is_ours)
    check_parents(path)


def describe(source_model: nn.Module | Source | str) -> dict[str, Any]:
    """The source as the file has it: its name, or the fingerprint of its network."""
    if isinstance(source_model, str):
        return {"name": source_model}
    network: nn.Module = source_model.network if isinstance(source_model, Source) else source_model
    name = source_model.name if isinstance(source_model, Source) else None
    return {"fingerprint": fingerprint(network), "network": type(network).__qualname__, "loaded_as": name}


def _write(folder: Path, plan: dict[str, Any], codec: Codec) -> None:
    store_arrays(codec.arrays, folder / ARRAYS)
    for name, data in codec.estimators.items():
        (folder / name).write_bytes(data)
    (folder / PLAN).write_text(json.dumps(plan, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _is_ours(name: str) -> bool:
    return name in (PLAN, ARRAYS) or name.endswith(".skops")


def _refusal(class_name: str, mistakes: list[str]) -> str:
    return (
        f"this {class_name} cannot be saved:\n"
        + "\n".join(f"- {mistake}" for mistake in mistakes)
        + "\nA file holds numbers, text, arrays, tensors, lists and dicts of them, and scikit-learn's estimators where "
        "every part is a known type. Keep the rest in attributes whose names do not end in '_', or in callable "
        "parameters, which are given again to load(path, name=value)."
    )

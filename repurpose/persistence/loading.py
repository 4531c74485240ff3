"""Loading a Repurposer: the plan is read and checked before anything is made.

The class comes from the registry of classes defined in this process, types of values from a table; a file cannot name
code to import or run.
"""

import warnings
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from model_handler import Source
from model_handler.embedded_source import EMBEDDED, WITH_BICUBIC_RESIZE
from model_handler.errors import CorruptFileError, FormatVersionError, nearest, with_fix
from model_handler.files.array_files import parse_arrays, read_arrays
from model_handler.files.canonical_json import parse_json
from model_handler.files.regular_files import read_file
from model_handler.network.ambient_modes import undisturbed
from repurpose.fitted import is_fitted_name
from repurpose.parameters import constructor_parameters
from repurpose.persistence.codec import Codec, Json, NotInFileError
from repurpose.persistence.generations import MANIFEST, read_generation
from repurpose.persistence.registry import IN_PYTHON, find_class
from repurpose.persistence.saving import ARRAYS, FORMAT, PLAN_OF_OLD, describe
from repurpose.source import check_source, open_source
from repurpose.version import DISTRIBUTION

__all__ = ["load"]

SourceModel = nn.Module | Source | str

_FIXED_BY_TRAINING = ("feature_layer_names", "pooling", "precision")
_FIRST_WITH_BILINEAR_RESIZE = 2  # of the formats; before it the name of the embedded source meant a bicubic one
_PARTS = {"class": str, "source": dict, "parameters": dict, "fitted": dict, "left_out": list}


@undisturbed()
def load(path: str | PathLike, source_model: SourceModel | None = None, **parameters: Any) -> Any:
    """Load the repurposer that `save_repurposer` wrote to `path`; its predictions are the same, bit for bit.

    Parameters
    ----------
    path : str or path
        The directory.
    source_model : nn.Module, Source or str, optional
        The network, where it was given as a module when the repurposer was made; its weights must be the same. A source
        given by name is found again by its name; "efficientnet-lite0" with the preprocessing that it had then, which in
        what was saved with format 1 is "efficientnet-lite0-bicubic".
    **parameters
        Parameters of the repurposer to be set to other values, such as ``device="cpu"``; those that were functions,
        such as `transform`, must be given again.

    Raises
    ------
    FileNotFoundError
        If there is no saved repurposer at `path`.
    CorruptFileError
        If a file is damaged.
    UnsafeFileError
        If a file is none, or leads elsewhere, or the class is not known here.
    FormatVersionError
        If a newer version of the library saved it.
    ValueError
        If a parameter is missing or unknown, or the network is not the one of training. (The errors above are
        ValueErrors too.)

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import GpRepurposer, load
    >>> X, y = make_blobs(30, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> GpRepurposer(network).repurpose((X, y)).save_repurposer("my-repurposer")
    >>> load("my-repurposer", source_model=network).predict_label(X[:6])
    array([2, 2, 2, 2, 0, 0])
    """
    folder = Path(path)
    content, codec, what = _read(folder)
    plan = _checked_plan(content, what)
    cls = find_class(plan["class"], what)
    if source_model is not None or "source_model" in constructor_parameters(cls):
        parameters["source_model"] = _source(plan, source_model, folder)
    _check_parameters(cls, plan, parameters, folder)
    try:
        saved = {name: codec.decode(node) for name, node in plan["parameters"].items()}
        learned = {name: codec.decode(node) for name, node in plan["fitted"].items()}
    except Exception as error:  # what fails, and how, is up to the file
        raise CorruptFileError(f"{folder} cannot be loaded: {_reason(error)}") from error
    try:
        return cls.restored({**saved, **parameters}, learned)
    except NotInFileError as error:
        raise NotInFileError(f"{folder} cannot be loaded by itself: {error}") from error
    except Exception as error:
        if any(name in str(error) for name in parameters):  # the fault of who gave it
            raise
        raise CorruptFileError(f"{folder} cannot be loaded: {_reason(error)}") from error


def _read(folder: Path) -> tuple[Json, Codec, str]:
    """Read the plan of a saved repurposer, not yet checked, what else its files hold, and which file has the plan.

    Raises FileNotFoundError, CorruptFileError or UnsafeFileError.
    """
    # A link that leads nowhere does not exist, and is to be refused as a link.
    if (folder / MANIFEST).exists() or (folder / MANIFEST).is_symlink():
        found = read_generation(folder)
        arrays = found.files.pop(ARRAYS, None)
        if arrays is None:
            raise CorruptFileError(f"{folder / MANIFEST} names no {ARRAYS}")
        held = parse_arrays(arrays, str(folder / ARRAYS)).arrays
        return (
            found.content,
            Codec(held, {name: bytes(data) for name, data in found.files.items()}),
            str(folder / MANIFEST),
        )
    if not (folder / PLAN_OF_OLD).exists() and not (folder / PLAN_OF_OLD).is_symlink():
        reason = "there is no such directory" if not folder.is_dir() else f"the directory has no {MANIFEST}"
        raise with_fix(
            FileNotFoundError,
            f"no saved repurposer at {folder}: {reason}",
            python="save_repurposer(path) writes one",
            shell="`repurpose train FOLDER --out PATH` writes one",
        )
    return _read_older(folder)


def _read_older(folder: Path) -> tuple[Json, Codec, str]:
    """Read formats 1 and 2 as `_read` does; they have no hashes, so only their form can be checked."""
    file = folder / PLAN_OF_OLD
    try:
        plan = parse_json(read_file(file, follow_links=False).decode(), str(file))
        arrays = read_arrays(folder / ARRAYS, follow_links=False).arrays
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"{file} is damaged: {error}") from error
    except FileNotFoundError as error:
        raise CorruptFileError(f"{folder} is damaged: {error}") from error
    names = [path.name for path in folder.glob("estimator_*.skops")]
    estimators = {name: bytes(read_file(folder / name, follow_links=False)) for name in names}
    warnings.warn(
        f"{folder} was saved by an earlier version, without hashes that would show damage: save_repurposer(path) "
        "writes it anew, with them",
        UserWarning,
        stacklevel=5,  # the line that called `load`, behind the wrapper of `undisturbed`
    )
    return plan, Codec(arrays, estimators), str(file)


def _checked_plan(plan: Json, what: str) -> dict[str, Any]:
    """Return the plan once every part of it is known to be of the right kind.

    Raises FormatVersionError for one of a newer format, CorruptFileError for another; `what` names its file.
    """
    written = plan.get("format") if isinstance(plan, dict) else None
    if not isinstance(plan, dict) or type(written) is not int:
        raise CorruptFileError(f"{what} is not of a saved repurposer: it states no format")
    if written > FORMAT:
        library = plan.get("library")
        by = library if isinstance(library, dict) else {}
        raise FormatVersionError(
            f"{what} has format {written}, written by {by.get('name')} {by.get('version')}; this version reads formats "
            f"up to {FORMAT}: upgrade the library, pip install '{DISTRIBUTION}>={by.get('version')}'"
        )
    if missing := [part for part, kind in _PARTS.items() if not isinstance(plan.get(part), kind)]:
        raise CorruptFileError(f"{what} is damaged: no usable {missing}")
    if strange := [name for name in plan["fitted"] if not is_fitted_name(name)]:
        raise CorruptFileError(f"{what} is damaged: no learned names {strange}")
    source = {name: plan["source"].get(name) for name in ("name", "loaded_as", "network", "fingerprint")}
    if wrong := [name for name, value in source.items() if not isinstance(value, str | None)]:
        raise CorruptFileError(f"{what} is damaged: no usable {wrong} of its source")
    return plan


def _source(plan: dict[str, Any], given: SourceModel | None, folder: Path) -> SourceModel:
    """Return the source to use: the saved name, or the given network if it is the one of training."""
    saved = plan["source"]
    loaded_as = saved.get("name", saved.get("loaded_as"))
    had_bicubic = plan["format"] < _FIRST_WITH_BILINEAR_RESIZE and loaded_as == EMBEDDED
    if had_bicubic:
        loaded_as = WITH_BICUBIC_RESIZE
    if "name" in saved:
        return _resized_as_then(saved["name"] if given is None else given, had_bicubic)
    named = f", loaded as {loaded_as!r}" if loaded_as else ""
    hint = f"a {saved.get('network')}{named}"
    if given is None:
        raise with_fix(
            ValueError,
            f"{folder} was trained with a network given as a module, which is not in the file",
            python=f"load(path, source_model=...) with the same network, {hint}",
            shell=IN_PYTHON,
            between=": ",
        )
    check_source(given)
    now = describe(open_source(given))
    if now["fingerprint"] != saved.get("fingerprint"):
        raise ValueError(
            f"source_model is not the network that {folder} was trained with ({hint}): its weights, or their names and "
            f"shapes, differ (fingerprint {now['fingerprint'][:12]}, saved {str(saved.get('fingerprint'))[:12]})"
        )
    return _resized_as_then(given, had_bicubic)


def _resized_as_then(source: SourceModel, had_bicubic: bool) -> SourceModel:
    """Return the source, or where it is the embedded one and had a bicubic resize, the one that has it still."""
    name = source.name if isinstance(source, Source) else source
    return WITH_BICUBIC_RESIZE if had_bicubic and isinstance(name, str) and name == EMBEDDED else source


def _no_parameter(cls: type, name: str) -> str:
    nearest_ones = ", ".join(nearest(name, list(constructor_parameters(cls))))
    return f"{cls.__name__} has no parameter {name!r}; nearest: {nearest_ones}"


def _check_parameters(cls: type, plan: dict[str, Any], given: dict[str, Any], folder: Path) -> None:
    """Raise ValueError listing parameters that the class does not know or that are needed and not given."""
    known = list(constructor_parameters(cls))
    if unknown := [name for name in plan["parameters"] if name not in known]:
        raise CorruptFileError(f"{folder} cannot be loaded: {_no_parameter(cls, unknown[0])}")
    mistakes = [_no_parameter(cls, name) for name in given if name not in known]
    mistakes += [
        f"{name} was a function or a module when this was saved, which a file cannot hold: load(path, {name}=...) with "
        "the same one"
        for name in plan["left_out"]
        if name not in given
    ]
    mistakes += [
        f"{name} cannot be changed after training: the head was trained with another"
        for name in _FIXED_BY_TRAINING
        if name in given and name in plan["parameters"]
    ]
    if mistakes:
        raise with_fix(ValueError, "\n".join(mistakes), python="", shell=IN_PYTHON, between="\n")


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing from its files"
    return str(error) or type(error).__name__

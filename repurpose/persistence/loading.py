"""Loading a Repurposer: the plan is read and checked before anything is made.

The class comes from the registry of classes defined in this process, types of values from a table; a file cannot name
code to import or run.
"""

import logging
import re
import warnings
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from model_handler.errors import CorruptFileError, FormatVersionError, UnsafeFileError, nearest, with_fix
from model_handler.files.array_files import parse_arrays, read_arrays
from model_handler.files.canonical_json import parse_json
from model_handler.files.regular_files import read_file
from model_handler.network.ambient_modes import undisturbed
from model_handler.network.device import check_device
from model_handler.sources import EMBEDDED
from repurpose.advice import IN_PYTHON
from repurpose.fitted import is_fitted_name
from repurpose.parameters import constructor_parameters, mistakes_found
from repurpose.persistence.container.archives import is_archive, read_archive
from repurpose.persistence.container.generations import read_generation
from repurpose.persistence.container.manifests import MANIFEST, Demands
from repurpose.persistence.network.finding import Finding, SourceModel
from repurpose.persistence.network.identity import SavedSource
from repurpose.persistence.registry import find_class
from repurpose.persistence.saving import ARRAYS, FORMAT, PLAN_OF_OLD, SOURCE
from repurpose.persistence.values.codec import Codec, Json, NotInFileError
from repurpose.persistence.values.written_schema import written_schema_mistake
from repurpose.version import DISTRIBUTION, library_versions

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["load"]

_FIXED_BY_TRAINING = ("feature_layer_names", "pooling", "precision")
_FIRST_WITH_BILINEAR_RESIZE = 2  # of the formats; before it the name of the embedded source meant a bicubic one
_DEVICES = ("cpu", "cuda", "mps", "xpu")  # on which torch computes
_TAKEN_BY = "OffsiteRepurposer takes a package, OffsiteOwner.plug_in an adapter"
_log = logging.getLogger(__name__)
_PARTS = {"class": str, "source": dict, "parameters": dict, "fitted": dict, "left_out": list}


@undisturbed()
def load(
    path: str | PathLike,
    source_model: SourceModel | None = None,
    *,
    expected_hash: str | None = None,
    encryption_key: bytes | str | None = None,
    verify_key: "bytes | Ed25519PublicKey | None" = None,
    download: bool = False,
    **parameters: Any,
) -> Any:
    """Load the repurposer that `save_repurposer` wrote to `path`; its predictions are the same, bit for bit.

    Parameters
    ----------
    path : str or path
        The directory or file.
    source_model : nn.Module, Source or str, optional
        The network, where it was given as a module when the repurposer was made; its weights and its preprocessing must
        be the same. A source given by name is found again by its name; "efficientnet-lite0" with the preprocessing that
        it had then, which in what was saved with format 1 is "efficientnet-lite0-bicubic". Where the file has the
        weights (`save_source_model=True`), nothing need be given if the network has a name that `load_source` knows,
        else one of the same architecture, a copy of which is filled.
    expected_hash : str, optional
        What `save_repurposer` returned: what is loaded is that very model, or nothing.
    encryption_key : bytes or str, optional
        With which it was encrypted: 32 bytes, or a passphrase. What is not encrypted with it is refused.
    verify_key : bytes or Ed25519PublicKey, optional
        What is not signed with the key that belongs to this one is refused; 32 bytes, as `signing_key_pair` gives them.
    download : bool, default=False
        Whether the weights of a source given by name may be fetched, where they are not on this machine.
    **parameters
        Parameters of the repurposer to be set to other values, such as ``device="cpu"``; those that were functions,
        such as `transform`, must be given again. A saved device that is not here becomes "auto", with a UserWarning.

    Raises
    ------
    FileNotFoundError
        If there is no saved repurposer at `path`.
    CorruptFileError
        If a file is damaged, or is not of the expected hash.
    UnsafeFileError
        If a file is not a regular file, leads elsewhere, or names a class that is not known here; if it is not
        encrypted or signed as demanded.
    FormatVersionError
        If a newer version of the library saved it.
    ValueError
        If a parameter is missing or unknown, or the network or its preprocessing is not that of training: what differs
        is said. (The three errors above are ValueErrors too.)
    OSError
        If weights would have to be fetched without `download`, or cannot be.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import GpRepurposer, load
    >>> X, y = make_blobs(30, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> manifest_hash = GpRepurposer(network).repurpose((X, y)).save_repurposer("my-repurposer")
    >>> load("my-repurposer", source_model=network).predict_label(X[:6])
    array([2, 2, 2, 2, 0, 0])
    """
    folder = Path(path)
    content, codec, kept, what = _read(folder, Demands.by(encryption_key, expected_hash, verify_key))
    plan = _checked_plan(content, what)
    cls = find_class(plan["class"], what)
    _tell_versions(plan, folder)
    finds_its_own = "source_model" not in constructor_parameters(cls) or cls._finds_its_source
    if source_model is not None or not finds_its_own:
        parameters["source_model"] = source_model  # what is not given is found below, after what takes less time
    _check_parameters(cls, plan, parameters, folder)
    if "source_model" in parameters and not cls._finds_its_source:
        has_own_transform = "transform" in plan["left_out"] or parameters.get("transform") is not None
        saved_source = SavedSource.parse(plan["source"], what)
        finding = Finding(
            saved_source,
            folder,
            kept=kept,
            download=download,
            had_bicubic=plan["format"] < _FIRST_WITH_BILINEAR_RESIZE and saved_source.architecture == EMBEDDED,
            has_own_transform=has_own_transform,
        )
        parameters["source_model"] = finding.source(source_model)
    try:
        saved = {name: codec.decode(node) for name, node in plan["parameters"].items()}
        learned = {name: codec.decode(node) for name, node in plan["fitted"].items()}
        codec.check_all_used()
        if "device" in saved and "device" not in parameters:
            saved["device"] = _device_here(saved["device"], folder)
    except Exception as error:  # what fails, and how, is up to the file
        raise CorruptFileError(f"{folder} cannot be loaded: {_reason(error)}") from error
    if "schema" in plan and (mistake := written_schema_mistake(plan["schema"], learned)):
        raise CorruptFileError(f"{what} is damaged: {mistake}")
    try:
        return cls.restored({**saved, **parameters}, learned)
    except NotInFileError as error:
        raise NotInFileError(f"{folder} cannot be loaded by itself: {error}") from error
    except Exception as error:
        # The fault of who gave it, or of the file: either way the file that was asked for is named.
        is_of_given = any(re.search(rf"\b{re.escape(name)}\b", str(error)) for name in parameters)
        kind = ValueError if is_of_given else CorruptFileError
        raise kind(f"{folder} cannot be loaded: {_reason(error)}") from error


def _device_here(device: Any, folder: Path) -> Any:
    """Return the device of the file, or "auto", with a UserWarning, where that is one of another machine.

    Raises ValueError for what is no device, or one that computes nothing.
    """
    if device == "auto":
        return device
    if not isinstance(device, (str, torch.device)) or torch.device(device).type not in _DEVICES:
        raise ValueError(f"its device is {str(device)[:40]!r}, where one of {[*_DEVICES]} was expected")
    if mistakes_found(lambda: check_device(device)):
        warnings.warn(
            f'{folder} was saved with device={str(device)!r}, which is not here: it is loaded with device="auto"',
            UserWarning,
            stacklevel=4,  # the line that called `load`, behind the wrapper of `undisturbed`
        )
        return "auto"
    return device


def _read(folder: Path, demands: Demands) -> tuple[Json, Codec, dict[str, np.ndarray] | None, str]:
    """Read the plan of a saved repurposer, not yet checked, what else its files hold, and which file has the plan.

    The third is the weights of the source, None where they were not kept.

    Raises FileNotFoundError, CorruptFileError or UnsafeFileError.
    """
    is_file = folder.exists() and not folder.is_dir()
    # A link that leads nowhere does not exist, and is to be refused as a link.
    if is_file or (folder / MANIFEST).exists() or (folder / MANIFEST).is_symlink():
        found = read_archive(folder, demands) if is_file else read_generation(folder, demands)
        arrays = found.files.pop(ARRAYS, None)
        if arrays is None:
            raise CorruptFileError(f"{folder / MANIFEST} names no {ARRAYS}")
        weights = found.files.pop(SOURCE, None)
        kept = None if weights is None else parse_arrays(weights, str(folder / SOURCE)).arrays
        held = parse_arrays(arrays, str(folder / ARRAYS)).arrays
        codec = Codec(held, {name: bytes(data) for name, data in found.files.items()})
        return found.content, codec, kept, str(folder / MANIFEST)
    if not (folder / PLAN_OF_OLD).exists() and not (folder / PLAN_OF_OLD).is_symlink():
        missing = f"there is no such {'file' if is_archive(folder) else 'directory'}"
        reason = f"the directory has no {MANIFEST}" if folder.is_dir() else missing
        raise with_fix(
            FileNotFoundError,
            f"no saved repurposer at {folder}: {reason}",
            python="save_repurposer(path) writes one",
            shell="`repurpose train FOLDER --out PATH` writes one",
        )
    if demands != Demands():
        raise UnsafeFileError(
            f"{folder} was saved by an earlier version, without a hash, encryption or signature: anybody could have "
            "written it"
        )
    return _read_older(folder)


def _read_older(folder: Path) -> tuple[Json, Codec, None, str]:
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
    return plan, Codec(arrays, estimators), None, str(file)


def _checked_plan(plan: Json, what: str) -> dict[str, Any]:
    """Return the plan once every part of it is known to be of the right kind.

    Raises FormatVersionError for one of a newer format, CorruptFileError for another; `what` names its file.
    """
    written = plan.get("format") if isinstance(plan, dict) else None
    if not isinstance(plan, dict) or type(written) is not int or written < 1:
        raise CorruptFileError(f"{what} is not of a saved repurposer: it states no format")
    if written > FORMAT:
        library = plan.get("library")
        by = library if isinstance(library, dict) else {}
        version = str(by.get("version"))[:20]
        raise FormatVersionError(
            f"{what} has format {str(written)[:20]}, written by {str(by.get('name'))[:60]} {version}; this version "
            f"reads formats up to {FORMAT}: upgrade the library, pip install '{DISTRIBUTION}>={version}'"
        )
    if isinstance(plan.get("kind"), str):
        raise ValueError(f"{what} is of an {plan['kind'][:40]}, and no saved repurposer: {_TAKEN_BY}")
    if missing := [part for part, kind in _PARTS.items() if not isinstance(plan.get(part), kind)]:
        raise CorruptFileError(f"{what} is damaged: no usable {missing}")
    left_out = plan["left_out"]
    if not all(isinstance(name, str) for name in left_out) or len({*left_out}) < len(left_out):
        raise CorruptFileError(f"{what} is damaged: what it says was left out are no names")
    if strange := [name for name in plan["fitted"] if not is_fitted_name(name)]:
        raise CorruptFileError(f"{what} is damaged: no learned names {strange}")
    return plan


def _tell_versions(plan: dict[str, Any], folder: Path) -> None:
    """Log which libraries had another version when this was saved, which is no reason to refuse it."""
    saved, now = plan.get("libraries"), library_versions()
    if isinstance(saved, dict) and (others := [name for name in now if saved.get(name) != now[name]]):
        said = ", ".join(f"{name} {str(saved.get(name))[:20]} (here {now[name]})" for name in others)
        _log.info("%s was saved with %s", folder, said)


def _no_parameter(cls: type, name: str) -> str:
    nearest_ones = ", ".join(nearest(name, list(constructor_parameters(cls))))
    return f"{cls.__name__} has no parameter {name!r}; nearest: {nearest_ones}"


def _check_parameters(cls: type, plan: dict[str, Any], given: dict[str, Any], folder: Path) -> None:
    """Raise ValueError listing parameters that the class does not know or that are needed and not given."""
    known = list(constructor_parameters(cls))
    if unknown := [name for name in (*plan["parameters"], *plan["left_out"]) if name not in known]:
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
        said = "\n".join([f"{folder} cannot be loaded in this way:", *mistakes])
        raise with_fix(ValueError, said, python="", shell=IN_PYTHON, between="\n")


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing from its files"
    return str(error) or type(error).__name__

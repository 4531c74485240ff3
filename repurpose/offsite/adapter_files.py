"""Adapter files: what a data owner sends back, the trained blocks and the head alone."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING
from unicodedata import category

import torch
from torch import Tensor

from model_handler.errors import CorruptFileError
from repurpose.offsite.exchanged_files import ADAPTER, key_fix, read_exchanged, write_exchanged
from repurpose.persistence.container.manifests import Demands, Protection
from repurpose.persistence.values.schema import By, Either, Items, Nothing, Table, Text, Whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = [
    "CLASS_NAMES",
    "AdapterContents",
    "ClassNames",
    "check_class_names",
    "class_names_of",
    "read_adapter",
    "write_adapter",
]

ClassNames = tuple[str | int, ...] | None
CLASS_NAMES = Either(Nothing(), Items(Either(Text(), Whole(-(2**63)))))


def _check_package_id(value: object) -> None:
    """Raise ValueError for what is no SHA-256: it stands in messages."""
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError(f"{str(value)[:20]!r} is no id of a package, 64 digits from 0 to 9 and a to f")


_TABLE: Table = {"package": By(_check_package_id), "class_names": CLASS_NAMES}
_LONGEST_NAME = 1_000
_NO_TEXT = ("Cc", "Cs")  # Unicode's categories of control characters and of lone surrogates
_N_AXES = {"weight": 2, "bias": 1}  # of the head


@dataclass(frozen=True, eq=False)
class AdapterContents:
    """What an adapter file holds.

    Attributes
    ----------
    package_id : str
        Of the package that it was trained with.
    blocks : mapping of str to Tensor
        The parameters of the first and the last blocks, by their names in the emulator network.
    head : mapping of str to Tensor
        "weight" (n_classes, n_inputs) and mostly "bias" (n_classes,); empty where there is none.
    class_names : tuple of str or int, optional
        One for each row of the head; None where it is of nobody's classes.
    """

    package_id: str
    blocks: Mapping[str, Tensor]
    head: Mapping[str, Tensor]
    class_names: ClassNames


def write_adapter(
    path: str | PathLike,
    contents: AdapterContents,
    *,
    signing_key: "bytes | Ed25519PrivateKey | None" = None,
    encryption_key: bytes | str | None = None,
) -> str:
    """Write an adapter, as a directory or a file ``NAME.zip``, and return the SHA-256 of its manifest.

    Raises FileExistsError where anything but an adapter is there, ValueError for numbers that are not finite.
    """
    _check(contents)
    said = {
        "package": contents.package_id,
        "class_names": None if contents.class_names is None else list(contents.class_names),
    }
    tensors = {"blocks": contents.blocks, "head": contents.head}
    return write_exchanged(path, ADAPTER, said, tensors, Protection.by(encryption_key, signing_key))


def read_adapter(
    path: str | PathLike,
    *,
    expected_hash: str | None = None,
    verify_key: "bytes | Ed25519PublicKey | None" = None,
    encryption_key: bytes | str | None = None,
) -> AdapterContents:
    """Read an adapter, once all of it is known to be of the form of one; whether it fits a network is not known here.

    Raises FileNotFoundError, and ValueError, CorruptFileError, UnsafeFileError and FormatVersionError, naming the file.
    """
    fix = key_fix("OffsiteOwner.plug_in", "adapter_path")
    demands = Demands.by(encryption_key, expected_hash, verify_key, fix)
    said, tensors, _ = read_exchanged(path, ADAPTER, _TABLE, ("blocks", "head"), demands)
    names = class_names_of(said["class_names"])
    contents = AdapterContents(str(said["package"]), tensors["blocks"], tensors["head"], names)
    try:
        _check(contents)
    except ValueError as error:
        raise CorruptFileError(f"{path} is damaged: {error}") from error
    return contents


def class_names_of(listed: list[str | int] | None) -> ClassNames:
    """Return the class names that a file lists."""
    return None if listed is None else tuple(listed)


def check_class_names(names: ClassNames) -> None:
    """Raise ValueError for text that is no name.

    Numpy makes all as long as the longest; control characters act on a terminal, and lone surrogates have no UTF-8.
    """
    for name in names or ():
        if isinstance(name, str) and (len(name) > _LONGEST_NAME or any(category(each) in _NO_TEXT for each in name)):
            raise ValueError(
                f"the class name {name[:40]!a} is of {len(name):,} characters, or has control characters or halves of "
                f"some among them; at most {_LONGEST_NAME:,} others are written"
            )


def _check(contents: AdapterContents) -> None:
    """Raise ValueError, naming the tensor, unless blocks and head can be those of an adapter."""
    check_class_names(contents.class_names)
    head, names = contents.head, contents.class_names or ()
    if not contents.blocks:
        raise ValueError("an adapter without blocks is none")
    if head and not {"weight"} <= {*head} <= {*_N_AXES}:
        raise ValueError(f"a head has {list(_N_AXES)}, and this one {sorted(head)[:5]}")
    if any(tensor.ndim != _N_AXES[name] for name, tensor in head.items()):
        raise ValueError("the weight of a head has two axes, and its bias one")
    if {len(tensor) for tensor in head.values()} - {len({*names})} or len({*names}) < len(names):
        rows = [len(tensor) for tensor in head.values()]
        raise ValueError(f"its head of {rows} rows is not one of its {len(names)} classes, all of them different")
    for name, tensor in (*contents.blocks.items(), *head.items()):
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name[:60]!r} holds numbers that are not finite, or none that learn")

"""Packages: what an owner sends, the adapter, the emulator, perhaps the head, and the network as data around them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from model_handler.errors import CorruptFileError
from model_handler.files.canonical_json import JsonValue
from repurpose.neural_network.architecture import Spec, like_spec
from repurpose.offsite.adapter_files import CLASS_NAMES, ClassNames, check_class_names, class_names_of
from repurpose.offsite.architecture import Architecture
from repurpose.offsite.exchanged_files import PACKAGE, check_name, key_fix, read_exchanged, write_exchanged
from repurpose.persistence.container.encryption import KeyFix
from repurpose.persistence.container.manifests import Demands, Protection
from repurpose.persistence.values.schema import By, Dict, Either, Items, Nothing, Table, Text, Truth, Whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    from model_handler import Source
    from repurpose.offsite.audit import Audit
    from repurpose.offsite.owner import OffsiteOwner

__all__ = ["OffsitePackage", "PackageContents", "read_package", "write_package"]

_BLOCKS = ("first", "emulator", "last", "dropped")
_SAID = ("classifier", "n_inputs_of_head", "example_inputs", "preprocessing", "is_distilled")  # as JSON has them
_TABLE: Table = {
    "architecture": Dict(Text()),  # the rest of it is judged where it is built
    **{name: Items(By(check_name)) for name in _BLOCKS},
    "classifier": Either(Nothing(), By(check_name)),
    "n_inputs_of_head": Whole(1),
    "class_names": CLASS_NAMES,
    "example_inputs": By(like_spec),
    "preprocessing": Either(Nothing(), Dict(Text())),
    "is_distilled": Truth(),
}


@dataclass(frozen=True, eq=False)
class PackageContents:
    """What a package holds.

    Attributes
    ----------
    architecture : Architecture
        The emulator network as data.
    state : mapping of str to Tensor
        Its parameters and buffers by name, without the classifier's where that stays with the owner.
    first, emulator, last : tuple of str
        The names of its blocks: adapter, emulator, adapter.
    dropped : tuple of str
        Of a network that the data owner has: the blocks that make it the emulator network once they are left out.
    classifier : str, optional
        The path of the last linear layer; None where the network has none.
    n_inputs_of_head : int
        How many features the head reads.
    class_names : tuple of str or int, optional
        The owner's classes; None where the head stays with the owner.
    example_inputs : Spec
        Shapes and dtypes of up to two rows.
    preprocessing : value that JSON holds
        What the transform is made of; None for none.
    is_distilled : bool
        Whether the emulator was trained to stand for what it replaces.
    """

    architecture: Architecture
    state: Mapping[str, Tensor]
    first: tuple[str, ...]
    emulator: tuple[str, ...]
    last: tuple[str, ...]
    dropped: tuple[str, ...]
    classifier: str | None
    n_inputs_of_head: int
    class_names: ClassNames
    example_inputs: Spec
    preprocessing: JsonValue
    is_distilled: bool

    @property
    def has_head(self) -> bool:
        """Tell whether the owner's classifier is in the package."""
        return self.classifier is not None and self.class_names is not None


def write_package(
    path: str | PathLike,
    contents: PackageContents,
    *,
    signing_key: "bytes | Ed25519PrivateKey | None" = None,
    encryption_key: bytes | str | None = None,
) -> str:
    """Write a package, as a directory or a file ``NAME.zip``, and return its id, the SHA-256 of its manifest.

    Raises FileExistsError where anything but a package is there, ValueError for a state that no file can hold.
    """
    _check(contents)
    names = contents.class_names
    said = {
        "architecture": contents.architecture.said,
        **{name: list(getattr(contents, name)) for name in _BLOCKS},
        **{name: getattr(contents, name) for name in _SAID},
        "class_names": None if names is None else list(names),
    }
    tensors = {"state": contents.state, "constants": contents.architecture.constants}
    return write_exchanged(path, PACKAGE, said, tensors, Protection.by(encryption_key, signing_key))


def read_package(
    path: str | PathLike,
    *,
    expected_hash: str | None = None,
    verify_key: "bytes | Ed25519PublicKey | None" = None,
    encryption_key: bytes | str | None = None,
    fix: KeyFix | None = None,
) -> tuple[PackageContents, str]:
    """Read a package and its id, once all of it is known to be of the form of one; nothing is built yet.

    `fix` is how the caller is given a key, by default how `OffsitePackage` is.

    Raises FileNotFoundError, and ValueError, CorruptFileError, UnsafeFileError and FormatVersionError, naming the file.
    """
    demands = Demands.by(encryption_key, expected_hash, verify_key, fix or key_fix("OffsitePackage"))
    said, tensors, package_id = read_exchanged(path, PACKAGE, _TABLE, ("state", "constants"), demands)
    parts: dict[str, Any] = {name: said[name] for name in _SAID} | {name: tuple(said[name]) for name in _BLOCKS}
    architecture = Architecture(said["architecture"], tensors["constants"])
    names = class_names_of(said["class_names"])
    contents = PackageContents(architecture, tensors["state"], class_names=names, **parts)
    try:
        _check(contents)
    except ValueError as error:
        raise CorruptFileError(f"{path} is damaged: {error}") from error
    return contents, package_id


class OffsitePackage:
    """A package that an owner exported: what it holds, the network in it, and what it gives away.

    A package is no protection of the network by itself: its adapter is the owner's, bit for bit, and its emulator may
    be near to the owner's middle. `audit` says how near.

    Parameters
    ----------
    path : str or path
        The directory, or the file ``NAME.zip``, that `OffsiteOwner.export` wrote.
    expected_hash : str, optional
        The id that `OffsiteOwner.export` returned, told over another channel: any other package is refused.
    verify_key : bytes or Ed25519PublicKey, optional
        What is not signed with the key that belongs to this one is refused.
    encryption_key : bytes or str, optional
        With which it was encrypted.

    Examples
    --------
    >>> import torch
    >>> from torchvision.models import VisionTransformer
    >>> from repurpose.offsite import OffsiteOwner, OffsitePackage
    >>> network = VisionTransformer(16, 8, num_layers=4, num_heads=2, hidden_dim=16, mlp_dim=16, num_classes=3)
    >>> owner = OffsiteOwner(network, adapter=(1, 1), emulator=1, example_inputs=torch.rand(2, 3, 16, 16))
    >>> package_id = owner.export("package", distill_data=torch.rand(8, 3, 16, 16), min_steps=2)
    >>> package = OffsitePackage("package")
    >>> package.id == package_id, package.contents.emulator
    (True, ('encoder.layers.encoder_layer_1',))
    """

    def __init__(
        self,
        path: str | PathLike,
        *,
        expected_hash: str | None = None,
        verify_key: "bytes | Ed25519PublicKey | None" = None,
        encryption_key: bytes | str | None = None,
    ) -> None:
        self.path = Path(path)
        self._demands: dict[str, Any] = {
            "expected_hash": expected_hash,
            "verify_key": verify_key,
            "encryption_key": encryption_key,
        }

    @classmethod
    def given_to(cls, call: KeyFix, path: str | PathLike, **demands: Any) -> "OffsitePackage":
        """Open a package whose path was given to another call, by which a missing key is asked for then."""
        made = cls(path, **demands)
        made._demands["fix"] = call
        return made

    @cached_property
    def _read(self) -> tuple[PackageContents, str]:
        return read_package(self.path, **self._demands)

    @property
    def contents(self) -> PackageContents:
        """What it holds, read when it is first asked for."""
        return self._read[0]

    @property
    def id(self) -> str:
        """The SHA-256 of its manifest, 64 hexadecimal digits, as `OffsiteOwner.export` returned it."""
        return self._read[1]

    def network(self, source_model: nn.Module | None = None) -> nn.Module:
        """Build the emulator network, in evaluation mode; without the owner's head, nothing is in its place.

        `source_model` is a network of the owner's architecture, of any weights, where the package holds weights alone.

        Raises ValueError where that is missing, needless or of another architecture; CorruptFileError for a package
        that no network fits.
        """
        from repurpose.offsite.emulator_network import emulator_network

        return emulator_network(self.contents, str(self.path), source_model)

    def audit(
        self,
        data: object = None,
        y: object = None,
        *,
        owner: "OffsiteOwner | nn.Module | Source | str | None" = None,
        source_model: nn.Module | None = None,
    ) -> "Audit":
        """Say what the package gives away: of the network of its owner, if that is given, and on labelled data, if any.

        Parameters
        ----------
        data, y : as `score` takes them, optional
            On which the emulator is tried as it is.
        owner : OffsiteOwner, nn.Module, Source or str, optional
            The owner, or its network, to compare the package with.
        source_model : nn.Module, optional
            A network of the owner's architecture, of any weights, where the package holds weights alone and there is
            no owner.

        Raises
        ------
        ValueError
            For the network of another owner, a `source_model` that is missing or needless, data without labels, and
            data where the package has no head.

        >>> import torch
        >>> from torchvision.models import VisionTransformer
        >>> from repurpose.offsite import OffsiteOwner, OffsitePackage
        >>> network = VisionTransformer(16, 8, num_layers=4, num_heads=2, hidden_dim=16, mlp_dim=16, num_classes=3)
        >>> owner = OffsiteOwner(network, adapter=(1, 1), emulator=1, example_inputs=torch.rand(2, 3, 16, 16))
        >>> package_id = owner.export("package", distill_data=torch.rand(8, 3, 16, 16), min_steps=2)
        >>> OffsitePackage("package").audit(owner=network).blocks[0].of
        'encoder.layers.encoder_layer_1'
        """
        from repurpose.offsite.audit import audit

        return audit(self, data, y, owner=owner, source_model=source_model)

    def __repr__(self) -> str:
        of_id = f", id={self.id[:12]}..." if "_read" in vars(self) else ""
        return f"OffsitePackage({str(self.path)!r}{of_id})"


def _check(contents: PackageContents) -> None:
    """Raise ValueError unless blocks, head and state fit each other."""
    blocks = [*contents.first, *contents.emulator, *contents.last]
    if not (contents.first or contents.last) or len({*blocks}) < len(blocks):
        raise ValueError("its blocks have no adapter, or a name that comes twice")
    classifier, names = contents.classifier, contents.class_names
    if names is None:
        return
    check_class_names(names)
    if len({*names}) < max(2, len(names)):
        raise ValueError("its class names are not two different ones or more")
    weight = contents.state.get(f"{classifier}.weight") if classifier is not None else None
    if weight is None or tuple(weight.shape) != (len(names), contents.n_inputs_of_head):
        raise ValueError(f"it has {len(names)} class names, and no head of so many classes")

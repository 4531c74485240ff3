"""`OffsiteOwner`: who has a network sends an adapter and an emulator of it, and plugs in the adapter that returns."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from model_handler import ModelError, ModelHandler, Source
from model_handler.data import reading_options
from model_handler.errors import first_few
from model_handler.extraction.pooling import pool
from model_handler.network.ambient_modes import undisturbed
from model_handler.network.copying import deep_copy
from model_handler.network.device import check_device, resolve_device
from model_handler.network.inputs import example_tensors, with_numbers
from model_handler.network.outputs import select_tensor
from model_handler.sources import blank_input
from repurpose.data.inputs import Inputs
from repurpose.neural_network.architecture import as_spec
from repurpose.offsite.adapter_files import read_adapter
from repurpose.offsite.distilling import Distillation, distil
from repurpose.offsite.exchanged_files import PACKAGE, check_target, key_fix
from repurpose.offsite.heads import head_path
from repurpose.offsite.package import OffsitePackage, write_package
from repurpose.offsite.packing import Head, packed, without_head
from repurpose.offsite.plugged_repurposer import PluggedInRepurposer
from repurpose.offsite.plugging import adapter_pairs, checked_weights
from repurpose.offsite.split import is_text, refuse_shared_weights, split_blocks
from repurpose.offsite.thinning import thin
from repurpose.parameters import is_whole
from repurpose.persistence.container.directory import check_parents
from repurpose.persistence.container.manifests import Demands, Protection
from repurpose.seeding import draw_seed
from repurpose.source import check_source, open_source
from repurpose.training.steps.forward import call, on_device

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["OffsiteOwner"]


class OffsiteOwner:
    """The owner's side of Offsite-Tuning: `export` writes what is sent, `plug_in` reads what comes back.

    Xiao, Lin and Han (2023), arXiv:2302.04870. What is sent is a package: the first and last blocks of the network (the
    adapter, which the data owner tunes), and some blocks of its middle (the emulator), distilled if data are given.

    Nothing here is a formal promise of privacy. A package gives away a part of the network, its first and last blocks
    as they are, and an emulator that is near to its middle: `OffsitePackage.audit` says how near. An adapter that comes
    back may tell of the data it was tuned on. Fewer emulator blocks give away less of the network; on the other side
    ``clip_norm`` and fewer epochs less of the data, and who needs a guarantee needs differential privacy.

    Parameters
    ----------
    source_model : nn.Module, Source or str
        The network, or its name: one with a chain of blocks, `ModelHandler.blocks`. It is never moved or changed.
    adapter : (int, int), optional
        How many of the first and of the last blocks are tuned; by default (2, 2) where the network reads text and
        (4, 4) elsewhere, and in a network too short for that as many as leave two blocks in the middle.
    emulator : int or float, default=0.5
        How many blocks of the middle are sent: a number of them, or a share above 0 and up to 1, rounded to at least
        1. In a ConvNet a block that changes the width or the resolution is always among them.
    example_inputs : as the network takes them
        Up to two rows, by which blocks are found and what is sent is compared with the network: a tensor, or a tuple
        or dict of them. Not needed for a source with preprocessing of images.
    class_names : sequence of str or int, optional
        The class of each output of the network's head, in order; by default 0, 1, 2, ...
    transform : callable, optional
        Preprocessing of images; a source by name brings its own.
    device : str or torch.device, default="auto"
        Where the emulator is distilled and adapters plugged in are run.
    batch_size : int, default=32
    random_state : int, RandomState instance or None, default=None
        Where the order of the rows in distillation comes from.
    verbose : bool, optional
        True shows the progress of distillation from the start, False never; by default it is shown on a terminal or in
        a notebook, once it has taken a second and a half.

    Attributes
    ----------
    handler : ModelHandler
        The network, as it was given.
    split : Split
        The names of the blocks that are the adapter, the middle and the emulator.
    package_id_ : str
        The id of the last package that was exported.

    Raises
    ------
    NoBlocksError
        For a network without a chain of blocks.
    TypeError, ValueError
        For parameters that cannot be used: more adapter blocks than there are, an emulator of none or of more than the
        middle has, class names that do not fit the head.
    ModelError
        For a network in which one block runs several times, or in which weights of the adapter are those of other
        layers too.

    Examples
    --------
    >>> import torch
    >>> from torchvision.models import VisionTransformer
    >>> from repurpose.offsite import OffsiteOwner
    >>> network = VisionTransformer(16, 8, num_layers=6, num_heads=2, hidden_dim=16, mlp_dim=16, num_classes=3)
    >>> owner = OffsiteOwner(network, adapter=(1, 1), emulator=2, example_inputs=torch.rand(2, 3, 16, 16))
    >>> owner.split.kept
    ('encoder.layers.encoder_layer_1', 'encoder.layers.encoder_layer_4')
    >>> len(owner.export("package", distill_data=torch.rand(8, 3, 16, 16), min_steps=5))
    64
    """

    package_id_: str

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        adapter: tuple[int, int] | None = None,
        emulator: int | float = 0.5,
        *,
        example_inputs: Inputs | None = None,
        class_names: Sequence[str | int] | None = None,
        transform: Callable | None = None,
        device: str | torch.device = "auto",
        batch_size: int = 32,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool | None = None,
    ) -> None:
        check_source(source_model)
        check_device(device)
        if not is_whole(batch_size, 1):
            raise ValueError(f"batch_size must be a whole number of at least 1, got {batch_size!r}")
        source = open_source(source_model)
        own = source.transform if isinstance(source, Source) else None
        self.source_model, self.transform, self.device = source_model, transform, device
        self.batch_size, self.random_state, self.verbose = batch_size, random_state, verbose
        self._preprocessing = transform or own  # that of a source by name is found again
        self.example_inputs = _two_rows(example_inputs, self._preprocessing)
        self.handler = ModelHandler(
            source, self.example_inputs, transform=transform, device=device, batch_size=batch_size
        )
        self.is_text = is_text(self.example_inputs)
        self.split = split_blocks(self.handler.blocks, adapter, emulator, of_text=self.is_text)
        refuse_shared_weights(self.network, self.split)
        self._head = self._found_head(class_names)

    def __repr__(self) -> str:
        split, name = self.split, type(self.network).__name__
        n_blocks = f"{len(split.kept)} of the {len(split.middle)} blocks between"
        ends = f"adapter {_from_to(split.first)} and {_from_to(split.last)}"
        return f"{type(self).__name__}({name}: {ends}, emulator {n_blocks}, {_from_to(split.kept)})"

    @property
    def network(self) -> nn.Module:
        """The owner's network, as it was given."""
        source = open_source(self.source_model)
        return source.network if isinstance(source, Source) else source

    @undisturbed()
    def export(
        self,
        path: str | PathLike,
        distill_data: object = None,
        head: str = "owner",
        *,
        min_steps: int = 500,
        architecture: str = "auto",
        signing_key: "bytes | Ed25519PrivateKey | None" = None,
        encryption_key: bytes | str | None = None,
    ) -> str:
        """Write the package for the data owner to `path`, one file if that ends in ``.zip``, and return its id.

        What is written is made again and compared with what it is of, bit for bit on the example inputs, before. A
        failure leaves nothing behind.

        Parameters
        ----------
        path : str or path
        distill_data : as `data` in `repurpose`, optional
            Rows, labelled or not, on which the emulator learns to give what the whole middle gives of the same input.
            Without, its blocks are those of the network as they are, and a UserWarning says so.
        head : "owner" or "none", default="owner"
            Whether the network's own head and `class_names` are sent.
        min_steps : int, default=500
            Distillation takes one epoch, and at least so many steps.
        architecture : "auto" or "given", default="auto"
            How the data owner gets the layers: from the package as data, or ``"given"``: weights alone are sent, and
            the data owner has the network's code, ``OffsiteRepurposer(package, source_model=module)``.
        signing_key, encryption_key : optional
            As `Repurposer.save_repurposer` takes them.

        Raises
        ------
        ValueError
            For a `head` of which the network has none, distillation data of other shapes or labels, and keys.
        ModelError, ValueError
            Naming the layer, operator or class that cannot be sent as data, and where what is made again differs.
        OSError
            Where nothing can be written.
        """
        check_target(path, PACKAGE, Demands.by(encryption_key))
        self._check_export(path, head, min_steps, architecture)
        Protection.by(encryption_key, signing_key)  # keys that are none are refused before the emulator is distilled
        emulator, renames = self._thinned()
        if distill_data is None:
            warnings.warn(
                f"without distill_data {_blocks_of(self.split.kept)} of the network verbatim; give data of any kind "
                "that the network reads",
                UserWarning,
                stacklevel=3,
            )
        else:
            self._distil(emulator, renames, distill_data, min_steps)
        contents = packed(
            emulator.cpu(),
            self.network,
            self.split,
            renames,
            self._head,
            example_inputs=self.example_inputs,
            transform=self._preprocessing,
            is_given=architecture == "given",
            is_distilled=distill_data is not None,
        )
        contents = contents if head == "owner" else without_head(contents)
        self.package_id_ = write_package(path, contents, signing_key=signing_key, encryption_key=encryption_key)
        self._sent_names = {renames[name]: name for name in self.split.adapter}
        return self.package_id_

    @undisturbed()
    def plug_in(
        self,
        adapter_path: str | PathLike,
        package: "str | PathLike | OffsitePackage | None" = None,
        *,
        expected_hash: str | None = None,
        verify_key: "bytes | Ed25519PublicKey | None" = None,
        encryption_key: bytes | str | None = None,
    ) -> PluggedInRepurposer:
        """Return a Repurposer with the adapter and head of a file in a copy of the network, whose middle stays.

        Parameters
        ----------
        adapter_path : str or path
            What `OffsiteRepurposer.save_adapter` wrote.
        package : str, path or OffsitePackage, optional
            The package that it was tuned with, by default the last one that this object exported.
        expected_hash : str, optional
            What `save_adapter` returned, told over another channel: any other adapter is refused.
        verify_key, encryption_key : optional
            The keys of the adapter's file, and of the package where that is given by its path. The data owner signs the
            one and the owner the other, so that only the adapter is verified.

        Raises
        ------
        ValueError
            For an adapter of another package, with other shapes, missing or further tensors, numbers that are none, or
            classes that do not fit its head; every mistake is listed. CorruptFileError and UnsafeFileError for files
            that are damaged.
        FileNotFoundError
        """
        demands: dict[str, Any] = {"expected_hash": expected_hash, "verify_key": verify_key}
        adapter = read_adapter(adapter_path, encryption_key=encryption_key, **demands)
        package_id, pairs = self._sent(package, encryption_key)
        if adapter.package_id != package_id:
            raise ValueError(
                f"{adapter_path} was tuned with another package: its id is {adapter.package_id[:12]}..., and that of "
                f"{'the last export' if package is None else 'the package given'} is {package_id[:12]}...; give the "
                "package that it belongs to, plug_in(adapter_path, package)"
            )
        plug = checked_weights(adapter, self.network, pairs, self._head, str(adapter_path))
        parameters = {name: getattr(self, name) for name in ("source_model", "transform", "device", "batch_size")}
        return PluggedInRepurposer.made_of(parameters, as_spec(self.example_inputs), plug, self._head.path)

    def _sent(
        self, package: "str | PathLike | OffsitePackage | None", encryption_key: bytes | str | None
    ) -> tuple[str, Mapping[str, str]]:
        """Return the id of a package, and the owner's name of each adapter block by its name in there."""
        if package is None:
            if not hasattr(self, "package_id_"):
                raise ValueError(
                    "nothing was exported by this object: give the package that the adapter was tuned with, "
                    "plug_in(adapter_path, package)"
                )
            return self.package_id_, self._sent_names
        if not isinstance(package, OffsitePackage):
            fix = key_fix("OffsiteOwner.plug_in", "adapter_path, package")
            package = OffsitePackage.given_to(fix, package, encryption_key=encryption_key)
        return package.id, adapter_pairs(package.contents, self.handler)

    def _found_head(self, class_names: Sequence[str | int] | None) -> Head:
        """Find the head. Raises ValueError for class names that do not fit it."""
        path = head_path(self.handler)
        if path is None:
            if class_names is not None:
                raise ValueError("class_names are those of a head, and this network ends in no linear layer")
            output = select_tensor(self.handler.example_output(), "the network", None)
            rows = pool(output.detach(), "auto", self.handler.output_layout)
            return Head(None, rows.shape[1], None)
        layer: Any = self.network.get_submodule(path)
        n_outputs = layer.out_features
        given = range(n_outputs) if class_names is None else class_names
        names = tuple(name.item() if isinstance(name, (np.generic, torch.Tensor)) else name for name in given)
        is_plain = {type(name) for name in names} in ({int}, {str})
        if len(names) != n_outputs or len(set(names)) < len(names) or not is_plain:
            raise ValueError(
                f"class_names must be {n_outputs} different texts or whole numbers, one for each output of the head, "
                f"got {len(names)}: {first_few([repr(name) for name in names])}"
            )
        return Head(path, layer.in_features, names)

    def _check_export(self, path: str | PathLike, head: str, min_steps: int, architecture: str) -> None:
        check_parents(path)
        mistakes = []
        if head not in ("owner", "none"):
            mistakes.append(f"head must be 'owner' or 'none', got {head!r}")
        if head == "owner" and self._head.path is None:
            mistakes.append(
                "the network ends in no linear layer that gives its output, so there is no head: head='none'"
            )
        if not is_whole(min_steps, 1):
            mistakes.append(f"min_steps must be a whole number of at least 1, got {min_steps!r}")
        if architecture not in ("auto", "given"):
            mistakes.append(f"architecture must be 'auto' or 'given', got {architecture!r}")
        if mistakes:
            raise ValueError("\n".join(mistakes))

    def _thinned(self) -> tuple[nn.Module, dict[str, str]]:
        """Copy the network without the blocks that are not sent; say what its modules are called now.

        Raises ModelError where it does not run without them.
        """
        emulator = deep_copy(self.network).eval()
        renames = thin(emulator, self.split.dropped)
        first = next(emulator.parameters())
        try:
            with torch.no_grad():
                call(emulator, on_device(self.example_inputs, first.device, first.dtype))
        except Exception as error:  # whatever a forward raises that misses a block
            raise ModelError(
                f"{type(emulator).__name__} does not run without {first_few(self.split.dropped)}: {error}. Its forward "
                "asks for blocks by number or name; one that runs through their list can be thinned"
            ) from error
        return emulator, renames

    def _distil(self, emulator: nn.Module, renames: Mapping[str, str], data: object, min_steps: int) -> None:
        """Distil the blocks of an emulator, in place."""
        device = resolve_device(self.device, self.network)
        reading = reading_options(self._preprocessing, self.batch_size, 0, device)
        plan = Distillation(
            blocks=[renames[name] for name in self.split.kept],
            student_end=renames[self.split.kept[-1]],
            teacher_end=self.split.middle[-1],
            is_text=self.is_text,
            class_names=self._head.class_names,
            example_inputs=as_spec(self.example_inputs),
            min_steps=min_steps,
            seed=draw_seed(self.random_state),
            verbose=self.verbose,
        )
        distil(emulator.to(device), deep_copy(self.network).to(device).eval(), data, plan, **reading)


def _from_to(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"


def _blocks_of(kept: Sequence[str]) -> str:
    if len(kept) == 1:
        return f"the emulator's one block, {kept[0]}, is that"
    return f"the {len(kept)} blocks of the emulator are those"


def _two_rows(example_inputs: Inputs | None, transform: Callable | None) -> Any:
    """Return up to two rows with numbers. Raises ValueError where there are none to have."""
    inputs = blank_input(transform) if example_inputs is None else example_inputs
    if inputs is None:
        raise ValueError("give example_inputs, up to two rows as the network takes them: torch.rand(2, 3, 224, 224)")
    rows: Any = example_tensors(inputs)
    if isinstance(rows, Mapping):
        return {name: with_numbers(part[:2]) for name, part in rows.items()}
    return tuple(with_numbers(part[:2]) for part in rows) if isinstance(rows, tuple) else with_numbers(rows[:2])

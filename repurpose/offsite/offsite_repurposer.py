"""`OffsiteRepurposer`: the data owner's side of Offsite-Tuning, after Xiao, Lin and Han (2023), arXiv:2302.04870."""

import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor, nn

from model_handler import ModelError, ModelHandler, Source
from model_handler.adapters.layouts import is_matrix_layer
from model_handler.network.copying import deep_copy
from repurpose.data.inputs import Inputs
from repurpose.data.row_shapes import failures_blamed_on_sizes, shapes_of_spec
from repurpose.neural_network.ensemble import members_of
from repurpose.neural_network.heads import add_head, class_count_mistakes, width_of_head
from repurpose.neural_network.neural_network_repurposer import NeuralNetworkRepurposer
from repurpose.offsite.adapter_files import AdapterContents, write_adapter
from repurpose.offsite.exchanged_files import key_fix
from repurpose.offsite.heads import linear_layer
from repurpose.offsite.package import OffsitePackage, PackageContents
from repurpose.offsite.preprocessing import rebuilt_transform
from repurpose.parameters import is_one_of, is_whole
from repurpose.persistence.values.codec import NotInFileError
from repurpose.persistence.values.schema import Table, Text
from repurpose.training.task import Task

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["OffsiteRepurposer"]

KINDS = ("full", "lora")
_DEMANDS = ("expected_hash", "verify_key", "encryption_key")


class OffsiteRepurposer(NeuralNetworkRepurposer):
    """Trains the adapter in an owner's package on data that the owner does not see, and gives it back.

    A package has the first and the last blocks of a network, the adapter, and an emulator of what is between them. The
    adapter and a head learn; everything else stays, bit for bit, and gradients pass through it. What `save_adapter`
    writes is for `OffsiteOwner.plug_in`, with which the owner's whole network predicts.

    There is no formal privacy in this: weights can leak the data that they were trained on, as an emulator leaks the
    network that it is of. ``clip_norm`` and fewer epochs leak less; who needs a guarantee needs differential privacy,
    as of Opacus, whose noise this class does not add.

    Parameters
    ----------
    package : str, path or OffsitePackage
        What `OffsiteOwner.export` wrote.
    target_class_count : int, optional
        The width of a new head; by default the number of classes seen in training.
    kind : "full" or "lora", default="full"
        Whether the blocks of the adapter learn as they are, or by LoRA on their linear layers and convolutions, which
        `save_adapter` computes into their weights.
    rank : int, default=4
        The rank of what LoRA adds to each weight.
    source_model : nn.Module, optional
        A network of the owner's architecture, with any weights, for a package that holds weights alone.
    expected_hash : str, optional
        The id that `OffsiteOwner.export` returned, told over another channel: any other package is refused.
    verify_key : bytes or Ed25519PublicKey, optional
        A package that is not signed with the key that belongs to this one is refused.
    encryption_key : bytes or str, optional
        With which the package was encrypted. It is not shown, and no file holds it. An `OffsitePackage` has been given
        these three itself.
    **kwargs
        The parameters of `NeuralNetworkRepurposer` and `Repurposer`. The head, and what LoRA adds, are ``"new"`` in
        `learning_rates`, by default at 1e-3, the blocks ``"transferred"``, at a tenth of that, 1e-4; what else a
        pattern there matches stays frozen. Where accuracy is poor both with the emulator and plugged in, training may
        have been too slow: try ``learning_rates={"new": 1e-2, "transferred": 1e-3}``. Without `transform`, images are
        preprocessed as the package says, where it says so.

    Attributes
    ----------
    package_id_ : str
        The SHA-256 of the package's manifest.

    Examples
    --------
    >>> import torch
    >>> from torchvision.models import VisionTransformer
    >>> from repurpose.offsite import OffsiteOwner, OffsiteRepurposer
    >>> network = VisionTransformer(16, 8, num_layers=4, num_heads=2, hidden_dim=16, mlp_dim=16, num_classes=3)
    >>> owner = OffsiteOwner(network, adapter=(1, 1), emulator=1, example_inputs=torch.rand(2, 3, 16, 16))
    >>> package_id = owner.export("package.zip", distill_data=torch.rand(8, 3, 16, 16), min_steps=2)
    >>> X, y = torch.rand(8, 3, 16, 16), ["cat", "dog"] * 4
    >>> repurposer = OffsiteRepurposer("package.zip", num_epochs=1).repurpose((X, y))
    >>> manifest_hash = repurposer.save_adapter("adapter.zip")
    >>> owner.plug_in("adapter.zip").predict_probability(X).shape
    (8, 2)
    """

    _of_the_source = ("package", "source_model", *_DEMANDS)
    _finds_its_source = True
    _schema: ClassVar[Table] = {"package_id_": Text()}

    _cached_package: tuple[tuple[Any, ...], OffsitePackage, Source]

    def __init__(
        self,
        package: str | PathLike | OffsitePackage,
        target_class_count: int | None = None,
        kind: str = "full",
        *,
        rank: int = 4,
        source_model: nn.Module | None = None,
        expected_hash: str | None = None,
        verify_key: "bytes | Ed25519PublicKey | None" = None,
        encryption_key: bytes | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(source_model, **kwargs)  # type: ignore[arg-type]
        self.package = package
        self.target_class_count = target_class_count
        self.kind = kind
        self.rank = rank
        self.expected_hash = expected_hash
        self.verify_key = verify_key
        self.encryption_key = encryption_key

    def save_adapter(
        self,
        path: str | PathLike,
        *,
        share_class_names: bool = True,
        signing_key: "bytes | Ed25519PrivateKey | None" = None,
        encryption_key: bytes | str | None = None,
    ) -> str:
        """Write the adapter and the head for the owner, and nothing else: one file if `path` ends in ``.zip``.

        There is no card, history, count, date, seed or path in it. Before `repurpose` it is the adapter of the package,
        untouched.

        Parameters
        ----------
        path : str or path
            An adapter that is there is replaced.
        share_class_names : bool, default=True
            Whether the labels are in it. Otherwise the owner has the numbers from 0 in their place, in the order of
            `classes_`.
        signing_key, encryption_key : optional
            As `save_repurposer` takes them; `plug_in` takes the keys that belong to them.

        Returns
        -------
        str
            The SHA-256 of the manifest.

        Raises
        ------
        ValueError
            For an ensemble, which has an adapter for each member.
        FileExistsError
            If anything but an adapter is at `path`.

        Examples
        --------
        >>> import torch
        >>> from torchvision.models import VisionTransformer
        >>> from repurpose.offsite import OffsiteOwner, OffsiteRepurposer
        >>> network = VisionTransformer(16, 8, num_layers=4, num_heads=2, hidden_dim=16, mlp_dim=16, num_classes=3)
        >>> owner = OffsiteOwner(network, adapter=(1, 1), emulator=1, example_inputs=torch.rand(2, 3, 16, 16))
        >>> package_id = owner.export("package.zip", distill_data=torch.rand(8, 3, 16, 16), min_steps=2)
        >>> len(OffsiteRepurposer("package.zip").save_adapter("adapter.zip"))
        64
        """
        contents = self._learned_adapter() if hasattr(self, "classes_") else self._untouched_adapter()
        if not share_class_names and contents.class_names is not None:
            contents = replace(contents, class_names=tuple(range(len(contents.class_names))))
        return write_adapter(path, contents, signing_key=signing_key, encryption_key=encryption_key)

    def _learned_adapter(self) -> AdapterContents:
        members = members_of(self.target_model_)
        if len(members) > 1:
            raise ValueError(
                f"an ensemble of {len(members)} networks has as many adapters, and plug_in takes one: train with "
                "num_members=1"
            )
        module = ModelHandler(members[0]).merge_adapters().get_module() if self.kind == "lora" else members[0]
        names, state = set(self._names_in_blocks(self._source_network())), dict(module.named_parameters())
        new = self._new_parameters(module)
        # outputs beyond the classes that were seen are of none
        head = {name.rpartition(".")[2]: _detached(state[name][: len(self.classes_)]) for name in sorted(new)}
        blocks = {name: _detached(state[name]) for name in state if name in names}
        labels = tuple(label if type(label) in (str, int) else str(label) for label in self.classes_.tolist())
        return AdapterContents(self.package_id_, blocks, head, labels)

    def _untouched_adapter(self) -> AdapterContents:
        package, network = self._opened()[0], self._source_network()
        contents, state = package.contents, dict(network.named_parameters())
        blocks = {name: _detached(state[name]) for name in self._names_in_blocks(network)}
        head = {}
        if contents.has_head:
            layer = network.get_submodule(str(contents.classifier))
            head = {name: _detached(value) for name, value in layer.named_parameters()}
        return AdapterContents(package.id, blocks, head, contents.class_names)

    def _create_target_module(self, example_inputs: Inputs) -> nn.Module:
        contents, width = self._contents, width_of_head(self.target_class_count, self.classes_)
        if contents.classifier is None:
            module = add_head(self._handler_for(example_inputs), width, "auto")
        else:
            module = deep_copy(self._source_network())
            module.set_submodule(contents.classifier, self._head(module, contents, width))
        if self.kind == "lora":
            handler = ModelHandler(module, example_inputs, device=self.device, batch_size=self.batch_size)
            module = handler.add_adapters(self._layers_for_lora(module), "lora", self.rank).get_module()
        learning = self._new_parameters(module)
        if self.kind == "full":
            learning |= set(self._names_in_blocks(module))
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name in learning)
        return module

    def _layers_for_lora(self, module: nn.Module) -> list[str]:
        """List linear layers and convolutions in the blocks of the adapter. Raises ModelError where there are none."""
        inside = tuple(f"{block}." for block in (*self._contents.first, *self._contents.last))
        parts = module.named_modules()
        if found := [path for path, part in parts if path.startswith(inside) and is_matrix_layer(part)]:
            return found
        raise ModelError(
            "kind='lora' finds no linear layer or convolution in the adapter, whose weights are read by functions: "
            "kind='full' trains them"
        )

    def _head(self, module: nn.Module, contents: PackageContents, width: int) -> nn.Module:
        """Return the owner's head, its rows in the order of `classes_`, or a new one where it is of other classes."""
        labels, names = self.classes_.tolist(), contents.class_names
        if names is None or set(names) != set(labels) or width != len(labels):
            return linear_layer(contents.n_inputs_of_head, width, module)
        rows = [names.index(label) for label in labels]
        head = module.get_submodule(str(contents.classifier))
        for parameter in head.parameters():
            parameter.data = parameter.data[rows]
        return head

    def _prepare_task(
        self,
        data: object,
        validation_data: object = None,
        *,
        seed: int | None = None,
        member: int = 0,
        groups: np.ndarray | None = None,
    ) -> Task:
        task = super()._prepare_task(data, validation_data, seed=seed, member=member, groups=groups)
        self.package_id_ = self._opened()[0].id
        # Running statistics are statistics of the data, also of normalisation that has none yet; a layer of a class
        # of its own is rebuilt with its buffers.
        held = tuple(
            path
            for path, layer in task.module.named_modules()
            if isinstance(getattr(layer, "running_mean", None), Tensor)
        )
        return replace(task, groups=replace(task.groups, held=held))

    def _learn(self, data: object, validation_data: object = None, **further: object) -> None:
        self.__dict__.pop("_cached_package", None)  # there may be another one at the path by now
        contents = self._contents
        if contents.preprocessing is not None and self.transform is None and self._open_source().transform is None:
            warnings.warn(
                f"the preprocessing of {self._opened()[0].path} has steps that are not made again from a file "
                f"({_steps(contents.preprocessing)}): give transform=, where rows are images, or preprocess them so",
                UserWarning,
                stacklevel=4,
            )
        super()._learn(data, validation_data, **further)

    @contextmanager
    def _judged_inputs(self, inputs: Inputs) -> Iterator[None]:
        """Refuse what the base does, and rows of other sizes than the package says where its network fails on them."""
        shapes, since = shapes_of_spec(self._contents.example_inputs), "the owner's example_inputs"
        with failures_blamed_on_sizes(inputs, shapes, "the package", since=since), super()._judged_inputs(inputs):
            yield

    def _new_parameters(self, module: nn.Module) -> set[str]:
        own, classifier = dict(self._source_network().named_parameters()), self._contents.classifier
        inside = f"{classifier}." if classifier is not None else None
        return {
            name
            for name, _ in module.named_parameters()
            if name not in own or (inside is not None and name.startswith(inside))
        }

    def _names_in_blocks(self, module: nn.Module) -> list[str]:
        """List the parameters in the blocks of the adapter."""
        inside = tuple(f"{block}." for block in (*self._contents.first, *self._contents.last))
        return [name for name, _ in module.named_parameters() if name.startswith(inside)]

    @property
    def _contents(self) -> PackageContents:
        return self._opened()[0].contents

    def _opened(self) -> tuple[OffsitePackage, Source]:
        """Return the package and the network in it with its preprocessing; read again when a parameter changes."""
        wanted = tuple(getattr(self, name) for name in self._of_the_source)
        made_of, *found = vars(self).get("_cached_package", ((),))
        if len(made_of) != len(wanted) or any(new is not old for new, old in zip(wanted, made_of)):
            package = self.package
            demands = {name: value for name in _DEMANDS if (value := getattr(self, name)) is not None}
            if not isinstance(package, OffsitePackage):
                package = OffsitePackage.given_to(key_fix("OffsiteRepurposer", "package"), package, **demands)
            elif demands:
                name = next(iter(demands))
                raise ValueError(f"{name} is for a package given by its path: OffsitePackage(path, {name}=...)")
            transform = rebuilt_transform(package.contents.preprocessing)
            found = [package, Source(package.network(self.source_model), transform)]
            self._cached_package = (wanted, *found)
        return found[0], found[1]

    def _check_source(self) -> None:
        if not isinstance(self.package, (str, PathLike, OffsitePackage)):
            raise TypeError(
                "package must be the path of what OffsiteOwner.export wrote, or an OffsitePackage, got a value of type "
                f"{type(self.package).__name__}"
            )
        if self.source_model is not None and not isinstance(self.source_model, nn.Module):
            raise TypeError(f"source_model must be a network or None, got a {type(self.source_model).__name__}")

    def _open_source(self) -> Source:
        return self._opened()[1]

    def _names_made_again(self, names: Collection[str]) -> set[str]:
        frozen = set(self.parameter_groups_.frozen)
        return {name for name, _ in self._source_network().named_parameters()} & frozen & set(names)

    def _parameters_for_file(self) -> dict[str, Any]:
        kept = super()._parameters_for_file()
        path = self.package.path if isinstance(self.package, OffsitePackage) else self.package
        return {name: value for name, value in kept.items() if name not in _DEMANDS} | {"package": str(path)}

    def _source_for_file(self, save_source_model: bool) -> Source:
        if save_source_model:
            raise ValueError(
                "save_source_model=True cannot keep the network of a package, which is in the package: leave it out, "
                "and keep that"
            )
        return self._open_source()

    def _take_from_file(self, learned: Mapping[str, Any]) -> None:
        try:
            found = self._opened()[0].id
        except FileNotFoundError as error:
            raise NotInFileError(f"{error}; it was trained on a package: load(path, package=...) with it") from error
        if found != (wanted := learned["package_id_"]):
            raise NotInFileError(
                f"package is not the one that it was trained on: its id is {found[:12]}, and {str(wanted)[:12]} was "
                "saved: load(path, package=...) with that"
            )
        super()._take_from_file(learned)

    def _parameter_mistakes(self) -> list[str]:
        mistakes = super()._parameter_mistakes() + class_count_mistakes(self.target_class_count)
        if not is_one_of(self.kind, KINDS):
            mistakes.append(f"kind must be one of {list(KINDS)}, got {self.kind!r}")
        if not is_whole(self.rank, 1):
            mistakes.append(f"rank must be a whole number of at least 1, got {self.rank!r}")
        if self.norm_statistics == "batch":
            mistakes.append(
                "norm_statistics='batch' is refused: running statistics are statistics of the data, which would leave "
                "with the adapter; leave it at 'source'"
            )
        return mistakes


def _detached(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone()


def _steps(said: Any) -> str:
    steps = said.get("transforms", [said]) if isinstance(said, dict) else [said]
    return ", ".join(str(step.get("step") if isinstance(step, dict) else step)[:40] for step in steps[:8])

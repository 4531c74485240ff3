"""`ModelHandler`: looks into a network and takes features from any of its layers.

This is the front of the house: it checks what the user asks, and hands the work to `tracing`, `backends`, `programs`
and `extraction`. The user's module is never moved, switched or changed.
"""

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from model_handler.backends import HookBackend, Pass, TracedBackend
from model_handler.data import Batch, as_batches
from model_handler.errors import ModelError, UnknownLayerError, UntraceableModelError, nearest
from model_handler.extraction import chunks, extract_features, place, refuse_other_rows
from model_handler.features import Features
from model_handler.naming import split_index
from model_handler.pooling import Pooling, check_pooling
from model_handler.programs import Inputs, call_network, explain_failure, own_inputs
from model_handler.progress import track
from model_handler.replica import Workspace, resolve_device, share_weights
from model_handler.sources import Source, load_source
from model_handler.tracing import default_input_names, trace
from model_handler.types import is_of_type, known_types

__all__ = ["LayerInfo", "ModelHandler"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class LayerInfo:
    """One layer: its name and type, the shape of its output for the example inputs, and its parameters.

    `output_shape` is None without example inputs, or where the layer returns more than one tensor; `trainable` is
    whether any of its `n_parameters` numbers learns.
    """

    name: str
    type: str
    output_shape: tuple[int, ...] | None
    n_parameters: int
    trainable: bool


class ModelHandler:
    """Inspects a network and extracts features from its layers.

    Parameters
    ----------
    model : nn.Module, Source or str
        The network; a name such as "efficientnet-lite0", "torchvision/resnet50" or "timm/vit_tiny_patch16_224" is
        loaded with its weights and its own preprocessing. A module is shared, not copied: later training is seen.
    example_inputs : tensor, tuple of tensors or dict of tensors, optional
        One batch. With it layers have output shapes, and the traced graph is compared with the network at once
        instead of at the first extraction.
    input_names : sequence of str, optional
        The arguments of `forward` that are inputs, where the ones without a default are not meant.
    transform : callable, optional
        From an image to a tensor; by default the source's own. Only images and folders use it.
    device : str or torch.device
        Where features are computed; "auto" takes a GPU where there is one.
    batch_size, num_workers : int
        For data that does not come as a DataLoader.
    verbose : bool, optional
        Progress bars always or never; by default on a terminal or in a notebook for work that takes a while.

    Raises
    ------
    TypeError
        If `model` is none of these.
    ModelError
        If an input name is not an argument of `forward`, or the network fails on the example inputs.
    """

    def __init__(
        self,
        model: nn.Module | Source | str,
        example_inputs: Any = None,
        *,
        input_names: Sequence[str] | None = None,
        transform: Callable[[Any], Tensor] | None = None,
        device: str | torch.device = "auto",
        batch_size: int = 32,
        num_workers: int = 0,
        verbose: bool | None = None,
    ) -> None:
        source = _as_source(model)
        _refuse_lazy(source.network)
        self.name = source.name
        self.transform = transform or source.transform
        self.batch_size, self.num_workers, self.verbose = batch_size, num_workers, verbose
        self._source, self._held = source.network, _tensors_of(source.network)
        self._network = share_weights(source.network)
        self._workspace = Workspace(self._network, resolve_device(device, source.network))
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._passes: dict[Any, Pass] = {}
        self._verified = False
        self._set_backend(tuple(input_names) if input_names else default_input_names(self._network))
        if example_inputs is not None:
            self._shapes = self._output_shapes(example_inputs)

    @property
    def device(self) -> torch.device:
        """Where features are computed."""
        return self._workspace.device

    @property
    def layer_names(self) -> list[str]:
        """All layers in order of execution: modules by their path, functional operations by path and operation."""
        return list(self._backend.layers)

    @property
    def layers(self) -> list[LayerInfo]:
        """What is known of each layer, in order of execution."""
        return [self._describe(name, layer) for name, layer in self._backend.layers.items()]

    def get_layer_type(self, layer_name: str) -> str:
        """The class name of a layer's module, or the name of its operation. Raises UnknownLayerError."""
        return _type_name(self._find(layer_name))

    def get_layer_names_matching_type(self, layer_type: str | type[nn.Module]) -> list[str]:
        """The layers of a type: a class, a class name in any case, or a family such as "convolution".

        An absent type gives an empty list; one that does not exist raises ModelError naming the nearest.
        """
        layers = self._backend.layers
        known_types({_type_name(layer) for layer in layers.values()}, layer_type)
        return [name for name, layer in layers.items() if is_of_type(layer, layer_type)]

    def get_layer_parameters(self, layer_names: str | Sequence[str]) -> list[str]:
        """The names of the parameters and buffers of layers, as in the `state_dict` of the network.

        A container's name stands for everything inside it. Raises UnknownLayerError listing every unknown name.
        """
        names = [layer_names] if isinstance(layer_names, str) else list(layer_names)
        self._refuse_unknown(names)
        modules = [(_path(name), self._find(name)) for name in names]
        found = [
            f"{path}.{key}" for path, module in modules if isinstance(module, nn.Module) for key in module.state_dict()
        ]
        return list(dict.fromkeys(found))

    def get_layer_output(
        self, data: Any, layer_names: Sequence[str], *, pooling: Pooling = "flatten"
    ) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """The outputs of layers as Xfer gave them: name to (n_samples, n_features), and the labels, if there are any.

        As `extract`, flattened by default.
        """
        features = self.extract(data, layer_names, pooling=pooling)
        return dict(features.values), features.labels

    def extract(self, data: Any, layer_names: Sequence[str], *, pooling: Pooling = "flatten") -> Features:
        """The features of `data` at the named layers, in one pass that computes no more than they need.

        Parameters
        ----------
        data : DataLoader, Dataset, array, tensor, pair (X, y), images, folder, ...
            Rows keep its order; see the README for all kinds.
        layer_names : sequence of str
            Layers, or containers such as "layer3", which mean their last output. Where a layer returns several
            tensors, "name[1]" takes one.
        pooling : "flatten", "avg", "max", "cls", "auto" or a callable
            How an output of more than two axes becomes a row; see `pooling`.

        Raises
        ------
        TypeError
            If `layer_names` is a single string, or the data is of no known kind.
        UnknownLayerError
            Listing every name that is not a layer, with the nearest ones.
        ModelError
            If the network fails on the data: the layer that failed and the shapes are named.
        """
        names = self._check_names(layer_names)
        check_pooling(pooling)
        batches = as_batches(data, transform=self.transform, batch_size=self.batch_size, num_workers=self.num_workers)
        self._follow_source()
        tracked = track(batches, description="Extracting features", total=batches.n_rows, verbose=self.verbose)

        def rows_of(batch: Batch) -> Iterator[list[Tensor]]:
            inputs = self._meet(batch.inputs)
            run = self._pass_for(names, pooling, inputs).run
            for piece, n_rows in chunks(inputs, batch.n_rows) if self._in_chunks else [(inputs, batch.n_rows)]:
                rows = run(piece, piece.get("attention_mask"))
                for name, array in zip(names, rows, strict=True):
                    refuse_other_rows(name, array, n_rows)
                yield rows

        with torch.inference_mode():
            return extract_features(tracked, rows_of, names, batches.n_rows)

    def __repr__(self) -> str:
        kind = "traced" if isinstance(self._backend, TracedBackend) else "by hooks"
        return f"ModelHandler({self.name or type(self._network).__name__}, {len(self.layer_names)} layers, {kind})"

    def _set_backend(self, input_names: tuple[str, ...]) -> None:
        self._backend: TracedBackend | HookBackend
        try:
            with torch.inference_mode(False):
                self._backend = TracedBackend(self._network, trace(self._network, input_names))
                self._workspace = Workspace(self._network, self.device)  # the trace may have added constants
        except UntraceableModelError as error:
            _LOG.info("%s", error)
            self._backend = HookBackend(self._network, input_names)
        self._passes.clear()
        self._channels_last = any(isinstance(module, nn.Conv2d) for module in self._network.modules())
        self._verified = isinstance(self._backend, HookBackend)

    def _follow_source(self) -> None:
        """Bring weights and buffers up to date; begin anew where the source holds others (after `.double()`)."""
        held = _tensors_of(self._source)
        if [entry[1:] for entry in held] != [entry[1:] for entry in self._held] or any(
            mine[0] is not theirs[0] for mine, theirs in zip(held, self._held)
        ):
            self._held, self._network = held, share_weights(self._source)
            self._workspace = Workspace(self._network, self.device)
            self._set_backend(self._backend.input_names)
        for mine, theirs in zip(self._network.modules(), self._source.modules()):
            mine.training = theirs.training
        self._workspace.refresh()

    def _meet(self, inputs: Any) -> Inputs:
        """Inputs by name, on the device; the first ones settle the inputs traced for and verify the graph."""
        named = self._by_name(inputs)
        if tuple(named) != self._backend.input_names and set(named) != set(self._backend.input_names):
            self._set_backend(tuple(named))
        order = self._backend.input_names if set(self._backend.input_names) == set(named) else named
        placed = {name: self._place(named[name]) for name in order}
        if self._verified:
            return placed
        self._verify(placed)
        return {name: self._place(named[name]) for name in order}

    def _place(self, part: Any) -> Any:
        if not isinstance(part, Tensor):
            return part
        channels_last = self.device.type == "cpu" and self._channels_last
        return place(part, self.device, self._dtype, channels_last=channels_last)

    @cached_property
    def _in_chunks(self) -> bool:
        """Whether rows may be computed in smaller groups: not where BatchNorm looks at the rows beside."""
        mixing = (part for part in self._network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm))
        return self.device.type == "cpu" and all(part.running_mean is not None for part in mixing)

    def _by_name(self, inputs: Any) -> dict[str, Any]:
        if isinstance(inputs, Mapping):
            return dict(inputs)
        parts = inputs if isinstance(inputs, tuple) else (inputs,)
        parameters = list(inspect.signature(self._network.forward).parameters.values())
        if any(p.kind is p.VAR_POSITIONAL for p in parameters):
            return {f"*{number}": part for number, part in enumerate(parts)}
        names = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
        if len(parts) == len(self._backend.input_names):
            names = list(self._backend.input_names)
        required = default_input_names(self._network)
        if not len(required) <= len(parts) <= len(names):
            raise ModelError(
                f"the network takes the inputs {list(required)}, got {len(parts)}; give several parts as "
                "((a, b), label), without labels as ((a, b),), or as a dict by name"
            )
        return dict(zip(names, parts, strict=False))

    def _verify(self, named: Inputs) -> None:
        """Compare the traced graph with the network on up to two rows; where they differ, hooks take over."""
        few = {name: part[:2] if isinstance(part, Tensor) and part.ndim else part for name, part in named.items()}
        self._verified = True
        try:
            with torch.inference_mode():
                wanted = list(_flat(call_network(self._workspace.module, own_inputs(few))))
        except Exception:
            if self._channels_last:  # as `view` does on maps with their channels innermost
                self._channels_last = False
                self._verify({name: p.contiguous() if isinstance(p, Tensor) else p for name, p in named.items()})
            return  # the program will fail on it too, and name the layer
        try:
            with torch.inference_mode():
                got = list(_flat(self._backend.rehearse(self._workspace.module, own_inputs(few)).output))
        except Exception:
            got = []
        if not _agree(got, wanted):
            _LOG.warning("the traced graph of %s differs from the network; using hooks", type(self._network).__name__)
            self._backend = HookBackend(self._network, self._backend.input_names)
            self._passes.clear()

    def _pass_for(self, names: list[str], pooling: Pooling, inputs: Inputs) -> Pass:
        key = (tuple(names), pooling, tuple(inputs))
        if key not in self._passes:
            self._refuse_unknown(names)
            self._passes[key] = Pass(self._backend.programs(self._workspace.module, names, pooling, inputs))
        return self._passes[key]

    def _check_names(self, layer_names: Sequence[str]) -> list[str]:
        if isinstance(layer_names, str) or not isinstance(layer_names, Sequence):
            raise TypeError(f"layer_names must be a list of names, got {layer_names!r}; write [{layer_names!r}]")
        if not layer_names:
            raise ValueError(f"layer_names is empty; name at least one of {self.layer_names[-3:]}")
        if repeated := sorted({name for name in layer_names if list(layer_names).count(name) > 1}):
            raise ValueError(f"layer_names has {repeated} more than once")
        self._refuse_unknown(layer_names)
        return list(layer_names)

    def _refuse_unknown(self, names: Sequence[str]) -> None:
        known = [*self._backend.layers, *(path for path in self._backend.modules if path)]
        if unknown := [name for name in names if not isinstance(name, str) or not self._backend.knows(name)]:
            hints = [f"no layer is named {name!r}; nearest: {nearest(str(name), known)}" for name in unknown]
            raise UnknownLayerError("\n".join([*hints, "all names: layer_names"]))

    def _find(self, name: str) -> nn.Module | str:
        layers = self._backend.layers
        if name not in layers:
            self._refuse_unknown([name])
            name = split_index(name)[0]
        return layers[name] if name in layers else self._backend.modules[_path(name)]

    def _describe(self, name: str, layer: nn.Module | str) -> LayerInfo:
        parameters = list(layer.parameters()) if isinstance(layer, nn.Module) else []
        return LayerInfo(
            name=name,
            type=_type_name(layer),
            output_shape=self._shapes.get(name),
            n_parameters=sum(parameter.numel() for parameter in parameters),
            trainable=any(parameter.requires_grad for parameter in parameters),
        )

    def _output_shapes(self, example_inputs: Any) -> dict[str, tuple[int, ...]]:
        named = self._meet(example_inputs)
        with torch.inference_mode():
            try:
                return self._backend.rehearse(self._workspace.module, own_inputs(named)).shapes
            except Exception as error:
                explain_failure(self._workspace.module, own_inputs(named), error)
                raise

    @property
    def _dtype(self) -> torch.dtype:
        floating = (p.dtype for p in self._network.parameters() if p.is_floating_point())
        return next(floating, torch.get_default_dtype())


def _as_source(model: Any) -> Source:
    if isinstance(model, str):
        return load_source(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError("a TorchScript module has no Python forward to look into; give the nn.Module it was made from")
    if isinstance(model, nn.Module):
        return Source(getattr(model, "_orig_mod", model))  # torch.compile keeps the original under this name
    if isinstance(model, Source):
        return model
    raise TypeError(
        f"the source must be a torch.nn.Module, a Source or a name such as 'torchvision/resnet18', got {model!r}"
    )


def _refuse_lazy(network: nn.Module) -> None:
    if lazy := [name for name, tensor, *_ in _named_tensors(network) if is_lazy(tensor)]:
        raise ModelError(f"the weights {lazy} have no shape yet; run the network once on some input, then give it here")


def _tensors_of(network: nn.Module) -> list[tuple[Tensor, str, torch.dtype, torch.device]]:
    return [(tensor, name, tensor.dtype, tensor.device) for name, tensor in _named_tensors(network)]


def _named_tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from network.named_parameters(remove_duplicate=False)
    yield from network.named_buffers(remove_duplicate=False)


def _path(name: str) -> str:
    return split_index(name)[0].partition("@")[0]


def _type_name(layer: nn.Module | str) -> str:
    return layer if isinstance(layer, str) else type(layer).__name__


def _flat(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        yield from (tensor for part in output.values() for tensor in _flat(part))
    elif isinstance(output, (tuple, list)):
        yield from (tensor for part in output for tensor in _flat(part))


def _agree(got: list[Tensor], wanted: list[Tensor]) -> bool:
    return len(got) == len(wanted) and all(
        mine.shape == theirs.shape
        and torch.allclose(mine.double(), theirs.double(), rtol=1e-4, atol=_slack(theirs), equal_nan=True)
        for mine, theirs in zip(got, wanted, strict=True)
    )


def _slack(tensor: Tensor) -> float:
    return (
        1e-5 * float(tensor.nan_to_num(0, 0, 0).abs().max()) if tensor.numel() and tensor.is_floating_point() else 0.0
    )

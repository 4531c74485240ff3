"""`ModelHandler`: looks into a network and takes features from any of its layers.

This is the front of the house: it checks what the user asks, and hands the work to `engine` and `extraction`. The
user's module is never moved, switched or changed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model_handler.backends import TracedBackend
from model_handler.data import Batch, Batches, as_batches, refuse_loading_ahead
from model_handler.editing import Editing
from model_handler.engine import NETWORK_LOCK, Engine
from model_handler.extraction import extract_features
from model_handler.features import Features
from model_handler.naming import split_index
from model_handler.pooling import Pooling, check_pooling
from model_handler.processes import teamed
from model_handler.progress import track
from model_handler.replica import resolve_device
from model_handler.sources import Source, load_source
from model_handler.types import is_of_type, known_types

__all__ = ["LayerInfo", "ModelHandler"]


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


class ModelHandler(Editing):
    """Inspects a network, extracts features from its layers, and edits it (`Editing` has those methods).

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
    share : bool
        Whether several processes, started by `torchrun` or `accelerate launch`, compute each extraction together: all
        of them must then make the same call with the same data, and each gets all rows.

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
        share: bool = True,
    ) -> None:
        source = _as_source(model)
        self.name = source.name or type(source.network).__name__
        self.transform = transform or source.transform
        self.batch_size, self.num_workers, self.verbose, self.share = batch_size, num_workers, verbose, share
        with NETWORK_LOCK:
            self._engine = Engine(source.network, resolve_device(device, source.network), input_names)
            self._shapes = {} if example_inputs is None else self._engine.shapes(example_inputs)
        self._begin_editing(example_inputs)

    @property
    def device(self) -> torch.device:
        """Where features are computed."""
        return self._engine.device

    @property
    def layer_names(self) -> list[str]:
        """All layers in order of execution: modules by their path, functional operations by path and operation."""
        return list(self._engine.backend.layers)

    @property
    def layers(self) -> list[LayerInfo]:
        """What is known of each layer, in order of execution."""
        return [self._describe(name, layer) for name, layer in self._engine.backend.layers.items()]

    def get_layer_type(self, layer_name: str) -> str:
        """The class name of a layer's module, or the name of its operation. Raises UnknownLayerError."""
        return _type_name(self._find(layer_name))

    def get_layer_names_matching_type(self, layer_type: str | type[nn.Module]) -> list[str]:
        """The layers of a type: a class, a class name in any case, or a family such as "convolution".

        An absent type gives an empty list; one that does not exist raises ModelError naming the nearest.
        """
        layers = self._engine.backend.layers
        known_types({_type_name(layer) for layer in layers.values()}, layer_type)
        return [name for name, layer in layers.items() if is_of_type(layer, layer_type)]

    def get_layer_parameters(self, layer_names: str | Sequence[str]) -> list[str]:
        """The names of the parameters and buffers of layers, as in the `state_dict` of the network.

        A container's name stands for everything inside it. Raises UnknownLayerError listing every unknown name.
        """
        names = [layer_names] if isinstance(layer_names, str) else list(layer_names)
        self._engine.refuse_unknown(names)
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
        ValueError
            If there is no row, or `layer_names` is empty or repeats one.
        ModelError
            If the network fails on the data: the layer that failed and the shapes are named; if several processes
            share the extraction and do not read the same data; if it is called by the transform of another one.
        """
        refuse_loading_ahead()
        with NETWORK_LOCK, teamed(self.share) as team:
            names = self._check_names(layer_names)
            check_pooling(pooling)
            batches = self._as_batches(data)
            rows_of, verbose = self._rows_of(names, pooling), self.verbose
            if team is not None:
                team.agree((names, pooling if isinstance(pooling, str) else type(pooling).__name__, repr(batches)))
                batches, rows_of = team.compute(batches, rows_of), attrgetter("inputs")
                verbose = verbose if team.leads else False
            tracked = track(batches, description="Extracting features", total=batches.n_rows, verbose=verbose)
            self._engine.follow_source()
            with torch.inference_mode(), closing(tracked):  # an error's traceback would keep it alive, and its thread
                return extract_features(tracked, rows_of, names, batches.n_rows)

    def __repr__(self) -> str:
        kind = "traced" if isinstance(self._engine.backend, TracedBackend) else "by hooks"
        return f"ModelHandler({self.name}, {len(self.layer_names)} layers, {kind})"

    def _as_batches(self, data: Any) -> Batches:
        return as_batches(
            data,
            transform=self.transform,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            pin_memory=self.device.type == "cuda",
        )

    def _rows_of(self, names: list[str], pooling: Pooling) -> Callable[[Batch], Iterator[list[Tensor]]]:
        return lambda batch: self._engine.rows(batch.inputs, batch.n_rows, names, pooling)

    def _check_names(self, layer_names: Sequence[str]) -> list[str]:
        if isinstance(layer_names, str) or not isinstance(layer_names, Sequence):
            raise TypeError(f"layer_names must be a list of names, got {layer_names!r}; write [{layer_names!r}]")
        if not layer_names:
            raise ValueError(f"layer_names is empty; name at least one of {self.layer_names[-3:]}")
        if repeated := sorted({name for name in layer_names if list(layer_names).count(name) > 1}):
            raise ValueError(f"layer_names has {repeated} more than once")
        self._engine.refuse_unknown(layer_names)
        return list(layer_names)

    def _find(self, name: str) -> nn.Module | str:
        layers = self._engine.backend.layers
        if name not in layers:
            self._engine.refuse_unknown([name])
            name = split_index(name)[0]
        return layers[name] if name in layers else self._engine.backend.modules[_path(name)]

    def _describe(self, name: str, layer: nn.Module | str) -> LayerInfo:
        parameters = dict(layer.named_parameters()) if isinstance(layer, nn.Module) else {}
        return LayerInfo(
            name=name,
            type=_type_name(layer),
            output_shape=self._shapes.get(name),
            n_parameters=sum(parameter.numel() for parameter in parameters.values()),
            trainable=any(self._learns(f"{_path(name)}.{key}", value) for key, value in parameters.items()),
        )


def _as_source(model: Any) -> Source:
    if isinstance(model, str):
        return load_source(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError("a TorchScript module has no Python forward to look into; give the nn.Module it was made from")
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return _as_source(model.module)
    if isinstance(model, nn.Module):
        return Source(getattr(model, "_orig_mod", model))  # torch.compile keeps the original under this name
    if isinstance(model, Source):
        return model
    raise TypeError(
        f"the source must be a torch.nn.Module, a Source or a name such as 'torchvision/resnet18', got {model!r}"
    )


def _path(name: str) -> str:
    return split_index(name)[0].partition("@")[0]


def _type_name(layer: nn.Module | str) -> str:
    return layer if isinstance(layer, str) else type(layer).__name__

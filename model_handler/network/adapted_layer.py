"""Adapted layers: a layer of a network that an adapter changes, in place, under the keys that its weights had.

Only the class of a module is exchanged, for a subclass of its own, and the parameters of the adapter are registered
beside its weights. Whoever reads a weight that is adapted gets the changed one: the `forward` of the layer's own class,
`nn.MultiheadAttention` with its `out_proj`, torch's fused encoder layer, `F.linear(x, self.qkv.weight)`. Linear layers
and convolutions that are called add what the adapter makes of their input to their output instead, so that no gradient
of a whole weight is computed. While torch.fx traces, weights are the plain ones: a graph reads them by their names, and
gets the changed ones when it runs.

What adapters there are is in `model_handler.adapters`.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from model_handler.errors import ModelError

__all__ = ["AdaptedLayer", "LayerAdapter", "adapt", "adapted_layers", "is_column_linear", "restore", "without_adapters"]

_Plain = Callable[[Any, Tensor], Tensor]


class LayerAdapter(ABC):
    """What changes one layer; the numbers are parameters of the layer itself, of which this knows the names."""

    kind: str
    wraps_calls = False
    counts_calls = False  # which only a run by the network's own forward allows

    @property
    @abstractmethod
    def parameter_names(self) -> tuple[str, ...]:
        """Return the names that the adapter's parameters have in the layer."""

    @property
    @abstractmethod
    def targets(self) -> frozenset[str]:
        """Return the tensors of the layer that it changes, by name."""

    @abstractmethod
    def changed(self, layer: nn.Module, name: str, tensor: Tensor) -> Tensor:
        """Return what one of the targets becomes."""

    def acts_on_output(self, layer: nn.Module) -> bool:
        """Return whether `on_output` is to be used where the layer is called."""
        return False

    def on_output(self, layer: nn.Module, inputs: Tensor, output: Tensor) -> Tensor:
        """Return what the output of the plain layer becomes."""
        raise NotImplementedError

    def around(self, layer: nn.Module, forward: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
        """Return what a call of the layer becomes, where `wraps_calls`; `forward` is that of its own class."""
        return forward(*inputs, **options)

    def called(self, path: str) -> str:
        """Return what users call the layer at `path` of which this is the adapter."""
        return path

    def __str__(self) -> str:
        return self.kind


class AdaptedLayer(nn.Module):
    """A layer of another class of modules, changed by an adapter; see `adapt`.

    It adds no names to its source's but these two and those of the adapter's parameters.
    """

    _adapted_class: type[nn.Module]
    _adapter: LayerAdapter

    def __getattr__(self, name: str) -> Any:
        value = super().__getattr__(name)
        adapter = self.__dict__.get("_adapter")
        # while torch.fx traces, `value` stands for the weight under its name
        if adapter is None or name not in adapter.targets or not isinstance(value, Tensor):
            return value
        return adapter.changed(self, name, value)

    def extra_repr(self) -> str:
        """Return the source's own, and what adapts it."""
        said = super().extra_repr()
        return f"{said}, {self._adapter}" if said else str(self._adapter)

    def __reduce__(self) -> tuple[Any, ...]:
        # under its name and module pickle would find the class of the source
        return _blank, (self._adapted_class, self._adapter.wraps_calls), self.__getstate__()


def adapt(layer: nn.Module, adapter: LayerAdapter, parameters: Mapping[str, nn.Parameter]) -> None:
    """Put an adapter on a layer, in place, with its parameters. Raises ModelError where a name of theirs is taken."""
    if taken := [name for name in parameters if hasattr(layer, name)]:
        raise ModelError(f"a {type(layer).__name__} has {taken} of its own, so it cannot have this kind of adapter")
    for name, parameter in parameters.items():
        layer.register_parameter(name, parameter)
    source: Any = type(layer)
    layer.__class__ = _class_for(source, adapter.wraps_calls)
    cast(AdaptedLayer, layer)._adapter = adapter


def restore(layer: AdaptedLayer) -> None:
    """Take the adapter off a layer, in place: it is of its own class again, with the weights that it had."""
    for name in layer._adapter.parameter_names:
        del layer._parameters[name]
    for name in [name for name in vars(layer) if name.startswith("_adapter")]:  # what a call left behind too
        del vars(layer)[name]
    layer.__class__ = layer._adapted_class  # type: ignore[assignment]


@contextmanager
def without_adapters(network: nn.Module) -> Iterator[None]:
    """Let the adapted layers of a network be plain ones inside this block, in place."""
    classes = {layer: type(layer) for layer in adapted_layers(network).values()}
    for layer, adapted in classes.items():
        layer.__class__ = adapted._adapted_class  # type: ignore[assignment]
    try:
        yield
    finally:
        for layer, adapted in classes.items():
            layer.__class__ = adapted


def adapted_layers(network: nn.Module) -> dict[str, AdaptedLayer]:
    """Return the layers of a network that have an adapter, each by its first path."""
    return {path: module for path, module in network.named_modules() if isinstance(module, AdaptedLayer)}


def is_column_linear(layer: nn.Module) -> bool:
    """Return whether a layer is the linear one of GPT-2, whose weight is (n_inputs, n_outputs)."""
    return any((base.__module__, base.__name__) == _COLUMN_LINEAR for base in type(layer).__mro__)


_COLUMN_LINEAR = ("transformers.pytorch_utils", "Conv1D")  # by name, so that the library is not imported


@functools.cache  # one class for each source, so that layers of one kind are of one type
def _class_for(source: Any, wraps_calls: bool) -> type[AdaptedLayer]:
    """Make a class of adapted layers under the source's name, by which libraries look up what they know of it."""
    names: dict[str, Any] = {
        "_adapted_class": source,
        "__module__": source.__module__,
        "__qualname__": source.__qualname__,
        "__doc__": source.__doc__,
    }
    if wraps_calls:
        names["forward"] = _forward_around(source)
    elif plain := _plain_forward(source):
        names["forward"] = _forward_by_output(source, plain)
    return type(source.__name__, (AdaptedLayer, source), names)


def _forward_by_output(source: type[nn.Module], plain: _Plain) -> Callable[..., Tensor]:
    @functools.wraps(source.forward)
    def forward(self: AdaptedLayer, *given: Tensor, **named: Tensor) -> Tensor:
        (inputs,) = (*given, *named.values())  # whatever its class calls it
        if not self._adapter.acts_on_output(self):
            return source.forward(self, inputs)
        return self._adapter.on_output(self, inputs, plain(self, inputs))

    return forward


def _forward_around(source: Any) -> Callable[..., Any]:
    @functools.wraps(source.forward)  # its signature is asked for by libraries
    def forward(self: AdaptedLayer, *inputs: Any, **options: Any) -> Any:
        return self._adapter.around(self, functools.partial(source.forward, self), *inputs, **options)

    return forward


def _plain_forward(source: Any) -> _Plain | None:
    """Return what a class of layers computes with its plain weights; None where that is not known."""
    if source.forward is nn.Linear.forward:
        return _linear
    if source.forward in (nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward):
        return _convolution
    known = next((base for base in source.__mro__ if (base.__module__, base.__name__) == _COLUMN_LINEAR), None)
    return _column_linear if known is not None and source.forward is known.forward else None


def _linear(layer: Any, inputs: Tensor) -> Tensor:
    return F.linear(inputs, layer._parameters["weight"], layer._parameters["bias"])


def _convolution(layer: Any, inputs: Tensor) -> Tensor:
    return layer._conv_forward(inputs, layer._parameters["weight"], layer._parameters["bias"])


def _column_linear(layer: Any, inputs: Tensor) -> Tensor:
    weight, bias = layer._parameters["weight"], layer._parameters["bias"]
    # as its own forward does it, so that nothing rounds otherwise
    rows = bias.addmm(inputs.view(-1, inputs.size(-1)), weight)
    return rows.view(*inputs.size()[:-1], layer.nf)


def _blank(source: Any, wraps_calls: bool) -> AdaptedLayer:
    kind = _class_for(source, wraps_calls)
    return kind.__new__(kind)

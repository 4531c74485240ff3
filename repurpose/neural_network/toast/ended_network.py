"""A copy of the source network that ends where its features are read: at a layer, or before its last linear one."""

import inspect
from collections.abc import Mapping

import torch
from torch import nn

from model_handler import ModelError, ModelHandler, UnknownLayerError
from model_handler.errors import nearest
from model_handler.extraction.recording import record_calls
from model_handler.network.copying import deep_copy
from model_handler.network.inputs import default_input_names, named_inputs
from model_handler.network.truncated_network import Stop, stopped
from repurpose.data.inputs import Inputs
from repurpose.data.padding import MASK
from repurpose.training.steps.forward import on_device

__all__ = ["ended_network", "example_on", "on_network"]


def ended_network(
    handler: ModelHandler, layer: str | None, example_inputs: Inputs, *, whole: bool = False
) -> nn.Module:
    """Copy the network of a handler, ended at a layer, or by default where its last linear layer reads, or `whole`.

    A network without a linear layer behind its blocks is copied whole. Raises UnknownLayerError for a name that it does
    not have, ModelError for an operation that is no module.
    """
    network = deep_copy(handler.network).eval()
    if layer is not None and not whole:
        return stopped(network, _stop_at(handler, network, layer, example_inputs))
    if whole or (classifier := handler.classifier) is None:
        return network
    network.set_submodule(classifier, nn.Identity())  # which gives what the classifier would have read
    return stopped(network, Stop(classifier, classifier))


def on_network(network: nn.Module, inputs: Inputs) -> Inputs:
    """Copy inputs to the device of a network, floating parts in its dtype."""
    first = next(network.parameters())
    return on_device(inputs, first.device, first.dtype)


def example_on(network: nn.Module, inputs: Inputs) -> Inputs:
    """Copy example inputs to a network, with no padding: those of a file have the smallest number everywhere."""
    example = on_network(network, inputs)
    if isinstance(example, Mapping):
        return {name: torch.ones_like(part) if name == MASK else part for name, part in example.items()}
    if isinstance(example, tuple):
        names = list(inspect.signature(network.forward).parameters)
        return tuple(
            torch.ones_like(part) if names[number : number + 1] == [MASK] else part
            for number, part in enumerate(example)
        )
    return example


def _stop_at(handler: ModelHandler, network: nn.Module, layer: str, example_inputs: Inputs) -> Stop:
    path, _, number = layer.partition("@")
    modules = dict(network.named_modules())
    if path not in modules or not path:
        known = [name for name in modules if name]
        if layer in handler:
            raise ModelError(
                f"transfer_layer_name={layer!r} is an operation and no module, at which TOAST cannot end a network; "
                f"nearest modules: {', '.join(nearest(layer, known))}"
            )
        raise UnknownLayerError(f"the network has no layer {layer!r}; nearest: {', '.join(nearest(layer, known))}")
    if number:
        return Stop(layer, path, int(number))
    with torch.no_grad():
        record = record_calls(network, named_inputs(network, example_inputs, default_input_names(network)))
    return Stop(layer, path, record.last_call(path))

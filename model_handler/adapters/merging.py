"""Merging: adapters are computed into the weights that they change, or taken off; what is left is the plain network."""

from typing import Any

import torch
from torch import nn

from model_handler.errors import ModelError
from model_handler.network.adapted_layer import AdaptedLayer, adapted_layers, restore
from model_handler.network.replica import keep_gradient_hooks, share_weights

__all__ = ["adapted_or_refused", "merged", "plain"]


def adapted_or_refused(network: nn.Module, edit: str) -> dict[str, AdaptedLayer]:
    """Return the adapted layers of a network. Raises ModelError where there is none."""
    layers = adapted_layers(network)
    if not layers:
        raise ModelError(f"{edit} finds no adapter in the network; put some on by add_adapters(where)")
    return layers


def plain(network: nn.Module) -> nn.Module:
    """Return a copy of a network, on the same weights, without its adapters."""
    copied = share_weights(network)
    for layer in adapted_layers(copied).values():
        restore(layer)
    return copied


def merged(network: nn.Module) -> nn.Module:
    """Return a copy of a network whose adapted weights are what the adapters make of them; all else is shared."""
    copied = share_weights(network)
    for layer in adapted_layers(copied).values():
        weights = {name: _merged_weight(layer, name) for name in layer._adapter.targets}
        restore(layer)
        layer._parameters.update(weights)
    return copied


def _merged_weight(layer: AdaptedLayer, name: str) -> nn.Parameter:
    plain: Any = layer._parameters[name]
    with torch.no_grad():
        weight = nn.Parameter(getattr(layer, name).detach().clone(), requires_grad=plain.requires_grad)
    keep_gradient_hooks(plain, weight)
    return weight

"""Merging: adapters are computed into the weights that they change, or taken off; what is left is the plain network."""

from typing import Any

import torch
from torch import nn

from model_handler.adapters.one_call import OneCall
from model_handler.adapters.prompts import PROMPTS, Prompts
from model_handler.errors import ModelError
from model_handler.network.adapted_layer import AdaptedLayer, adapted_layers, restore
from model_handler.network.replica import keep_gradient_hooks, share_weights

__all__ = ["adapted_or_refused", "merged", "plain", "prompted_blocks", "prompts_in_graph", "refuse_unmergeable"]


def adapted_or_refused(network: nn.Module, edit: str) -> dict[str, AdaptedLayer]:
    """Return the adapted layers of a network. Raises ModelError where there is none."""
    layers = adapted_layers(network)
    if not layers and not prompts_in_graph(network):
        raise ModelError(f"{edit} finds no adapter in the network; put some on by add_adapters(where)")
    return layers


def refuse_unmergeable(network: nn.Module) -> None:
    """Raise ModelError where a network has adapters that no weight can hold."""
    if single := [path for path, layer in adapted_layers(network).items() if isinstance(layer._adapter, OneCall)]:
        raise ModelError(
            f"the adapter of {single[0]!r} acts in one call, and its weight is that of the other calls too: it stays, "
            "or goes, by remove_adapters()"
        )
    if prompted := [*prompted_blocks(network), *prompts_in_graph(network)]:
        raise ModelError(
            f"the prompts of {prompted[0]!r} are tokens beside those of the input, which no weight can hold: they stay "
            "or go, by remove_adapters()"
        )


def prompted_blocks(network: nn.Module) -> list[str]:
    """Return the blocks that put in prompts, or let them through, in their own forward."""
    return [path for path, layer in adapted_layers(network).items() if isinstance(layer._adapter, Prompts)]


def prompts_in_graph(network: nn.Module) -> list[str]:
    """Return the blocks whose prompts the graph of an edited network puts in, in place of their own forward."""
    modules = network.named_modules()
    return [path for path, part in modules if PROMPTS in part._parameters and not isinstance(part, AdaptedLayer)]


def plain(network: nn.Module) -> nn.Module:
    """Return a copy of a network, on the same weights, without its adapters.

    Raises ModelError for prompts in the graph of an edited network.
    """
    if prompted := prompts_in_graph(network):
        raise ModelError(
            f"the prompts of {prompted[0]!r} are part of the graph that a later edit made: undo that first"
        )
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

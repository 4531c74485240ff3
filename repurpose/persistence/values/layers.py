"""Serialization of heads that are networks of torch's own layers: which layers with which options, and a state.

The classes stand in a table, since no file may name code. A network of other classes is saved by the hooks of
`MetaModelRepurposer`.
"""

import inspect
from typing import Any, TypeGuard

import torch
from torch import nn

__all__ = ["MOST_LAYERS", "is_of_known_layers", "network_of_layers", "take_layers_apart"]

_KNOWN: dict[str, type[nn.Module]] = {
    layer.__name__: layer
    for layer in (
        *(nn.Linear, nn.BatchNorm1d, nn.LayerNorm, nn.Dropout, nn.Identity, nn.Flatten),
        *(nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus),
        *(nn.Softmax, nn.LogSoftmax),
    )
}
MOST_LAYERS = 1_000  # in a head, chains included: each takes some kB, whatever little the file says of it
_CHAIN = "Sequential"
_WHERE = ("device", "dtype")  # options that the state has


def is_of_known_layers(value: object) -> TypeGuard[nn.Module]:
    """Tell whether `value` is a layer of the table, or a chain of such, without hooks of a user's."""
    if not isinstance(value, nn.Module) or value._forward_hooks or value._forward_pre_hooks:
        return False
    if type(value) is nn.Sequential:
        return all(map(is_of_known_layers, value))
    return _KNOWN.get(type(value).__name__) is type(value)


def take_layers_apart(network: nn.Module) -> dict[str, Any]:
    """Return the layers as plain values, and the state of all of them."""
    frozen = [
        name for name, parameter in network.named_parameters(remove_duplicate=False) if not parameter.requires_grad
    ]
    return {"layers": _described(network), "state": dict(network.state_dict()), "frozen": frozen}


def network_of_layers(said: dict[str, Any]) -> nn.Module:
    """Make the network that was taken apart.

    Raises ValueError for an unknown layer, too many, or a state of other shapes.
    """
    if (n_layers := _count(said["layers"])) > MOST_LAYERS:
        raise ValueError(f"its network has {n_layers:,} layers, where at most {MOST_LAYERS:,} were expected")
    with torch.device("meta"):  # so that sizes that are lies take no memory
        network = _made(said["layers"])
    try:
        network.load_state_dict(said["state"], assign=True)
    except RuntimeError as error:
        raise ValueError(f"its network is not that of its weights: {error}") from error
    for name in said["frozen"]:
        network.get_parameter(name).requires_grad_(False)
    return network


def _described(layer: nn.Module) -> dict[str, Any]:
    if isinstance(layer, nn.Sequential):
        # `named_children` has a layer that comes twice, as one ReLU may, once.
        return {"layer": _CHAIN, "parts": {name: _described(part) for name, part in zip(layer._modules, layer)}}
    options = {name: getattr(layer, name) for name in _options(type(layer))}
    if "bias" in options:  # given as whether there is one
        options["bias"] = options["bias"] is not None
    return {"layer": type(layer).__name__, "options": options, "training": layer.training}


def _count(said: dict[str, Any]) -> int:
    return 1 + sum(map(_count, said["parts"].values())) if said["layer"] == _CHAIN else 1


def _made(said: dict[str, Any]) -> nn.Module:
    if said["layer"] == _CHAIN:
        chain = nn.Sequential()
        for name, part in said["parts"].items():
            chain.add_module(name, _made(part))
        return chain.train(any(part.training for part in chain))
    if said["layer"] not in _KNOWN:
        raise ValueError(f"it holds the unknown layer {str(said['layer'])[:40]!r}")
    layer = _KNOWN[said["layer"]]
    options = {name: value for name, value in said["options"].items() if name in _options(layer)}
    return layer(**options).train(said["training"])


def _options(layer: type[nn.Module]) -> list[str]:
    parameters = inspect.signature(layer).parameters.values()
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [each.name for each in parameters if each.kind not in kinds and each.name not in _WHERE]

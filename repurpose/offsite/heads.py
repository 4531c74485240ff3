"""The head of a network stays where it is: the last linear layer, whose output is the network's own, or one on top."""

from torch import nn

from model_handler import ModelError, ModelHandler
from model_handler.network.copying import deep_copy
from repurpose.neural_network.heads import add_head
from repurpose.training.steps.forward import logits_of

__all__ = ["head_path", "linear_layer", "with_new_head"]


def head_path(handler: ModelHandler) -> str | None:
    """Return the path of the linear layer that gives the network's rows of logits; None where there is none.

    The last linear layer of an encoder is none where the network returns something else, such as hidden states.
    """
    path = handler.classifier
    layer = None if path is None else handler.network.get_submodule(path)
    if not isinstance(layer, nn.Linear):
        return None
    try:
        logits = logits_of(handler.example_output())
    except ModelError:
        return None
    return path if logits.shape[1] == layer.out_features else None


def with_new_head(handler: ModelHandler, path: str | None, n_outputs: int, *, bias: bool = True) -> nn.Module:
    """Copy the network of a handler with a linear layer of `n_outputs` as its head: at `path`, or None for on top.

    A head that has these sizes already is kept. Raises ValueError for a path that leads to no linear layer.
    """
    if path is None:
        return add_head(handler, n_outputs, "auto")
    network = deep_copy(handler.network)
    layer = dict(network.named_modules()).get(path)
    if not isinstance(layer, nn.Linear):
        raise ValueError(f"the network has no linear layer {path!r} to be its head")
    if layer.out_features != n_outputs or (layer.bias is not None) != bias:
        network.set_submodule(path, linear_layer(layer.in_features, n_outputs, layer, bias=bias))
    return network


def linear_layer(n_inputs: int, n_outputs: int, like: nn.Module, *, bias: bool = True) -> nn.Linear:
    """Make a linear layer of the dtype and on the device of a network."""
    weight = next((value for value in like.parameters() if value.is_floating_point()), None)
    where = {} if weight is None else {"dtype": weight.dtype, "device": weight.device}
    return nn.Linear(n_inputs, n_outputs, bias, **where)

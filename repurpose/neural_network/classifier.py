"""The last linear layer of a network, its classifier, and a copy of the network that ends before it."""

from torch import nn

from model_handler import ModelHandler, NoBlocksError
from model_handler.graph.naming import module_path
from model_handler.network.copying import deep_copy

__all__ = ["classifier_of", "without_classifier"]


def classifier_of(handler: ModelHandler) -> str | None:
    """Return the last linear layer of a network that stands behind all its blocks; None where there is none."""
    try:
        inside = tuple(f"{module_path(block.name)}." for block in handler.blocks)
    except NoBlocksError:
        inside = ()
    layers = handler.layer_names
    end = max((number for number, name in enumerate(layers) if name.startswith(inside)), default=-1) if inside else -1
    linear = set(handler.get_layer_names_matching_type("fullyconnected"))
    return next((module_path(name) for name in reversed(layers[end + 1 :]) if name in linear), None)


def without_classifier(handler: ModelHandler) -> tuple[nn.Module, str | None]:
    """Copy the network of a handler, an identity in the place of its classifier, and return where that is.

    The identity gives what the classifier would have read; to end there is up to the caller.
    """
    network = deep_copy(handler.network)
    if (classifier := classifier_of(handler)) is not None:
        network.set_submodule(classifier, nn.Identity())
    return network, classifier

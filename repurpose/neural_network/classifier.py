"""The last linear layer of a network, its classifier, and a copy of the network in which what it reads has a name."""

from torch import nn

from model_handler import ModelHandler, NoBlocksError
from model_handler.graph.naming import module_path
from model_handler.network.copying import deep_copy

__all__ = ["before_classifier", "classifier_of"]


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


def before_classifier(handler: ModelHandler) -> tuple[nn.Module, str | None]:
    """Copy the network of a handler, what its classifier reads given a name, and return that: a layer to end behind.

    The classifier stays behind it, as what comes after may need its sizes: the second head of a distilled DeiT, say.
    """
    network = deep_copy(handler.network)
    if (classifier := classifier_of(handler)) is None:
        return network, None
    network.set_submodule(classifier, nn.Sequential(nn.Identity(), network.get_submodule(classifier)))
    return network, f"{classifier}.0"

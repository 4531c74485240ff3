"""The classifier of a network, and a copy of the network in which what it reads has a name.

What it reads may have no name of its own: the class token among those that a layer gives.
"""

from torch import nn

from model_handler import ModelHandler, Source
from model_handler.network.copying import deep_copy

__all__ = ["before_classifier"]


def before_classifier(handler: ModelHandler) -> tuple[Source, str] | None:
    """Copy the network of a handler, what its classifier reads given a name, and return that: a layer to end behind.

    The classifier stays behind it, as what comes after may need its sizes: the second head of a distilled DeiT, say.
    None for a network without a classifier.
    """
    if (classifier := handler.classifier) is None:
        return None
    network = deep_copy(handler.network)
    network.set_submodule(classifier, nn.Sequential(nn.Identity(), network.get_submodule(classifier)))
    return Source(network, handler.transform, handler.name), f"{classifier}.0"

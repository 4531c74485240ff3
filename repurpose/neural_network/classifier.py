"""The classifier of a network, and a copy of the network in which what it reads has a name.

What it reads may have no name of its own: the class token among those that a layer gives.
"""

from typing import Any

from torch import nn

from model_handler import ModelHandler, Source
from model_handler.network.copying import deep_copy
from repurpose.data.inputs import Inputs

__all__ = ["before_classifier", "classifier_path", "ended_at", "up_to"]


def classifier_path(handler: ModelHandler) -> str | None:
    """Return the path of the classifier in the network of a handler; None without one, or where it is all there is."""
    path = handler.classifier
    return path if path in dict(handler.network.named_modules()) else None


def before_classifier(handler: ModelHandler) -> tuple[Source, str] | None:
    """Copy the network of a handler, what its classifier reads given a name, and return that: a layer to end behind.

    The classifier stays behind it, as what comes after may need its sizes: the second head of a distilled DeiT, say.
    None for a network without a classifier.
    """
    if (classifier := classifier_path(handler)) is None:
        return None
    network = deep_copy(handler.network)
    network.set_submodule(classifier, nn.Sequential(nn.Identity(), network.get_submodule(classifier)))
    return Source(network, handler.transform, handler.name), f"{classifier}.0"


def up_to(
    layer: str | None, handler: ModelHandler, example_inputs: Inputs, **options: Any
) -> tuple[ModelHandler, str | None]:
    """Return a handler on a network, and the layer that it is to end behind: `layer`, or what the classifier reads.

    That is None for a network without a classifier, all of which is kept. `options` are those of `ModelHandler`.
    """
    if layer is not None:
        return handler, layer
    if (named := before_classifier(handler)) is None:
        return handler, None
    source, end = named
    return ModelHandler(source, example_inputs, **options), end


def ended_at(layer: str | None, handler: ModelHandler, example_inputs: Inputs, **options: Any) -> ModelHandler:
    """Return a handler on a network that ends where `up_to` says."""
    handler, end = up_to(layer, handler, example_inputs, **options)
    return handler if end is None else handler.truncate(end)

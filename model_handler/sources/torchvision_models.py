"""Sources of torchvision: image classifiers, with weights by tag ("torchvision/resnet50:IMAGENET1K_V1")."""

import warnings
from typing import Any

import torch

from model_handler.errors import nearest
from model_handler.sources.cached_weights import file_of_checkpoint
from model_handler.sources.fetching import fetching, reach
from model_handler.sources.naming import unknown_in
from model_handler.sources.source import Source, UnknownSourceError
from model_handler.sources.weight_files import reading_weights

__all__ = ["load_of_torchvision"]


def load_of_torchvision(model: str, pretrained: bool, n_classes: int | None = None) -> Source:
    """Load "NAME" or "NAME:TAG"; without a tag the weights that torchvision recommends."""
    try:
        from torchvision import models
    except ImportError as error:
        raise ImportError(f"'torchvision/{model}' needs torchvision: pip install torchvision ({error})") from error

    name, colon, tag = model.partition(":")
    known = models.list_models(module=models)
    if name not in known:
        raise UnknownSourceError(unknown_in("torchvision", model, known))
    tags = models.get_model_weights(name)
    if colon and tag not in tags.__members__:
        near = [f"torchvision/{name}:{candidate}" for candidate in nearest(tag, tags.__members__)]
        raise UnknownSourceError(
            f"torchvision has no weights {tag!r} for {name!r}; the nearest names are {near}, and 'torchvision/{name}' "
            f"alone stands for {tags.DEFAULT.name}"
        )
    weights = tags[tag] if colon else tags.DEFAULT
    file = file_of_checkpoint(weights.url)
    elsewhere = f"curl -LO {weights.url}, and put the file here as {file}"
    with warnings.catch_warnings(), fetching(f"torchvision/{model}", "download.pytorch.org", elsewhere):
        warnings.filterwarnings("ignore", "The default weight initialization", FutureWarning)  # googlenet, inception_v3
        if pretrained and not file.is_file():
            reach(weights.url)
            torch.hub.load_state_dict_from_url(weights.url, check_hash=True, weights_only=True)
        options = {} if pretrained else _options_with_weights(name, weights)
        options |= {} if n_classes is None else {"num_classes": n_classes}
        network = models.get_model(name, weights=_read_as_tensors(weights, model) if pretrained else None, **options)
    return Source(network, weights.transforms())


def _read_as_tensors(weights: Any, model: str) -> Any:
    """Return the weights of a tag so that their file is read as tensors; torchvision would run what a pickle asks for.

    Their file must be in the cache.
    """

    def read(*_: object, **__: object) -> Any:
        with reading_weights(f"torchvision/{model}"):
            return torch.hub.load_state_dict_from_url(weights.url, weights_only=True)

    safe = object.__new__(type(weights))  # a member of an enumeration cannot be copied, and is not ours to change
    vars(safe).update(vars(weights), get_state_dict=read)
    return safe


def _options_with_weights(model: str, weights: Any) -> dict[str, Any]:
    """Return the options of an architecture that torchvision sets where it is given weights."""
    if model in ("googlenet", "inception_v3"):
        return {"transform_input": True}
    if model.startswith("vit_"):
        return {"image_size": weights.meta["min_size"][0]}
    return {"input_size": weights.meta["min_size"]} if model == "maxvit_t" else {}

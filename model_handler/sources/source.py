"""`Source`: a network with its preprocessing, its name, and the layer whose output stands for an input."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model_handler.data.text.text_transform import TextTransform

__all__ = ["Source", "SourceUnavailableError", "UnknownSourceError", "blank_input"]


class SourceUnavailableError(OSError):
    """The weights of a source could not be fetched."""


class UnknownSourceError(ValueError):
    """A name under which there is no source."""


@dataclass(frozen=True, eq=False, repr=False)
class Source:
    """A network with its preprocessing.

    Attributes
    ----------
    network : nn.Module
        The network.
    transform : callable, optional
        What makes of a PIL image in RGB the tensor that the network takes; for text, a `TextTransform`.
    name : str, optional
        By which `load_source` gives the same again: of what the Hugging Face Hub has, with its revision.
    layer : str, optional
        The layer whose output stands for an input where none is named; by default what the last linear layer reads.

    Examples
    --------
    >>> from torch import nn
    >>> from torchvision.transforms.functional import to_tensor
    >>> from model_handler import ModelHandler, Source
    >>> source = Source(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), transform=to_tensor, name="mine")
    >>> ModelHandler(source)
    ModelHandler(mine, 2 layers, traced)
    """

    network: nn.Module
    transform: Callable[[Any], Any] | None = None
    name: str | None = None
    layer: str | None = None

    def __repr__(self) -> str:
        return f"Source({self.name or 'unnamed'}: {type(self.network).__name__})"


def blank_input(transform: Callable[[Any], Any] | None) -> Any:
    """Return what a preprocessing makes of a grey image, or of a word, as a batch of one; None if it makes no tensor.

    Torch's generator is left as it was, should the preprocessing be random.
    """
    if transform is None:
        return None
    if isinstance(transform, TextTransform):
        return transform(["a word"])
    from PIL import Image

    with torch.random.fork_rng(devices=[]):
        try:
            made = transform(Image.new("RGB", (64, 64), "grey"))
        except Exception:  # it may be for something else than images
            return None
    return made[None] if isinstance(made, Tensor) else None

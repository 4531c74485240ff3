"""Monte Carlo dropout: a network asked many times with units left out, as in training; what it says then differs.

Gal and Ghahramani (2016), arXiv:1506.02142. Only dropout layers that acted in training act here: none in a frozen part.
"""

from collections.abc import Iterator

from torch import nn

from model_handler.replica import share_weights
from model_handler.types import is_of_type

__all__ = ["drops", "with_dropout"]


def drops(module: nn.Module) -> bool:
    """Whether a trained network has dropout layers that act in training."""
    return any(True for _ in _acting(module))


def with_dropout(module: nn.Module) -> nn.Module:
    """A network of the same weights in evaluation mode but for its dropout layers; `module` is left as it is."""
    twin = share_weights(module).eval()
    for layer in _acting(twin):
        layer.training = True
    return twin


def _acting(module: nn.Module) -> Iterator[nn.Module]:
    for layer in module.modules():
        held = "train" in vars(layer)  # as freezing holds a layer in evaluation mode
        if is_of_type(layer, "dropout") and not held and getattr(layer, "p", 0) > 0:
            yield layer

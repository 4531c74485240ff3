"""Running statistics of BatchNorm: those of a new task must be there when a short training ends.

Networks trained for long on much data may keep a share of .99 of the old statistics in each step; after twenty steps
they still have those of the source, and the network is another one in evaluation mode than it was in training.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["LEAST_MOMENTUM", "statistics_that_follow"]

LEAST_MOMENTUM = 0.1  # torch's default: nearly nothing of the old statistics is left after twenty steps


@contextmanager
def statistics_that_follow(module: nn.Module) -> Iterator[None]:
    """Let running statistics move by at least torch's default share in each step of this block; then by their own."""
    slow = [
        (layer, layer.momentum)
        for layer in module.modules()
        if isinstance(layer, _BatchNorm) and layer.momentum is not None and layer.momentum < LEAST_MOMENTUM
    ]
    try:
        for layer, _ in slow:
            layer.momentum = LEAST_MOMENTUM
        yield
    finally:
        for layer, momentum in slow:
            layer.momentum = momentum

"""Running statistics of BatchNorm are kept as the source learned them, or soon become those of the new task.

Few rows cannot estimate statistics that much data did, and a network that normalises by each small batch learns less
than one that keeps the source's. Those that do follow the batches must be there when a short training ends: networks
trained for long may keep a share of .99 of the old statistics in each step, and are then another network in evaluation
mode than in training.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from model_handler.errors import ModelError

__all__ = ["LEAST_MOMENTUM", "STATISTICS", "explaining_single_rows", "learned_statistics", "statistics_that_follow"]

STATISTICS = ("source", "batch")

LEAST_MOMENTUM = 0.1  # torch's default: nearly nothing of the old statistics is left after twenty steps


def learned_statistics(module: nn.Module, new: Collection[str]) -> tuple[str, ...]:
    """Find the paths of the normalisation whose running statistics were learned before: no longer 0 and 1.

    `new` names reinitialised parameters; normalisation whose weight or bias is one of them is reinitialised too, and
    one that an adapter was put on is not.
    """
    return tuple(
        path
        for path, layer in module.named_modules()
        if isinstance(layer, _NormBase)
        and layer.running_mean is not None
        and layer.running_var is not None
        and not (torch.all(layer.running_mean == 0) and torch.all(layer.running_var == 1))
        and not any(f"{path}.{name}".lstrip(".") in new for name in ("weight", "bias"))
    )


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


@contextmanager
def explaining_single_rows() -> Iterator[None]:
    """Raise ModelError where a batch of one row has no statistics."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ModelError(
            "a batch has a single row, from which BatchNorm cannot learn: give the DataLoader drop_last=True, another "
            f"batch_size, or freeze these layers ({error})"
        ) from error

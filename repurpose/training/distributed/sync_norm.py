"""BatchNorm normalises over the rows of all processes, by torch's SyncBatchNorm, for the time of a training."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from model_handler.errors import ModelError

__all__ = ["check_sync", "synchronised"]


def check_sync(device: torch.device) -> None:
    """Raise ModelError where SyncBatchNorm does not compute."""
    if device.type == "cpu":
        raise ModelError("sync_norm=True is for GPUs: torch's SyncBatchNorm refuses CPUs; leave it out")


@contextmanager
def synchronised(module: nn.Module) -> Iterator[None]:
    """Put SyncBatchNorm in the place of every BatchNorm inside, in place, and in the end the same modules back.

    Both hold the same weights and statistics, so what is learned stays.
    """
    swapped = []
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm) and not isinstance(child, nn.SyncBatchNorm):
                swapped.append((parent, name, child))
                setattr(parent, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))
    try:
        yield
    finally:
        for parent, name, child in swapped:
            child.train(parent.get_submodule(name).training)  # the mode was set on what stood in its place
            setattr(parent, name, child)

"""Modes of a detector: torchvision's give losses in training alone."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["in_training"]


@contextmanager
def in_training(detector: nn.Module) -> Iterator[None]:
    """Have a detector in training mode in this block, as it was before afterwards; its backbone's trunk stays."""
    before = detector.training
    if not before:  # parts that the engine keeps in evaluation stay so
        detector.train()
    try:
        yield
    finally:
        if not before:
            detector.eval()

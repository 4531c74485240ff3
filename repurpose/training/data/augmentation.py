"""Augmentation changes training images at random, as a user says or by a rule for photographs."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from model_handler.errors import ModelError

__all__ = ["augmentation_mistakes", "chosen_augmentation"]

_SHIFT = 8  # an image is shifted by up to an eighth of its sides


def augmentation_mistakes(augmentation: object) -> list[str]:
    """List what is wrong with the parameter."""
    if isinstance(augmentation, type):
        return [f"augmentation must be a transform, got its class; write {augmentation.__name__}(...)"]
    if augmentation is None or callable(augmentation) or augmentation == "auto":
        return []
    return [
        f'augmentation must be a transform of torchvision or another callable, "auto" or None, got {augmentation!r}'
    ]


def chosen_augmentation(
    augmentation: Callable[[Any], Any] | str | None, example: object
) -> Callable[[Any], Any] | None:
    """Choose what is done to each image: as given, or for "auto" a shift by up to an eighth, and half the time a flip.

    It must keep the size. Raises ModelError for "auto" where inputs are no images.
    """
    if augmentation is None or callable(augmentation):
        return augmentation
    if not isinstance(example, Tensor) or example.ndim != 4:
        raise ModelError('augmentation="auto" is for images, inputs of shape (n, channels, height, width)')
    return _shifted_and_flipped


def _shifted_and_flipped(image: Tensor) -> Tensor:
    from torchvision.transforms import v2
    from torchvision.transforms.v2 import functional

    height, width = functional.get_size(image)
    margins = [max(1, width // _SHIFT), max(1, height // _SHIFT)]
    flipped = v2.RandomHorizontalFlip()(functional.pad(image, margins, padding_mode="edge"))
    return v2.RandomCrop((height, width))(flipped)

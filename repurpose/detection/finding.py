"""Finding: images go through a detector in batches, of half as many where memory is short."""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from model_handler import ModelError
from model_handler.extraction.engine import NETWORK_LOCK
from model_handler.network.precision import computing_in
from model_handler.user_warnings import warn_user
from repurpose.training.steps.smaller_batches import is_out_of_memory

__all__ = ["find_objects"]


def find_objects(
    network: nn.Module, images: Iterable[Tensor], batch_size: int, precision: str
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the "boxes", "labels" and "scores" that a `DetectionNetwork` finds in each image, in order.

    Of a batch that does not fit into memory half as many images are taken at once, with a UserWarning, and from then on
    no more than that. Raises ModelError where a single one is too much.

    Parameters
    ----------
    network : nn.Module
    images : iterable of tensors of shape (3, height, width)
    batch_size : int
    precision : "float32" or "bfloat16"
    """
    remaining, at_once = iter(images), batch_size
    while waiting := list(islice(remaining, batch_size)):
        while waiting:
            try:
                found = _found(network, waiting[:at_once], precision)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                at_once = _fewer(min(at_once, len(waiting)), error)
                continue
            yield from found
            waiting = waiting[at_once:]


def _found(network: nn.Module, images: list[Tensor], precision: str) -> list[dict[str, np.ndarray]]:
    device = next(network.parameters()).device
    with NETWORK_LOCK, torch.no_grad(), computing_in(precision, device):
        found = network([image.to(device) for image in images])
    return [{name: _as_array(values) for name, values in each.items()} for each in found]


def _as_array(values: Tensor) -> np.ndarray:
    return (values.float() if values.is_floating_point() else values).cpu().numpy()  # numpy has no bfloat16


def _fewer(n_images: int, error: RuntimeError) -> int:
    """Return half as many, with a UserWarning. Raises ModelError for a single one."""
    if n_images == 1:
        raise ModelError(
            "out of memory with a single image at once: train with a smaller image_size, or with fewer channels"
        ) from error
    warn_user(
        f"out of memory with {n_images} images at once: {n_images // 2} at once from here on; a batch_size of that "
        "spares the attempt",
    )
    return n_images // 2

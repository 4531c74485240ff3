"""Images are told from other arrays, and turned into batches by a transform; `decoding` opens them.

Reading happens in the workers of a `DataLoader`. What goes wrong there comes back as a value and is raised, or
skipped, in the main process, so that messages stay whole.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from model_handler.data.batch import ALL, Batch, Share
from model_handler.data.decoding import UnreadableImageError, is_bytes, is_pil, open_image
from model_handler.data.prefetching import prefetched
from model_handler.data.process_shards import read_share
from model_handler.data.reading import Reading

__all__ = [
    "Augmented",
    "UnreadableImageError",
    "image_batches",
    "is_bytes",
    "is_image",
    "is_pil",
    "looks_like_pixels",
    "transformed",
]

CHANNELS = (1, 3, 4)  # grey, RGB, RGBA; always the last axis
NO_TRANSFORM = (
    "images need preprocessing and none is known: pass transform= (a callable from a PIL image to a tensor), "
    "or use a named source such as 'efficientnet-lite0', which brings its own"
)


def looks_like_pixels(value: Any) -> bool:
    """Tell whether an array or tensor is one image in bytes: uint8 or uint16 of shape (height, width[, channels])."""
    return is_bytes(value) and (value.ndim == 2 or (value.ndim == 3 and value.shape[-1] in CHANNELS))


def is_image(value: object) -> bool:
    """Return whether the value alone is an image: a path, a PIL image, or the bytes of one."""
    return isinstance(value, (str, PathLike)) or is_pil(value) or looks_like_pixels(value)


def transformed(image: object, transform: Callable[[Any], Any]) -> Tensor:
    """Open an image (path, PIL image or array of bytes), convert it to RGB and call `transform`, which makes a tensor.

    Raises UnreadableImageError, and TypeError if the transform gives no tensor.
    """
    result = transform(open_image(image))
    if not isinstance(result, Tensor):
        raise TypeError(
            f"the transform must turn a PIL image into a tensor, but gave {type(result).__name__}; "
            "end it with torchvision.transforms.ToTensor(), for instance"
        )
    return result


def image_batches(
    images: Sequence[Any],
    labels: np.ndarray | None,
    transform: Callable[[Any], Any],
    reading: Reading,
    *,
    rows: np.ndarray,
    share: Share = ALL,
    skip: bool = False,
) -> Iterator[Batch]:
    """Yield a share of the batches of images, those numbered `rows` in this order; the next is read during work on one.

    An unreadable image raises UnreadableImageError, or is left out of a batch that names it. Raises ValueError if
    images of a batch differ in shape after the transform, TypeError if the transform gives no tensor.
    """
    made = _Images(images, Augmented(reading.augment, transform))
    loader: DataLoader = DataLoader(made, sampler=rows.tolist(), collate_fn=_collate, **reading.loader_options())
    read = read_share(loader, share)
    for given, order in read if reading.num_workers else prefetched(read):
        for _, error in given.failures:
            if not skip or not isinstance(error, UnreadableImageError):
                raise error
        skipped = {row: str(error) for row, error in given.failures}
        own_labels = None if labels is None else labels[given.indices]
        numbers = np.array(given.indices, dtype=np.int64)
        yield Batch(given.inputs, own_labels, len(numbers), skipped, order, numbers)


class Augmented:
    """A transform that first does something else to the image, if anything: `augment` is from image to image."""

    def __init__(self, augment: Callable[[Any], Any] | None, transform: Callable[[Any], Any]) -> None:
        self.augment = augment
        self.transform = transform

    def __call__(self, image: object) -> Any:
        return self.transform(image if self.augment is None else self.augment(image))


class _Images(Dataset):
    """Rows are (row number, tensor or the error met, name of the image)."""

    def __init__(self, images: Sequence[Any], transform: Callable[[Any], Any]) -> None:
        self.images = images
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[int, Tensor | Exception, str]:
        image = self.images[row]
        name = fspath(image) if isinstance(image, (str, PathLike)) else f"image {row}"
        try:
            return row, transformed(image, self.transform), name
        except UnreadableImageError as error:
            return row, UnreadableImageError(f"{name} cannot be read as an image: {error}"), name
        except TypeError as error:
            return row, error, name


@dataclass(frozen=True, eq=False)
class _Rows:
    """What a worker hands over: the rows that became tensors, and the errors of those that did not."""

    indices: list[int]
    inputs: Tensor | None
    failures: list[tuple[int, Exception]]

    def pin_memory(self) -> "_Rows":
        """Pin the tensors in memory; a `DataLoader` calls this where copies to a GPU run beside the computing."""
        return self if self.inputs is None else replace(self, inputs=self.inputs.pin_memory())


def _collate(items: list[tuple[int, Tensor | Exception, str]]) -> _Rows:
    failures = [(row, result) for row, result, _ in items if isinstance(result, Exception)]
    good = [(row, result, name) for row, result, name in items if isinstance(result, Tensor)]
    for row, tensor, name in good[1:]:
        if tensor.shape != good[0][1].shape:
            error = ValueError(
                f"images of one batch must have one shape after the transform, but {good[0][2]} has "
                f"{tuple(good[0][1].shape)} and {name} has {tuple(tensor.shape)}; put a resize to a fixed height and "
                "width into the transform, such as torchvision.transforms.Resize((224, 224))"
            )
            return _Rows([], None, [*failures, (row, error)])
    inputs = torch.stack([tensor for _, tensor, _ in good]) if good else None
    return _Rows([row for row, _, _ in good], inputs, failures)

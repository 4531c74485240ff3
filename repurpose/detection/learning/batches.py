"""Batches of images with boxes: each row is read, augmented and made smaller where data are read, to one shape.

So any number of workers and processes read them as they read all other data.
"""

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from model_handler.data import Batch
from model_handler.errors import nearest
from repurpose.detection.data import DetectionRow, DetectionRows, DetectionTruth, augmented
from repurpose.detection.data.augmentation import Augmentation
from repurpose.detection.networks.images import largest_side, scale_of, shrunk, shrunk_size
from repurpose.training.data.batches import TrainingBatch, TrainingBatches

__all__ = ["DetectionBatches", "PaddedRows", "as_tensor"]

_MORE_BOXES = 4  # times as many as an image has: augmentation may put several images together


class PaddedRows(Dataset):
    """Rows of one shape: ``({"images": uint8 (3, height, width), "sizes": (2,), "objects": (most, 5)}, 0)``.

    An image is in the upper left corner; objects are boxes and the codes of their classes, and -1 where there are no
    more. Ignored ones are left out.

    Parameters
    ----------
    rows : DetectionRows
    truths : sequence of DetectionTruth
        Those of all rows.
    classes : ndarray of shape (n_classes,)
    image_size : int
        The largest short side.
    fixed_size : (int, int), optional
        Into which both sides are to fit.
    augmentation : callable, optional
        As `augmented` takes it.
    multiple : int, default=1
        Sides are padded to multiples of it, where there is no fixed size.

    Raises
    ------
    ValueError
        For labels that are not among the classes.
    """

    def __init__(
        self,
        rows: DetectionRows,
        truths: Sequence[DetectionTruth],
        classes: np.ndarray,
        image_size: int,
        fixed_size: tuple[int, int] | None,
        augmentation: Augmentation | None = None,
        *,
        multiple: int = 1,
    ) -> None:
        self.rows = rows
        self.codes = {label: code for code, label in enumerate(classes.tolist())}
        self.image_size, self.fixed_size = image_size, fixed_size
        self.augmentation, self.multiple = augmentation, multiple
        self.sizes = [truth.size for truth in truths]
        for truth in truths:
            self._refuse_unseen(truth)
        most = max(int((~truth.ignored).sum()) for truth in truths)
        self.most_objects = max(1, most * (1 if augmentation is None else _MORE_BOXES))
        if augmentation is None:
            most_pixels = np.array([np.array(truth.size) * self._scale(truth.size) for truth in truths]).max(axis=0)
        else:
            most_pixels = np.array((largest_side(image_size),) * 2)
        self.canvas = fixed_size or self.padded(*map(ceil, most_pixels.tolist()))

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """Return the size that a batch is padded to whose largest sides are these."""
        if self.fixed_size is not None:
            return self.fixed_size
        return ceil(height / self.multiple) * self.multiple, ceil(width / self.multiple) * self.multiple

    def why_unlike(self, numbers: np.ndarray) -> str:
        """Say why rows of these numbers are not the same in each epoch, whatever batch they are in; "" if they are."""
        if self.augmentation is not None:
            return "augmentation draws anew each epoch"
        sizes = {self.sizes[number] for number in numbers.tolist()}
        padded = sorted({self.padded(*shrunk_size(size, self._scale(size))) for size in sizes})
        if len(padded) == 1:
            return ""
        listed = " and ".join(f"{height} x {width}" for height, width in (padded[0], padded[-1]))
        return f"images are padded to the largest of a batch, and differ in size, such as {listed}"

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[dict[str, Tensor], int]:
        row = self.rows.row(int(number))
        if self.augmentation is not None:
            row = augmented(row, self.augmentation)
        scale = self._scale(row.size)
        image = shrunk(as_tensor(row.image), scale)
        canvas = torch.zeros(3, *self.canvas, dtype=torch.uint8)
        canvas[:, : image.shape[1], : image.shape[2]] = image
        ratio = torch.tensor(image.shape[1:]) / torch.tensor(row.size)
        sizes = torch.tensor(image.shape[1:])
        return {"images": canvas, "sizes": sizes, "objects": self._objects(row, ratio.flip(0).repeat(2))}, 0

    def _scale(self, size: tuple[int, int]) -> float:
        return scale_of(*size, self.image_size, self.fixed_size)

    def _objects(self, row: DetectionRow, ratio: Tensor) -> Tensor:
        """Return the objects of a row, padded. Raises ValueError for more than there is room for."""
        kept = ~row.ignored
        boxes, labels = row.boxes[kept], row.labels[kept].tolist()
        self._refuse_unseen(row)  # an augmentation may have made others
        if len(boxes) > self.most_objects:
            raise ValueError(
                f"{row.name}: the augmentation made {len(boxes)} boxes, and there is room for {self.most_objects}, "
                f"{_MORE_BOXES} times as many as any image of the data has"
            )
        objects = torch.full((self.most_objects, 5), -1.0)
        objects[: len(boxes), :4] = torch.from_numpy(boxes) * ratio
        objects[: len(boxes), 4] = torch.tensor([self.codes[label] for label in labels])
        return objects

    def _refuse_unseen(self, row: DetectionRow | DetectionTruth) -> None:
        """Raise ValueError for objects of a class that training has not, unless they are ignored."""
        unseen = {label for label in row.labels[~row.ignored].tolist() if label not in self.codes}
        if unseen:
            near = nearest(min(map(str, unseen)), list(map(str, self.codes)))
            listed = ", ".join(sorted(map(repr, unseen)))
            raise ValueError(
                f"{row.name} of {self.rows.described} has labels that training has not: {listed}; nearest: {near}. "
                "Rename them, leave them out, or mark them as ignored"
            )


class DetectionBatches(TrainingBatches):
    """Batches of `PaddedRows`: inputs ``{"images", "targets", "sizes"}``, as `DetectionNetwork` takes them.

    Targets of a training are codes of rows, of which images have none: boxes are among the inputs.
    """

    def __init__(self, data: PaddedRows, classes: np.ndarray, *, rows: np.ndarray, **options: Any) -> None:
        super().__init__(data, classes, rows=rows, **options)
        self.why_unlike = data.why_unlike(rows)

    def make_batch(self, batch: Batch) -> TrainingBatch:
        """Take the padding off the images as far as the largest of the batch lets it."""
        given: dict[str, Tensor] = batch.inputs
        sizes = given["sizes"].long()
        height, width = self.data.padded(*sizes.amax(dim=0).tolist())
        inputs = {"images": given["images"][:, :, :height, :width], "targets": given["objects"], "sizes": sizes}
        return TrainingBatch(inputs, torch.zeros(batch.n_rows, dtype=torch.int64), batch.n_rows, batch.rows)


def as_tensor(image: Any) -> Tensor:
    """Return a picture as a tensor (3, height, width) of uint8."""
    if not isinstance(image, Tensor):
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
    return image if image.dtype == torch.uint8 else (image * 255).round().clamp(0, 255).to(torch.uint8)

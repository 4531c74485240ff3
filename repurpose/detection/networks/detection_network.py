"""`DetectionNetwork`: a backbone up to its last map and a detector on it, as one module with the names of both."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from repurpose.neural_network.architecture import WithParts

__all__ = ["DetectionNetwork", "Targets"]

Targets = Sequence[dict[str, Tensor]]

_NAME = "detector"


class DetectionNetwork(WithParts):
    """Gives losses where there are targets, and else detections; layers of the trunk have the names of the source.

    Parameters
    ----------
    trunk : nn.Module
        Gives the feature maps; the backbone of the detector calls it.
    detector : nn.Module
        One of torchvision's.
    first_code : int
        What the detector calls the first class: 1 where 0 is the background.
    """

    def __init__(self, trunk: nn.Module, detector: nn.Module, *, first_code: int) -> None:
        name = _NAME
        while name in trunk._modules:
            name += "_2"
        super().__init__(trunk, {name: detector})
        self.first_code = first_code
        self.detector_name = name

    def forward(
        self, images: Sequence[Tensor] | Tensor, targets: Targets | None = None, sizes: Tensor | None = None
    ) -> Any:
        """Compute the losses, each a mean over the images, where there are targets, and else detections.

        Parameters
        ----------
        images : sequence of tensors of shape (3, height, width), or one tensor (n, 3, height, width)
            From 0 to 1, or whole numbers to 255.
        targets : sequence of dict, optional
            For each image the "boxes" (n_boxes, 4), x1 y1 x2 y2 in its pixels with x1 < x2 and y1 < y2, and "labels"
            (n_boxes,), codes from 0.
        sizes : tensor of shape (n, 2), optional
            Height and width of each image in one tensor, where it is smaller: it is then in the upper left corner. The
            loss of an image depends on how far it is padded, which is as far as the tensor, so that parts of a batch
            add up to it.

        Returns
        -------
        dict of str to tensor, or list of dict
            The losses by name; without targets, in evaluation, "boxes", "labels" and "scores" of each image, the
            highest scores first.
        """
        if self.training or targets is not None:
            return self.losses(images, [] if targets is None else targets, sizes)
        detections = self.get_submodule(self.detector_name)(_as_list(images, sizes))
        return [self._outside(found) for found in detections]

    def _outside(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return detections with codes from 0, without boxes of which clipping to the image left nothing."""
        boxes = found["boxes"]
        kept = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        labels = found["labels"] - self.first_code
        return {"boxes": boxes[kept], "labels": labels[kept], "scores": found["scores"][kept]}

    def losses(
        self, images: Sequence[Tensor] | Tensor, targets: Targets, sizes: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Compute the losses by name, in evaluation too: the trunk then stays in it."""
        given = _as_list(images, sizes)
        if len(targets) != len(given):
            raise ValueError(f"{len(given)} images need as many targets, got {len(targets)}")
        coded = [
            {"boxes": target["boxes"].float(), "labels": target["labels"].long() + self.first_code}
            for target in targets
        ]
        detector = self.get_submodule(self.detector_name)
        least_size = (0, 0)
        if isinstance(images, Tensor) and sizes is not None:
            least_size = images.shape[-2], images.shape[-1]
        with _in_training(detector, least_size):
            return detector(given, coded)


def _as_list(images: Sequence[Tensor] | Tensor, sizes: Tensor | None) -> list[Tensor]:
    if sizes is None:
        return list(images)
    return [image[:, :height, :width] for image, (height, width) in zip(images, sizes.tolist(), strict=True)]


@contextmanager
def _in_training(detector: nn.Module, least_size: tuple[int, int]) -> Iterator[None]:
    """Have a detector in training mode, its images padded to a least height and width, as it was before afterwards."""
    before, transform = detector.training, detector.get_submodule("transform")
    if not before:  # parts that the engine keeps in evaluation stay so
        detector.train()
    transform.least_size = least_size  # type: ignore[assignment]
    try:
        yield
    finally:
        transform.least_size = (0, 0)  # type: ignore[assignment]
        if not before:
            detector.eval()

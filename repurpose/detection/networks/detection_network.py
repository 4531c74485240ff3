"""`DetectionNetwork`: a backbone up to its last map and a detector on it, as one module with the names of both."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from model_handler.errors import ModelError
from model_handler.frozen_prefix.frontier import Frontier, SplitsItself
from repurpose.detection.networks.frozen_part import frontier_of_detector
from repurpose.detection.networks.images import ImageBatches, in_corners
from repurpose.detection.networks.modes import in_training
from repurpose.detection.networks.targets import Targets, coded, listed
from repurpose.neural_network.architecture import WithParts

__all__ = ["DetectionNetwork"]

_NAME = "detector"


class DetectionNetwork(WithParts, SplitsItself):
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
        self, images: Sequence[Tensor] | Tensor, targets: Targets | Tensor | None = None, sizes: Tensor | None = None
    ) -> Any:
        """Compute the losses, each a mean over the images, where there are targets, and else detections.

        Parameters
        ----------
        images : sequence of tensors of shape (3, height, width), or one tensor (n, 3, height, width)
            From 0 to 1, or whole numbers to 255.
        targets : sequence of dict, or tensor of shape (n, most, 5), optional
            For each image the "boxes" (n_boxes, 4), x1 y1 x2 y2 in its pixels with x1 < x2 and y1 < y2, and "labels"
            (n_boxes,), codes from 0; in one tensor the code is the last of five, and below 0 where there is no box.
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
            return self.losses(images, [] if targets is None else listed(targets), sizes)
        detections = self.get_submodule(self.detector_name)(in_corners(images, sizes))
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
        given = in_corners(images, sizes)
        if len(targets) != len(given):
            raise ValueError(f"{len(given)} images need as many targets, got {len(targets)}")
        detector = self.get_submodule(self.detector_name)
        transform = detector.get_submodule("transform")
        with in_training(detector), ExitStack() as padding:
            if isinstance(images, Tensor) and sizes is not None and isinstance(transform, ImageBatches):
                padding.enter_context(transform.padding_at_least(images.shape[-2], images.shape[-1]))
            return detector(given, coded(targets, self.first_code))

    def frontier(self, inputs: object, *, precision: str, fixed_sizes: bool = True) -> Frontier:
        """Return where the frozen part of the backbone ends, and what is left of it with the detector on it.

        Raises ModelError where the backbone cannot be split, and for a class with losses of its own.
        """
        for method in ("forward", "losses"):
            if getattr(type(self), method) is not getattr(DetectionNetwork, method):
                raise ModelError(f"{type(self).__name__}.{method} may look into the network")
        options: dict[str, Any] = {"precision": precision, "fixed_sizes": fixed_sizes}
        return frontier_of_detector(self, self.detector_name, self.first_code, inputs, **options)

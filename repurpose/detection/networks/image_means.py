"""Losses as means over images: of a batch, the mean of what torchvision's loss is for each of its images alone.

So a batch weighs as much as it has images, and halves of it add up to the same step. RetinaNet's losses are of this
kind already; FCOS divides by the places with an object in all images, and Faster R-CNN by all samples drawn. Of Faster
R-CNN halves add up in expectation alone: it draws samples of places and of proposals, and halves draw others.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork

__all__ = ["ImageMeanFCOSHead", "ImageMeanProposals", "ImageMeanRoIHeads"]

Targets = list[dict[str, Tensor]]


class ImageMeanFCOSHead(FCOSHead):
    """The head of FCOS, with losses divided by the places of each image that have an object."""

    def compute_loss(
        self, targets: Targets, head_outputs: dict[str, Tensor], anchors: list[Tensor], matched_idxs: list[Tensor]
    ) -> dict[str, Tensor]:
        """Return the mean over images of each loss."""
        losses = [
            super(ImageMeanFCOSHead, self).compute_loss(
                [target],
                {name: output[number : number + 1] for name, output in head_outputs.items()},
                [anchors[number]],
                [matched_idxs[number]],
            )
            for number, target in enumerate(targets)
        ]
        return {name: torch.stack([loss[name] for loss in losses]).mean() for name in losses[0]}


class ImageMeanProposals(RegionProposalNetwork):
    """The proposals of Faster R-CNN, with losses divided by the samples of each image."""

    def compute_loss(
        self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list[Tensor], regression_targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the mean over images of the losses of objects against background and of boxes."""
        n_images = len(labels)
        by_image = zip(objectness.chunk(n_images), pred_bbox_deltas.chunk(n_images), labels, regression_targets)
        losses = [
            super(ImageMeanProposals, self).compute_loss(scores, deltas, [label], [target])
            for scores, deltas, label, target in by_image
        ]
        of_objects, of_boxes = (torch.stack(found).mean() for found in zip(*losses))
        return of_objects, of_boxes


class ImageMeanRoIHeads(RoIHeads):
    """The second stage of Faster R-CNN, with losses divided by the samples of each image."""

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: Targets | None = None,
    ) -> tuple[Targets, dict[str, Tensor]]:
        """Return detections, or in training the losses."""
        if not self.training:
            return super().forward(features, proposals, image_shapes, targets)
        proposals, _, labels, wanted = self.select_training_samples(proposals, targets)
        pooled = self.box_roi_pool(features, proposals, image_shapes)
        logits, deltas = self.box_predictor(self.box_head(pooled))
        of_classes, of_boxes = _mean_of_images(logits, deltas, labels, wanted)
        return [], {"loss_classifier": of_classes, "loss_box_reg": of_boxes}


def _mean_of_images(
    logits: Tensor, deltas: Tensor, labels: Sequence[Tensor], wanted: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    n_samples = [len(found) for found in labels]
    nothing = (logits.sum() * 0, deltas.sum() * 0)  # of an image without a sample, of which a mean would be NaN
    losses = [
        fastrcnn_loss(scores, boxes, [label], [target]) if len(label) else nothing
        for scores, boxes, label, target in zip(logits.split(n_samples), deltas.split(n_samples), labels, wanted)
    ]
    of_classes, of_boxes = (torch.stack(found).mean() for found in zip(*losses))
    return of_classes, of_boxes

"""Losses are means over images: parts of a batch add up to the whole, and one image has torchvision's own loss."""

import pytest
import torch
from torch import nn
from torchvision.models.detection import fcos, roi_heads, rpn

from tests.repurpose.detection.backbones import Residual, detector_on, targets_of

BOXES = [[(8, 8, 40, 50)], [], [(0, 0, 20, 20), (20, 10, 60, 60), (30, 2, 50, 30)], [(4, 30, 60, 60)]]


def unsampled(detector: nn.Module) -> nn.Module:
    """Let Faster R-CNN take all candidates, so that nothing is drawn."""
    for part in detector.modules():
        if hasattr(part, "fg_bg_sampler"):
            part.fg_bg_sampler.batch_size_per_image = 10**6
    return detector


def images_of(n: int) -> list[torch.Tensor]:
    return list(torch.rand(n, 3, 64, 64, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("kind", ["fcos", "retinanet", "faster_rcnn"])
def test_halves_of_a_batch_give_the_same_gradient_as_the_whole(kind):
    detector = unsampled(detector_on(Residual(), kind)).double()  # groups of two numbers are ill-conditioned
    detector.eval()  # BatchNorm on its own statistics, as the training engine has it
    images, targets = [image.double() for image in images_of(4)], targets_of(*BOXES)

    def gradients(*parts: slice) -> list[torch.Tensor]:
        detector.zero_grad()
        for part in parts:
            loss = sum(detector.losses(images[part], targets[part]).values())
            (loss * len(images[part]) / 4).backward()
        return [parameter.grad.clone() for parameter in detector.parameters()]

    whole, halves = gradients(slice(0, 4)), gradients(slice(0, 1), slice(1, 4))
    for of_whole, of_halves in zip(whole, halves):
        torch.testing.assert_close(of_halves, of_whole, atol=1e-8, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        ("fcos", {"ImageMeanFCOSHead": fcos.FCOSHead}),
        ("faster_rcnn", {"ImageMeanProposals": rpn.RegionProposalNetwork, "ImageMeanRoIHeads": roi_heads.RoIHeads}),
    ],
)
def test_a_single_image_has_the_loss_of_torchvision(kind, own):
    detector = unsampled(detector_on(Residual(), kind)).eval()
    images, targets = images_of(4)[2:3], targets_of(BOXES[2])
    ours = detector.losses(images, targets)
    for part in detector.modules():
        part.__class__ = own.get(type(part).__name__, type(part))
    theirs = detector.losses(images, targets)
    assert set(ours) == set(theirs)
    for name, loss in ours.items():
        torch.testing.assert_close(loss, theirs[name])

"""The loss that training minimises is the sum of a detector's losses; validation is its mean over all images."""

from types import SimpleNamespace

import pytest
import torch

from repurpose.detection.learning import DetectionObjective, DetectionValidation
from repurpose.training.data.batches import TrainingBatch
from repurpose.training.distributed.single_process import SingleProcess
from tests.repurpose.detection.backbones import Residual, detector_on, targets_of

BOXES = [[(8, 8, 40, 50)], [], [(0, 0, 20, 20), (20, 10, 60, 60)]]


def batch_of(rows: slice) -> TrainingBatch:
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(2))[rows]
    inputs = {"images": images, "sizes": torch.tensor([[64, 64]] * 3)[rows], "targets": targets_of(*BOXES[rows])}
    return TrainingBatch(inputs, torch.zeros(len(images), dtype=torch.int64), len(images))


def test_the_loss_is_the_sum_of_all_losses():
    detector, batch = detector_on(Residual()).eval(), batch_of(slice(0, 3))
    losses = detector.losses(batch.inputs["images"], batch.inputs["targets"])
    loss = DetectionObjective().loss(detector, batch.inputs, batch.targets)
    assert float(loss.detach()) == pytest.approx(sum(float(part.detach()) for part in losses.values()))
    assert DetectionObjective().weight(batch) == 3


def test_validation_of_uneven_batches_is_that_of_all_images_together():
    detector = detector_on(Residual()).eval()
    validation = DetectionValidation.__new__(DetectionValidation)
    validation.precision = "float32"

    def measured(*parts: TrainingBatch) -> float:
        with torch.no_grad():
            return validation.measure(detector, iter(parts), SingleProcess())["validation_loss"]

    whole = measured(batch_of(slice(0, 3)))
    without_weight = SimpleNamespace(**{**vars(batch_of(slice(0, 1))), "zero_weight": True})
    assert measured(batch_of(slice(0, 1)), batch_of(slice(1, 3)), without_weight) == pytest.approx(whole, rel=1e-4)

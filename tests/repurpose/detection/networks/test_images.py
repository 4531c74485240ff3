"""Images made ready: never enlarged, boxes along with them, padded to multiples or to one size."""

import pytest
import torch

from repurpose.detection.networks.images import ImageBatches, scale_of
from repurpose.detection.networks.normalization import Normalization


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [(50, 60, 1.0), (64, 64, 1.0), (128, 200, 0.5), (128, 1280, 1333 / 800 * 64 / 1280)],
)
def test_images_become_smaller_and_never_larger(height, width, scale):
    assert scale_of(height, width, 64) == pytest.approx(scale)


def test_both_sides_fit_into_a_fixed_size():
    assert scale_of(100, 50, 64, (64, 64)) == 0.64
    assert scale_of(30, 50, 64, (64, 64)) == 1


def test_boxes_shrink_with_their_image_and_return():
    batches = ImageBatches(Normalization(), 32, 32)
    images = [torch.rand(3, 64, 96), torch.rand(3, 20, 30)]
    targets = [{"boxes": torch.tensor([[8.0, 4, 48, 64]])}, {"boxes": torch.tensor([[1.0, 2, 3, 4]])}]
    batch, smaller = batches(images, targets)
    assert batch.tensors.shape == (2, 3, 32, 64)
    assert batch.image_sizes == [(32, 48), (20, 30)]
    assert [target["boxes"].tolist() for target in smaller] == [[[4, 2, 24, 32]], [[1, 2, 3, 4]]]
    assert targets[0]["boxes"].tolist() == [[8, 4, 48, 64]]
    found = [{"boxes": target["boxes"]} for target in smaller]
    back = batches.eval().postprocess(found, batch.image_sizes, [(64, 96), (20, 30)])
    assert [each["boxes"].tolist() for each in back] == [[[8, 4, 48, 64]], [[1, 2, 3, 4]]]


def test_whole_numbers_are_brought_to_one_and_normalised_and_the_border_is_the_mean():
    batches = ImageBatches(Normalization((0.2, 0.4, 0.6), (0.5, 0.25, 0.1)), 64, 32)
    made = batches([torch.full((3, 30, 30), 255, dtype=torch.uint8)])[0].tensors
    assert made[0, :, 0, 0].tolist() == pytest.approx([0.8 / 0.5, 0.6 / 0.25, 0.4 / 0.1])
    assert made[0, :, 31, 31].tolist() == [0, 0, 0]


def test_a_fixed_size_is_padded_to():
    batches = ImageBatches(Normalization(), 640, 32, (64, 64))
    made = batches([torch.rand(3, 128, 64), torch.rand(3, 9, 9)])[0]
    assert made.tensors.shape == (2, 3, 64, 64)
    assert made.image_sizes == [(64, 32), (9, 9)]

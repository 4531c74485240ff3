"""Finding: batches of images, halved where memory is short."""

import pytest
import torch
from torch import Tensor, nn

from model_handler import ModelError
from repurpose.detection.finding import find_objects

IMAGES = [torch.full((3, 4, 4), float(number)) for number in range(7)]


class Counting(nn.Module):
    """Finds one box an image, whose score is the image's number; fails above a number of images at once."""

    def __init__(self, most: int, error: Exception | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.most, self.seen = most, []
        self.error = error or torch.OutOfMemoryError("no room")

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        assert not torch.is_grad_enabled()
        self.seen.append(len(images))
        if len(images) > self.most:
            raise self.error
        return [{"scores": image[0, 0, :1]} for image in images]


def scores_of(network: nn.Module, batch_size: int) -> list[float]:
    return [found["scores"].item() for found in find_objects(network, iter(IMAGES), batch_size, "float32")]


def test_images_come_back_in_order_in_batches():
    network = Counting(most=3)
    assert scores_of(network, 3) == [0, 1, 2, 3, 4, 5, 6]
    assert network.seen == [3, 3, 1]


def test_a_batch_that_does_not_fit_is_halved_and_those_behind_it_are_not_tried_again():
    network = Counting(2, RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    with pytest.warns(UserWarning, match=r"out of memory with (6 images at once: 3|3 images at once: 1) at") as caught:
        assert scores_of(network, 6) == [0, 1, 2, 3, 4, 5, 6]
    assert sum("out of memory" in str(warning.message) for warning in caught) == 2
    assert network.seen == [6, 3, 1, 1, 1, 1, 1, 1, 1]


@pytest.mark.filterwarnings("ignore:out of memory")
def test_a_single_image_too_much_is_an_error_with_the_fix():
    with pytest.raises(ModelError, match="a single image at once: train with a smaller image_size"):
        scores_of(Counting(most=0), 2)


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shapes differ"):
        scores_of(Counting(most=0, error=RuntimeError("shapes differ")), 2)

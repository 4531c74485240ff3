"""What a training of a detector is prepared with."""

import numpy as np
import pytest
import torch
from torch import nn

from model_handler.errors import ModelError
from repurpose.detection import DetectionRepurposer


def test_a_network_of_one_image_size_is_told_to_be_given_it():
    class OfOneSize(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 8, 3, stride=8, padding=1)

        def forward(self, images):
            torch._assert(images.shape[-1] == 224, "images of 224 pixels")
            return self.convolution(images)

    data = [(np.zeros((96, 96, 3), np.uint8), {"boxes": [[0, 0, 50, 50]], "labels": ["cat"]})] * 2
    with pytest.raises(ModelError, match=r"128 x 128 pixels were tried.* image_size=224"):
        DetectionRepurposer(OfOneSize(), verbose=False).repurpose(data)

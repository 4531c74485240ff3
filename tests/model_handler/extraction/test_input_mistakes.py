"""Where a layer fails, what about the inputs is to blame is said with the fix."""

import numpy as np
import pytest
import torch
from torch import nn

from model_handler import ModelError, ModelHandler
from tests.model_handler.networks import handle, images


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(9, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.embed(x).mean(1))


class Undecided(nn.Module):
    """No layer, and no graph: what fails is its own forward."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 2))

    def forward(self, x):
        return x @ self.weight if x.sum() > 0 else x @ -self.weight


def convolutional():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize("dtype", ["bool", "int64", "int16", "uint8", "uint16"])
@pytest.mark.parametrize(
    ("network", "shape", "layer"), [(nn.Sequential(nn.Linear(3, 2)), (5, 3), "0"), (convolutional(), (2, 3, 8, 8), "3")]
)
def test_numbers_that_are_not_floating_name_the_conversion(network, shape, layer, dtype):
    ones = np.ones(shape, dtype)
    with pytest.raises(ModelError, match=rf"layer '0'.*The inputs are {dtype}.*X\.astype\('float32'\)"):
        handle(network).extract(ones, [layer])


def test_an_embedding_takes_whole_numbers_and_says_so():
    ids = np.arange(6).reshape(2, 3)
    assert handle(Tokens()).extract(ids, ["head"]).shape == (2, 2)
    assert handle(Tokens()).extract(ids.astype("int32"), ["head"]).shape == (2, 2)
    for dtype in ("float32", "uint8", "bool"):
        with pytest.raises(ModelError, match=rf"'embed'.*The inputs are {dtype}, and an embedding takes.*int64"):
            handle(Tokens()).extract(ids.astype(dtype), ["head"])


def test_a_network_without_layers_is_explained_too():
    with pytest.raises(ModelError, match=r"Undecided fails: .*The inputs are int64"):
        handle(Undecided(), torch.ones(2, 3).long())


def test_images_with_the_channels_last_name_the_transposition():
    wrong = images(height=9).permute(0, 2, 3, 1)
    with pytest.raises(ModelError, match=r"\(5, 9, 8, 3\) look like images with the channels last.*\(0, 3, 1, 2\)"):
        handle(convolutional()).extract(wrong, ["3"])
    with pytest.raises(ModelError, match="channels last"):
        handle(convolutional(), wrong)


@pytest.mark.parametrize("layer", ["0", "3"])
def test_one_image_without_a_batch_is_not_taken_for_several(layer):
    three = nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))  # fits by chance
    for network in (three, convolutional()):
        with pytest.raises(ModelError, match=r"batches of 4 axes.*\(3, 8, 8\): if this is one image.*image\[None\]"):
            handle(network).extract(images()[0], [layer])
    with pytest.raises(ModelError, match=r"the shape \(8, 8\): if this is one grey image, give image\[None, None\]"):
        handle(convolutional()).extract(images()[0, 0], [layer])


def test_the_convolution_is_found_behind_a_normalisation_by_hand():
    class Normalised(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3)

        def forward(self, x):
            return self.conv((x - 0.5) / 0.2)

    class Grey(Normalised):
        def forward(self, x):
            return self.conv(x.unsqueeze(1).expand(-1, 3, -1, -1))

    with pytest.raises(ModelError, match=r"image\[None\]"):
        handle(Normalised()).extract(images()[0], ["conv"])
    assert ModelHandler(Grey()).extract(images()[:, 0], ["conv"]).shape == (5, 3 * 6 * 6)


def test_other_failures_say_nothing_of_the_inputs():
    with pytest.raises(ModelError) as caught:
        handle(nn.Sequential(nn.Linear(4, 2))).extract(torch.ones(2, 3), ["0"])
    assert "The inputs" not in str(caught.value)

"""Feature maps of backbones of all kinds: the last ones of strides 8, 16 and 32, whatever their layout."""

import pytest
import torch
from torch import nn
from torchvision import models

from model_handler import ModelError, ModelHandler
from repurpose.detection.networks import FeatureMap, build_detector, find_feature_maps
from repurpose.detection.networks.feature_maps import _map_of_one
from tests.repurpose.detection.backbones import Deciding, Residual, plain_transformer


def found_in(network: nn.Module, size: int = 64, **options):
    handler = ModelHandler(network.eval(), device="cpu")
    return find_feature_maps(handler, torch.empty(1, 3, size, size, device="meta"), **options)


def swin() -> nn.Module:
    return models.SwinTransformer([4, 4], 8, [1, 1, 1, 1], [1, 1, 1, 1], [2, 2], num_classes=3)


@pytest.mark.parametrize(
    ("network", "size", "names", "channels"),
    [
        (models.resnet18, 64, ["layer2", "layer3", "layer4"], [128, 256, 512]),
        (models.mobilenet_v3_small, 64, ["features.3", "features.8", "features"], [24, 48, 576]),
        (models.squeezenet1_1, 64, ["features.7", "features"], [256, 512]),  # no stride of 32; not its classifier
        (models.shufflenet_v2_x0_5, 64, ["stage2", "stage3", "conv5"], [48, 96, 1024]),
        (models.alexnet, 127, ["features.4", "features.11", "features"], [192, 256, 256]),  # its pooling cuts edges off
        (swin, 64, ["features.3", "features.5", "permute"], [16, 32, 64]),
    ],
)
def test_the_last_maps_of_each_stride_are_found(network, size, names, channels):
    found = found_in(network(), size)
    assert (found.names, found.channels) == (names, channels)
    assert found.strides == [8, 16, 32][: len(names)]
    assert found.fixed_size is None


def test_maps_of_swin_have_their_channels_last_until_it_permutes_them():
    assert [found.layout for found in found_in(swin()).maps] == ["last", "last", "first"]


def test_a_layer_inside_the_block_that_goes_on_to_the_next_stride_is_not_taken():
    # of stride 8 the last layer to run is stage2.relu, behind its 1 x 1 convolution
    found = found_in(Residual())
    assert found.names == ["stage1", "stage2", "stage3"]


def test_maps_are_found_without_a_graph_too():
    handler = ModelHandler(Deciding().eval(), device="cpu")
    assert find_feature_maps(handler, torch.zeros(1, 3, 64, 64)).names == ["stage1", "stage2", "stage3"]
    assert "by hooks" in repr(handler)


def test_a_plain_transformer_gives_one_map_of_tokens_and_takes_one_size():
    found = found_in(plain_transformer())
    assert found.maps == (FeatureMap("norm", 16, 16, "tokens", n_prefix=3),)
    assert found.fixed_size == (64, 64)


def test_a_stride_that_is_no_power_of_two_is_exact():
    network = nn.Sequential(nn.Conv2d(3, 4, 7, stride=7), nn.Conv2d(4, 4, 3, padding=1))
    assert found_in(network, 224).maps == (FeatureMap("1", 7, 4),)


def test_the_trunk_gives_what_the_source_computes_at_these_layers():
    for network in (Residual().eval(), Deciding().eval()):
        images = torch.rand(2, 3, 64, 64)
        first = network.stage1(network.stem(images))
        second = network.stage2(first.clone())
        wanted = (first, second, network.stage3(second.clone()))
        handler = ModelHandler(network, images, device="cpu")
        detector = build_detector(handler, find_feature_maps(handler, images), 2, image_size=64, channels=64).eval()
        torch.testing.assert_close(detector.__dict__["network"](images), wanted)


def test_tokens_and_last_channels_become_maps():
    image = torch.arange(12.0).reshape(1, 1, 3, 4)  # height 3, width 4, one channel
    tokens = torch.cat([torch.full((1, 2, 1), -1.0), image.flatten(2).transpose(1, 2)], dim=1)
    assert torch.equal(FeatureMap("x", 8, 1, "tokens", n_prefix=2).channels_first(tokens, 24), image)
    assert torch.equal(FeatureMap("x", 8, 1, "last").channels_first(image.permute(0, 2, 3, 1), 24), image)


def test_a_backbone_without_a_map_is_refused_with_what_it_has():
    with pytest.raises(ModelError, match="gives no feature map, and a detector needs"):
        found_in(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), 2)
    with pytest.raises(ModelError, match=r"only maps of \[2\] pixels an element"):
        found_in(nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 1)))


def test_layers_can_be_named():
    found = found_in(Residual(), layers=["stage2", "stem"])
    assert (found.names, found.strides, found.channels) == (["stem", "stage2"], [4, 16], [4, 12])


@pytest.mark.parametrize(
    ("layers", "match"),
    [
        (["stage2", "stgae1"], "no layer 'stgae1'; nearest: stage1"),
        (["fc"], r"'fc' gives \(1, 5\)"),
        (["stem", "stem.0"], "'stem' 4, 'stem.0' 4"),
        ([], "at least one; got none"),
    ],
)
def test_wrong_layers_are_refused_by_name(layers, match):
    with pytest.raises(ModelError, match=match):
        found_in(Residual(), layers=layers)


def test_an_output_without_a_single_position_is_no_map() -> None:
    assert _map_of_one("layer", (1, 8, 0, 0), (32, 32)) is None
    assert _map_of_one("layer", (1, 0, 8), (32, 32)) is None


def test_strides_of_seven_and_fourteen_are_found_at_a_size_that_is_no_multiple_of_them():
    network = nn.Sequential(nn.Conv2d(3, 4, 7, stride=7), nn.ReLU(), nn.Conv2d(4, 6, 2, stride=2))
    found = find_feature_maps(ModelHandler(network), torch.zeros(1, 3, 128, 128))
    assert (found.strides, found.channels, found.fixed_size) == ([14], [6], None)

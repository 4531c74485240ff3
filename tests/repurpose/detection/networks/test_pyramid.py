"""Pyramids: the levels that torchvision's detectors read, of several maps and of one."""

import torch
from torch import nn

from repurpose.detection.networks import FeatureMap, FeatureMaps
from repurpose.detection.networks.pyramid import Backbone, pyramid_strides


class Maps(nn.Module):
    """Zeros of the shapes that maps of these strides have."""

    def __init__(self, *maps: FeatureMap) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, images):
        n, _, height, width = images.shape
        made = tuple(torch.ones(n, m.channels, height // m.stride, width // m.stride) for m in self.maps)
        return made if len(made) > 1 else made[0]


def levels_of(*maps: FeatureMap, with_pool: bool):
    found = FeatureMaps(maps)
    backbone = Backbone(Maps(*maps), found, with_pool=with_pool, channels=8)
    sizes = [tuple(level.shape) for level in backbone(torch.zeros(2, 3, 128, 256)).values()]
    assert backbone.level_names == list(backbone(torch.zeros(2, 3, 128, 256)))[: max(3, len(maps))]
    return sizes, pyramid_strides(found, with_pool=with_pool)


def test_levels_of_three_maps_go_on_by_two_convolutions_or_a_pooling():
    maps = [FeatureMap("a", 8, 4), FeatureMap("b", 16, 6), FeatureMap("c", 32, 8)]
    sizes, strides = levels_of(*maps, with_pool=False)
    assert strides == [8, 16, 32, 64, 128]
    assert sizes == [(2, 8, 128 // int(stride), 256 // int(stride)) for stride in strides]
    sizes, strides = levels_of(*maps, with_pool=True)
    assert strides == [8, 16, 32, 64]
    assert sizes == [(2, 8, 128 // int(stride), 256 // int(stride)) for stride in strides]


def test_a_single_map_becomes_levels_of_half_the_same_and_twice_its_stride():
    sizes, strides = levels_of(FeatureMap("norm", 16, 6), with_pool=True)
    assert strides == [8, 16, 32, 64]
    assert sizes == [(2, 8, 128 // int(stride), 256 // int(stride)) for stride in strides]
    assert pyramid_strides(FeatureMaps((FeatureMap("x", 7, 4),)), with_pool=True) == [3.5, 7, 14, 28]


def test_the_trunk_is_no_child_of_the_backbone():
    trunk = nn.Conv2d(3, 4, 8, 8)
    backbone = Backbone(trunk, FeatureMaps((FeatureMap("", 8, 4),)), with_pool=False, channels=8)
    assert not {id(p) for p in trunk.parameters()} & {id(p) for p in backbone.parameters()}


def test_the_levels_of_a_map_of_one_element_have_a_finite_gradient_in_bfloat16() -> None:
    """A strided convolution in bfloat16 on a CPU left the gradient of weights that read padding alone unwritten."""
    maps = FeatureMap("a", 16, 4), FeatureMap("b", 32, 8)
    backbone = Backbone(Maps(*maps), FeatureMaps(maps), with_pool=False, channels=64)
    images, gradients = torch.zeros(2, 3, 32, 32), {}
    for lower in (False, True):
        backbone.zero_grad()
        for _ in range(8):  # what memory holds that is freed
            torch.full((64 * 64 * 9,), torch.nan)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=lower):
            levels = backbone(images).values()
        sum(level.float().square().sum() for level in levels).backward()
        gradients[lower] = {name: weights.grad.clone() for name, weights in backbone.named_parameters()}
    for name, exact in gradients[False].items():
        torch.testing.assert_close(gradients[True][name], exact, rtol=0.1, atol=0.1 * float(exact.abs().max()))

"""Pyramids: maps of the same number of channels at several strides, made of a backbone's, and the backbone with one.

Of two or more maps it is a feature pyramid network (Lin et al., 2017, arXiv:1612.03144, torchvision's); of a single one
the simple pyramid of plain transformers (Li et al., 2022, arXiv:2203.16527).
"""

from collections import OrderedDict
from functools import partial
from math import ceil

import torch
from torch import Tensor, nn
from torchvision.models.convnext import LayerNorm2d
from torchvision.ops.feature_pyramid_network import (
    ExtraFPNBlock,
    FeaturePyramidNetwork,
    LastLevelMaxPool,
    LastLevelP6P7,
)

from repurpose.detection.networks.feature_maps import FeatureMap, FeatureMaps

__all__ = ["Backbone", "SimplePyramid", "divisor_of", "pyramid_strides"]


class SimplePyramid(nn.Module):
    """Makes of one map those of half, the same and twice its stride, and coarser ones by `extra`.

    Li et al. (2022), section 3: a transposed convolution, nothing and a pooling, each followed by a 1 x 1 and a 3 x 3
    convolution with layer normalisation of the channels.

    >>> import torch
    >>> from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
    >>> from repurpose.detection.networks.pyramid import SimplePyramid
    >>> maps = SimplePyramid(8, 16, LastLevelMaxPool())({"last": torch.rand(1, 8, 4, 4)})
    >>> [tuple(found.shape) for found in maps.values()]
    [(1, 16, 8, 8), (1, 16, 4, 4), (1, 16, 2, 2), (1, 16, 1, 1)]
    """

    def __init__(self, in_channels: int, out_channels: int, extra: ExtraFPNBlock) -> None:
        super().__init__()
        finer = nn.ConvTranspose2d(in_channels, in_channels // 2, 2, stride=2)
        self.levels = nn.ModuleList(
            [
                nn.Sequential(finer, *_smoothing(in_channels // 2, out_channels)),
                nn.Sequential(nn.Identity(), *_smoothing(in_channels, out_channels)),
                nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), *_smoothing(in_channels, out_channels)),
            ]
        )
        self.extra = extra

    def forward(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the levels by name, the finest first."""
        (name, only), *_ = maps.items()
        levels = [level(only) for level in self.levels]
        names = _names_of_levels(name)
        levels, names = self.extra(levels, [only], names)
        return OrderedDict(zip(names, levels))


def _names_of_levels(name: str) -> list[str]:
    """Return the names of the levels that a simple pyramid makes of the map of this name, the finest first."""
    return [f"{name}, stride x {factor}" for factor in ("0.5", "1", "2")]


def _smoothing(in_channels: int, out_channels: int) -> list[nn.Module]:
    norm = partial(LayerNorm2d, eps=1e-6)
    return [
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        norm(out_channels),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        norm(out_channels),
    ]


class _TwoMoreLevels(LastLevelP6P7):
    """Two levels by convolutions, as torchvision's, and in float32 under autocast.

    On CPUs the gradient of a strided convolution in bfloat16 is not written where it reads nothing but padding, as it
    does in a map of one element, and holds whatever was in memory.
    """

    def forward(self, p: list[Tensor], c: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        last = p[-1]
        if not torch.is_autocast_enabled(last.device.type):
            return super().forward(p, c, names)
        with torch.autocast(last.device.type, enabled=False):
            (_, *more), names = super().forward([last.float()], c, names)
        return [*p, *more], names


class Backbone(nn.Module):
    """From images to the levels of a pyramid, as torchvision's detectors ask for it.

    The trunk is called, and no child: its layers are children of the whole detector, under the names of the source.

    Parameters
    ----------
    trunk : nn.Module
        Gives the maps of `found` as one tensor or a tuple of them.
    found : FeatureMaps
    with_pool : bool
        Whether there is one level more, a pooled one (as Faster R-CNN has it), and not two by convolutions.
    channels : int
        Of each level.
    """

    def __init__(self, trunk: nn.Module, found: FeatureMaps, *, with_pool: bool, channels: int) -> None:
        super().__init__()
        self.__dict__["trunk"] = trunk
        self.maps: tuple[FeatureMap, ...] = found.maps
        self.out_channels = channels
        extra = LastLevelMaxPool() if with_pool else _TwoMoreLevels(channels, channels)
        if len(found.maps) > 1:
            self.pyramid: nn.Module = FeaturePyramidNetwork(found.channels, channels, extra)
        else:
            self.pyramid = SimplePyramid(found.channels[0], channels, extra)

    @property
    def level_names(self) -> list[str]:
        """The names of the levels but the extra ones, the finest first."""
        names = [found.name for found in self.maps]
        return names if len(names) > 1 else _names_of_levels(names[0])

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the levels of images (n, 3, height, width), the finest first."""
        given = self.__dict__["trunk"](images)
        outputs = given if isinstance(given, tuple) else (given,)
        height = images.shape[-2]
        maps = [found.channels_first(output, height) for found, output in zip(self.maps, outputs, strict=True)]
        return self.pyramid(OrderedDict((found.name, made) for found, made in zip(self.maps, maps)))


def pyramid_strides(found: FeatureMaps, *, with_pool: bool) -> list[float]:
    """Return the strides of the levels that a `Backbone` gives, in pixels.

    >>> from repurpose.detection.networks import FeatureMap, FeatureMaps
    >>> from repurpose.detection.networks.pyramid import pyramid_strides
    >>> pyramid_strides(FeatureMaps((FeatureMap("blocks.11", 16, 192),)), with_pool=False)
    [8.0, 16.0, 32.0, 64.0, 128.0]
    """
    strides = [float(stride) for stride in found.strides]
    if len(strides) == 1:
        strides = [factor * strides[0] for factor in (0.5, 1, 2)]
    more = 1 if with_pool else 2
    return [*strides, *(strides[-1] * 2 ** (number + 1) for number in range(more))]


def divisor_of(found: FeatureMaps) -> int:
    """Return of what heights and widths are multiples: the stride of the last level but the extra ones.

    >>> from repurpose.detection.networks import FeatureMap, FeatureMaps
    >>> from repurpose.detection.networks.pyramid import divisor_of
    >>> divisor_of(FeatureMaps((FeatureMap("layer3", 16, 256), FeatureMap("layer4", 32, 512))))
    32
    """
    return ceil(pyramid_strides(found, with_pool=True)[-2])

"""Detectors: torchvision's FCOS, RetinaNet and Faster R-CNN on the feature maps of any backbone.

Tian et al. (2019), arXiv:1904.01355; Lin et al. (2017), arXiv:1708.02002; Ren et al. (2015), arXiv:1506.01497. Codes of
classes are 0 to n_classes - 1 in all of them, scores at least 0.05 and detections of an image at most 100.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops.poolers import LevelMapper, MultiScaleRoIAlign

from model_handler import ModelHandler
from repurpose.detection.networks.anchors import anchors_for, places, warn_of_thin_boxes
from repurpose.detection.networks.detection_network import DetectionNetwork
from repurpose.detection.networks.feature_maps import FeatureMaps
from repurpose.detection.networks.image_means import ImageMeanFCOSHead, ImageMeanProposals, ImageMeanRoIHeads
from repurpose.detection.networks.images import ImageBatches
from repurpose.detection.networks.normalization import normalization_of
from repurpose.detection.networks.pyramid import Backbone, divisor_of, pyramid_strides
from repurpose.parameters import is_whole

__all__ = [
    "DETECTORS",
    "LEAST_CHANNELS",
    "LEAST_SCORE",
    "MOST_CHANNELS",
    "build_detector",
    "channel_mistakes",
    "chosen_channels",
]

LEAST_SCORE = 0.05
_MOST_DETECTIONS = 100
_GROUPS = 32  # that normalisation in a head has
LEAST_CHANNELS, MOST_CHANNELS = 64, 1024  # that can be asked for, also by a file
_MOST_CHOSEN = 256
_SCALES = 3  # anchors of one aspect ratio at a place of RetinaNet
_POOLED = 7  # the side of what Faster R-CNN makes of a box, in elements
_HIDDEN = 4  # how many times as many numbers stand for a box there as the pyramid has channels


@dataclass(frozen=True, eq=False)
class _Parts:
    """What a detector is put together from; `boxes` (n, 2) are sizes of boxes to be learned, in pixels, if known."""

    backbone: Backbone
    strides: list[float]
    n_classes: int
    boxes: np.ndarray | None


def build_detector(
    handler: ModelHandler,
    feature_maps: FeatureMaps,
    n_classes: int,
    kind: str = "fcos",
    *,
    image_size: int,
    boxes: np.ndarray | None = None,
    channels: int = 256,
) -> DetectionNetwork:
    """Build a detector on the maps of a backbone, with weights of its own; all that is behind the last map is left out.

    Its layers have the names of the source, and "detector" is what is new.

    Parameters
    ----------
    handler : ModelHandler
        Of the backbone; by its `transform` images are normalised. With example inputs where it cannot be traced.
    feature_maps : FeatureMaps
        Found by `find_feature_maps`.
    n_classes : int
    kind : "fcos", "retinanet" or "faster_rcnn"
    image_size : int
        The largest short side of an image in pixels: larger ones are made smaller, smaller ones stay. It does not count
        where the backbone takes one size.
    boxes : array of shape (n, 2), optional
        Width and height of boxes as the network sees them: of them RetinaNet and Faster R-CNN have their anchors, and
        FCOS warns of those that may lie between its places.
    channels : int, default=256
        Of each level of the pyramid, and of the heads on it: a multiple of 32, from 64 to 1024. (FCOS normalises in 32
        groups, and one number alone is no group.)

    Raises
    ------
    ValueError
        For a kind or a number of channels that cannot be, and where no mean and deviation say what the transform
        does to colours.
    ModelError
        If the backbone cannot be ended at the maps.

    Examples
    --------
    >>> import torch
    >>> from torchvision.models import resnet18
    >>> from model_handler import ModelHandler
    >>> from repurpose.detection.networks import build_detector, find_feature_maps
    >>> handler = ModelHandler(resnet18())
    >>> found = find_feature_maps(handler, torch.empty(1, 3, 64, 64, device="meta"))
    >>> detector = build_detector(handler, found, 2, image_size=64, channels=64).train()
    >>> target = {"boxes": torch.tensor([[9.0, 9, 30, 40]]), "labels": torch.tensor([1])}
    >>> sorted(detector([torch.rand(3, 50, 60)], [target]))
    ['bbox_ctrness', 'bbox_regression', 'classification']
    >>> sorted(detector.eval()([torch.rand(3, 50, 60)])[0])
    ['boxes', 'labels', 'scores']
    """
    if kind not in DETECTORS:
        raise ValueError(f"detector must be one of {list(DETECTORS)}, got {kind!r}")
    if mistakes := channel_mistakes(channels):
        raise ValueError(mistakes[0])
    normalization = normalization_of(handler.transform)
    names = feature_maps.names
    n_edits = len(handler.edits)
    try:
        trunk = handler.truncate(names if len(names) > 1 else names[0]).get_module()
    finally:
        if len(handler.edits) > n_edits:
            handler.undo()
    with_pool = kind == "faster_rcnn"
    strides = pyramid_strides(feature_maps, with_pool=with_pool)
    backbone = Backbone(trunk, feature_maps, with_pool=with_pool, channels=channels)
    detector = DETECTORS[kind](_Parts(backbone, strides, n_classes, boxes))
    divisor, fixed_size = divisor_of(feature_maps), feature_maps.fixed_size
    detector.transform = ImageBatches(normalization, image_size, divisor, fixed_size)
    return DetectionNetwork(trunk, detector, first_code=1 if kind == "faster_rcnn" else 0)


def channel_mistakes(channels: object) -> list[str]:
    """Say what is wrong with a number of channels, or "auto"."""
    if isinstance(channels, str) and channels == "auto":
        return []
    if (
        isinstance(channels, int)
        and is_whole(channels, LEAST_CHANNELS)
        and channels <= MOST_CHANNELS
        and channels % _GROUPS == 0
    ):
        return []
    return [
        f'channels must be "auto" or a multiple of {_GROUPS} from {LEAST_CHANNELS} to {MOST_CHANNELS}, got {channels!r}'
    ]


def detector_mistakes(detector: object, layers: object) -> list[str]:
    """Say what is wrong with the kind of a detector and the names of layers, or "auto"."""
    mistakes = []
    if not isinstance(detector, str) or detector not in DETECTORS:
        mistakes.append(f"detector must be one of {list(DETECTORS)}, got {detector!r}")
    names = [layers] if isinstance(layers, str) else layers
    is_list = isinstance(names, Sequence) and all(isinstance(name, str) for name in names)
    if not is_list or (isinstance(layers, str) and layers != "auto"):
        mistakes.append(f'layers must be "auto" or a list of names, got {layers!r}')
    return mistakes


def chosen_channels(channels: int | str, found: FeatureMaps) -> int:
    """Return how many channels a pyramid has; for "auto" half of what the middle map has, from 64 to 256.

    So it has the 256 of Lin et al. (2017) on ResNet-50 and of Li et al. (2022) on ViT-B, and on EfficientNet-B0 the 64
    of EfficientDet-D0 (Tan et al., 2020, arXiv:1911.09070): beside a small backbone a wide head would be most of the
    network.

    >>> from repurpose.detection.networks import FeatureMap, FeatureMaps
    >>> from repurpose.detection.networks.detectors import chosen_channels
    >>> chosen_channels("auto", FeatureMaps((FeatureMap("layer2", 8, 128), FeatureMap("layer3", 16, 256))))
    96
    """
    if not isinstance(channels, str):
        return int(channels)
    half = float(np.median(found.channels)) / 2
    return int(np.clip(half // _GROUPS * _GROUPS, LEAST_CHANNELS, _MOST_CHOSEN))


def _fcos(parts: _Parts) -> nn.Module:
    if parts.boxes is not None:
        warn_of_thin_boxes(parts.boxes, parts.strides)
    return FCOS(
        parts.backbone,
        parts.n_classes,
        anchor_generator=places(parts.strides),
        head=ImageMeanFCOSHead(parts.backbone.out_channels, 1, parts.n_classes),
        score_thresh=LEAST_SCORE,
        detections_per_img=_MOST_DETECTIONS,
    )


def _retinanet(parts: _Parts) -> nn.Module:
    """Put the stages together, with the normalised head of torchvision's second version.

    The convolutions of the first one begin with a deviation of .01, which is made for 256 channels: each of the four
    makes what goes through it smaller, 0.17 times as large with 64, and nothing is left of it.
    """
    anchors = anchors_for(parts.boxes, parts.strides, _SCALES)
    n_anchors = anchors.num_anchors_per_location()[0]
    norm = partial(nn.GroupNorm, _GROUPS)
    return RetinaNet(
        parts.backbone,
        parts.n_classes,
        anchor_generator=anchors,
        head=RetinaNetHead(parts.backbone.out_channels, n_anchors, parts.n_classes, norm_layer=norm),
        score_thresh=LEAST_SCORE,
        detections_per_img=_MOST_DETECTIONS,
    )


def _faster_rcnn(parts: _Parts) -> nn.Module:
    """Put the two stages together with the settings that torchvision's FasterRCNN has by default."""
    anchors = anchors_for(parts.boxes, parts.strides, 1)
    channels = parts.backbone.out_channels
    proposals = ImageMeanProposals(
        anchors,
        RPNHead(channels, anchors.num_anchors_per_location()[0]),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_top_n={"training": 2000, "testing": 1000},
        post_nms_top_n={"training": 2000, "testing": 1000},
        nms_thresh=0.7,
    )
    heads = ImageMeanRoIHeads(
        _pooling(parts),
        TwoMLPHead(channels * _POOLED**2, _HIDDEN * channels),
        FastRCNNPredictor(_HIDDEN * channels, parts.n_classes + 1),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=512,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        score_thresh=LEAST_SCORE,
        nms_thresh=0.5,
        detections_per_img=_MOST_DETECTIONS,
    )
    return GeneralizedRCNN(parts.backbone, proposals, heads, nn.Identity())


def _pooling(parts: _Parts) -> MultiScaleRoIAlign:
    """Make what cuts boxes out of the levels but the pooled one; a box of 224 pixels is of the level of stride 16.

    The scales are set, and not left to torchvision: it rounds them to powers of two, and reads them off images before
    these are padded.
    """
    names = parts.backbone.level_names
    strides = parts.strides[: len(names)]
    pooling = MultiScaleRoIAlign(names, output_size=_POOLED, sampling_ratio=2)
    pooling.scales = [1 / stride for stride in strides]
    first = round(np.log2(strides[0]))
    pooling.map_levels = LevelMapper(first, first + len(strides) - 1)
    return pooling


DETECTORS: Mapping[str, Callable[[_Parts], nn.Module]] = {
    "fcos": _fcos,
    "retinanet": _retinanet,
    "faster_rcnn": _faster_rcnn,
}

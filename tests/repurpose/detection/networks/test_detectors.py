"""Detectors put together: settings, anchors, refusals, and a handler that stays as it was."""

import numpy as np
import pytest
import torch
from torchvision.transforms import Compose, Normalize, ToTensor

from model_handler import ModelHandler, Source
from repurpose.detection.networks import FeatureMap, FeatureMaps, build_detector, find_feature_maps
from repurpose.detection.networks.detectors import chosen_channels
from tests.repurpose.detection.backbones import Residual, detector_on, plain_transformer

IMAGES = torch.zeros(1, 3, 64, 64)


def test_scores_from_five_in_a_hundred_and_at_most_a_hundred_detections():
    for kind in ("fcos", "retinanet"):
        inner = detector_on(Residual(), kind).detector
        assert (inner.score_thresh, inner.detections_per_img) == (0.05, 100)
    heads = detector_on(Residual(), "faster_rcnn").detector.roi_heads
    assert (heads.score_thresh, heads.detections_per_img) == (0.05, 100)


def test_a_detector_normalises_as_its_source_does():
    source = Source(Residual(), Compose([ToTensor(), Normalize([0.1, 0.2, 0.3], [0.5, 0.4, 0.25])]))
    transform = detector_on(source).detector.transform
    assert transform.image_mean == pytest.approx([0.1, 0.2, 0.3])
    assert transform.image_std == pytest.approx([0.5, 0.4, 0.25])


def test_anchors_are_those_of_the_boxes_and_places_warn():
    boxes = np.full((20, 2), 40.0)
    assert detector_on(Residual(), "retinanet", boxes=boxes).detector.anchor_generator.sizes[0][0] == 40
    assert detector_on(Residual(), "faster_rcnn", boxes=boxes).detector.rpn.anchor_generator.sizes[0] == (40,)
    with pytest.warns(UserWarning, match="20 of 20 boxes are narrower"):
        detector_on(Residual(), boxes=boxes / 10)


@pytest.mark.parametrize("kind", ["fcos", "retinanet"])
@pytest.mark.parametrize("channels", [64, 256])
def test_signals_keep_their_size_on_the_way_to_the_answers(kind, channels):
    """Half of a standard normal variable deviates by sqrt(1/2 - 1/(2 pi)) = 0.58."""
    head = detector_on(Residual(), kind, channels=channels).detector.head
    for branch in (head.classification_head, head.regression_head):
        assert branch.conv(torch.randn(1, channels, 8, 8)).std().item() == pytest.approx(0.58, abs=0.06)


@pytest.mark.parametrize(
    ("of_maps", "expected"),
    [((512, 1024, 2048), 256), ((40, 112, 1280), 64), ((192, 384, 768), 192), ((768,), 256), ((112, 320), 96)],
    ids=["ResNet-50", "EfficientNet-Lite0", "Swin-T", "ViT-B", "two maps"],
)
def test_a_pyramid_is_as_wide_as_its_backbone_calls_for(of_maps, expected):
    found = FeatureMaps(tuple(FeatureMap(str(n), 8 * 2**n, channels) for n, channels in enumerate(of_maps)))
    assert chosen_channels("auto", found) == expected
    assert chosen_channels(128, found) == 128


def test_boxes_are_cut_out_at_the_strides_of_the_levels():
    pooling = detector_on(plain_transformer(), "faster_rcnn").detector.roi_heads.box_roi_pool
    assert pooling.scales == [1 / 8, 1 / 16, 1 / 32]
    boxes = [torch.tensor([[0.0, 0, side, side]]) for side in (20, 111, 113, 225, 900)]
    assert [pooling.map_levels([box]).item() for box in boxes] == [0, 0, 0, 1, 2]  # 224 pixels: stride 16


def test_a_backbone_of_one_size_gets_images_of_that_size():
    detector = detector_on(plain_transformer(), image_size=640).eval()
    batch, _ = detector.detector.transform([torch.rand(3, 200, 100), torch.rand(3, 30, 40)])
    assert batch.tensors.shape[-2:] == (64, 64)
    assert len(detector([torch.rand(3, 200, 100), torch.rand(3, 30, 40)])) == 2


def test_the_handler_stays_as_it_was():
    handler = ModelHandler(Residual(), IMAGES, device="cpu").freeze("stem")
    names, edits = handler.layer_names, handler.edits
    build_detector(handler, find_feature_maps(handler, IMAGES), 2, image_size=64, channels=64)
    assert (handler.layer_names, handler.edits) == (names, edits)


def test_an_unknown_kind_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"one of \['fcos', 'retinanet', 'faster_rcnn'\], got 'yolo'"):
        detector_on(Residual(), "yolo")
    for channels in (32, 100):
        with pytest.raises(ValueError, match=f"multiple of 32 from 64 to 1024, got {channels}"):
            detector_on(Residual(), channels=channels)

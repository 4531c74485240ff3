"""Preprocessing is parted in two: what resizes and crops an image, and what scales its pixels, which is arithmetic.

The second part is found by measuring, whatever code it is: each channel is scaled by itself, the same for all pixels,
or it is not taken for such. It goes into a file of ONNX; the first stays outside, since no other library resizes as
Pillow does.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model_handler.data.decoding import open_image

__all__ = ["PixelScaling", "PreparedPixels", "in_words", "parted"]

Step = dict[str, Any]

_TOLERANCE = 2e-6  # of float32, in steps of the scaled values
_SETTINGS = (
    "size",
    "max_size",
    "interpolation",
    "antialias",
    "padding",
    "padding_mode",
    "fill",
    "to_enlarge",
    "to_shrink",
)
_SIDES = ((23, 29), (70, 91))  # of test images, unlike the sizes that networks take


@dataclass(frozen=True, eq=False)
class PreparedPixels:
    """What comes before the scaling: from an image to pixels, uint8 of shape (height, width, channels).

    `steps` describe it for who does the same elsewhere.
    """

    prepare: Callable[[Any], Any]
    steps: Sequence[Step]

    def __call__(self, image: object) -> np.ndarray:
        """Prepare an image, any that `open_image` takes. Raises ValueError where that gives no bytes."""
        return _pixels(self.prepare(open_image(image)))


@dataclass(frozen=True, eq=False)
class PixelScaling:
    """Scales pixels channel by channel, ``pixel * factor + offset``; both are float64 of shape (channels,)."""

    factors: np.ndarray
    offsets: np.ndarray

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Scale pixels of shape (..., channels)."""
        return pixels.astype(np.float64) * self.factors + self.offsets


def parted(transform: Callable[[Any], Any] | None) -> tuple[PreparedPixels, PixelScaling] | None:
    """Part the preprocessing of images in two; None where it cannot be told where the scaling begins.

    The parts together are compared with the whole on an image. Torch's generator is left as it was.
    """
    if transform is None:
        return None
    with torch.random.fork_rng(devices=[]):
        for prepared, scale in _candidates(transform):
            try:
                scaling = _measured(prepared, scale)
                if scaling is not None and _agree(transform, prepared, scaling):
                    return prepared, scaling
            except Exception:  # it may be for something else than images
                continue
    return None


def _candidates(transform: Callable[[Any], Any]) -> Iterator[tuple[PreparedPixels, Callable[[Any], Any]]]:
    """Yield ways to part a transform: what prepares images, and what scales the result."""
    settings = getattr(transform, "settings", None)
    processor = getattr(transform, "_processor", None)
    if isinstance(settings, dict) and callable(processor):
        yield _of_processor(processor, settings)
    if all(hasattr(transform, name) for name in ("resize_size", "crop_size", "mean", "std", "interpolation")):
        yield _of_preset(transform)
    steps = _flat(transform)
    for n_steps in range(len(steps), -1, -1):
        before, after = steps[:n_steps], steps[n_steps:]
        yield PreparedPixels(_Chain(before), [_described(step) for step in before]), _Chain(after)


class _Chain:
    """Calls one step after the other."""

    def __init__(self, steps: Sequence[Callable[[Any], Any]]) -> None:
        self.steps = steps

    def __call__(self, value: Any) -> Any:
        for step in self.steps:
            value = step(value)
        return value


def _flat(transform: Any) -> list[Callable[[Any], Any]]:
    """List the steps of a composed transform, those inside composed ones too."""
    steps = getattr(transform, "transforms", transform if isinstance(transform, nn.Sequential) else None)
    if type(transform).__name__ not in ("Compose", "Sequential") or steps is None:
        return [transform]
    return [step for part in steps for step in _flat(part)]


def _of_preset(preset: Any) -> tuple[PreparedPixels, Callable[[Any], Any]]:
    """Part what torchvision has for the weights of its classifiers."""
    from torchvision.transforms import functional

    def prepare(image: Any) -> Any:
        resized = functional.resize(
            image, preset.resize_size, interpolation=preset.interpolation, antialias=preset.antialias
        )
        return functional.center_crop(resized, preset.crop_size)

    def scale(image: Any) -> Tensor:
        tensor = functional.convert_image_dtype(functional.pil_to_tensor(image), torch.float)
        return functional.normalize(tensor, mean=preset.mean, std=preset.std)

    resize = {"step": "Resize", "size": preset.resize_size, "interpolation": preset.interpolation.value}
    return PreparedPixels(prepare, [resize, {"step": "CenterCrop", "size": preset.crop_size}]), scale


def _of_processor(processor: Any, settings: Step) -> tuple[PreparedPixels, Callable[[Any], Any]]:
    """Part a processor of transformers, which can be told to scale nothing."""

    def prepare(image: Any) -> Tensor:
        made = processor(images=image, return_tensors="pt", do_rescale=False, do_normalize=False)["pixel_values"][0]
        pixels = made.round().to(torch.uint8)
        if not torch.equal(pixels.to(made.dtype), made):
            raise ValueError("the processor gives pixels between whole numbers")
        return pixels

    def scale(pixels: Any) -> Tensor:
        options = {name: False for name in ("do_resize", "do_center_crop", "do_pad") if name in settings}
        return processor(images=pixels, return_tensors="pt", **options)["pixel_values"][0]

    kept = {
        name: value
        for name, value in settings.items()
        if name in ("do_resize", "size", "do_center_crop", "crop_size", "crop_pct", "do_pad", "pad_size", "resample")
    }
    return PreparedPixels(prepare, [{"step": "ImageProcessor", **{k: _plain(v) for k, v in kept.items()}}]), scale


def _described(step: Any) -> Step:
    found: Step = {"step": type(step).__name__.lstrip("_")}
    for name in _SETTINGS:
        if getattr(step, name, None) is not None:
            found[name] = _plain(getattr(step, name))
    return found if len(found) > 1 else {**found, "as": in_words(step)}


def in_words(step: object) -> str:
    """Return what a step says of itself, on one line, and the same in every process: without its place in memory."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", " ".join(repr(step).split()))


def _plain(value: Any) -> Any:
    """Return a setting as JSON has it."""
    if isinstance(value, (bool, int, float, str, type(None))) and type(value).__module__ == "builtins":
        return value
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    found = getattr(value, "value", None)
    return found if isinstance(found, (int, float, str)) else str(value)


def _measured(prepared: PreparedPixels, scale: Callable[[Any], Any]) -> PixelScaling | None:
    """Measure how the second part scales pixels; None where it does anything else."""
    first = prepared.prepare(_noise(_SIDES[1]))
    height, width, n_channels = _pixels(first).shape
    made = [
        _scaled(scale, _like(first, np.full((height, width, n_channels), value, dtype=np.uint8))) for value in (0, 255)
    ]
    low, high = (part.reshape(-1, n_channels)[0] for part in made)
    scaling = PixelScaling((high - low) / 255, low)
    for sides in _SIDES:  # it must not resize, whatever the size
        pixels = np.array(_noise(sides))[..., :n_channels]
        if not _is_close(_scaled(scale, _like(first, pixels)), scaling.apply(pixels)):
            return None
    return scaling


def _agree(transform: Callable[[Any], Any], prepared: PreparedPixels, scaling: PixelScaling) -> bool:
    image = _noise((97, 61))
    return all(_is_close(_last(transform(image)), scaling.apply(prepared(image))) for _ in range(2))


def _is_close(made: np.ndarray, wanted: np.ndarray) -> bool:
    size = max(1.0, float(np.abs(wanted).max()))
    return made.shape == wanted.shape and float(np.abs(made - wanted).max()) <= _TOLERANCE * size


def _scaled(scale: Callable[[Any], Any], image: Any) -> np.ndarray:
    return _last(scale(image))


def _last(made: Any) -> np.ndarray:
    """Return a floating tensor (channels, height, width) with its channels last, float64."""
    if not isinstance(made, Tensor) or not made.is_floating_point() or made.ndim != 3:
        raise ValueError("the transform gives no floating tensor of shape (channels, height, width)")
    return made.detach().double().permute(1, 2, 0).numpy()


def _pixels(prepared: Any) -> np.ndarray:
    """Return what was prepared, a PIL image or a tensor (channels, height, width), as pixels, channels last."""
    if isinstance(prepared, Tensor):
        array = prepared.permute(1, 2, 0).numpy()
    else:
        array = np.array(prepared)
        array = array[..., None] if array.ndim == 2 else array
    if array.dtype != np.uint8 or array.ndim != 3:
        raise ValueError("what comes before the scaling gives no pixels of 8 bits")
    return array


def _like(prepared: Any, pixels: np.ndarray) -> Any:
    """Return pixels as a PIL image or a tensor, as what was prepared is."""
    if isinstance(prepared, Tensor):
        tensor = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
        return tensor.as_subclass(type(prepared))
    from PIL import Image

    return Image.fromarray(pixels if pixels.shape[-1] > 1 else pixels[..., 0])


def _noise(sides: tuple[int, int]) -> Any:
    """Return an image of noise, the same each time, with every value in each channel."""
    from PIL import Image

    pixels = np.random.RandomState(0).randint(0, 256, (*sides, 3)).astype(np.uint8)
    pixels.reshape(-1, 3)[:256] = np.arange(256, dtype=np.uint8)[:, None]
    return Image.fromarray(pixels)

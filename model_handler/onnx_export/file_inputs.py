"""Inputs of a file: their names, what they are, and how they become what the network gets.

Of images they are the pixels that every decoder gives, bytes with the channels last, where it can be told how the
preprocessing scales them; of text, tokens; of all else what the network gets.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model_handler.data.text.text_transform import IDS, MASK, reads_text
from model_handler.onnx_export.pixel_scaling import PixelScaling, PreparedPixels, in_words, parted

__all__ = ["FileInputs", "file_inputs"]

_TYPES = "token_type_ids"
_MOST_OF_TOKENIZER = 2**24  # bytes of text: those of all known ones are below
_COLOURS = {1: "grey", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True, eq=False)
class FileInputs:
    """What a file takes.

    Attributes
    ----------
    arrays : dict of str to ndarray
        The rows that were given, as the file takes them, by the names of its inputs.
    reading : nn.Module
        Makes of tensors like `arrays`, in their order, what the network gets: a tensor, a tuple or a dict.
    axes : dict of str to dict of int to str
        The axes of each input whose size may differ, with their names.
    facts : dict
        What must be known to call the file, as JSON has it.
    """

    arrays: Mapping[str, np.ndarray]
    reading: nn.Module
    axes: Mapping[str, Mapping[int, str]]
    facts: Mapping[str, Any]

    def examples(self, n_rows: int = 3) -> dict[str, Tensor]:
        """Return a few rows to trace with: the first ones, again and again where there are fewer."""
        return {
            name: torch.from_numpy(array[np.arange(n_rows) % len(array)].copy()) for name, array in self.arrays.items()
        }


def file_inputs(
    values: Any, transform: Callable[[Any], Any] | None, *, dtype: torch.dtype = torch.float32, scaled: bool = False
) -> FileInputs:
    """Decide what a file takes, by rows of it.

    Parameters
    ----------
    values : tensor, tuple or dict of tensors, or list of uint8 ndarray (height, width, 3)
        Rows as the network gets them; images as pixels before any preprocessing.
    transform : callable, optional
        The preprocessing of the network.
    dtype : torch.dtype
        Of floating numbers that the network takes.
    scaled : bool
        Whether the file takes images as the transform makes them, even where it could scale pixels itself.

    Raises
    ------
    ValueError
        Where images differ in size behind the preprocessing.
    """
    if isinstance(values, list):
        found = None if scaled else parted(transform)
        if found is not None:
            return _of_pixels(values, *found)
        made = [transform(_image(pixels)) for pixels in values]  # type: ignore[misc]
        _check_one_shape([tuple(part.shape) for part in made])
        facts = {"transform": in_words(transform)}
        return _of_tensors({"inputs": torch.stack(made)}, "tensor", dtype, facts)
    if isinstance(values, Mapping):
        facts = _of_tokenizer(transform) if reads_text(transform) else {}
        return _of_tensors(dict(values), "dict", dtype, facts)
    if isinstance(values, tuple):
        return _of_tensors({f"inputs_{number}": part for number, part in enumerate(values)}, "tuple", dtype, {})
    facts = {} if transform is None else {"transform": in_words(transform)}
    return _of_tensors({"inputs": values}, "tensor", dtype, facts)


def _of_pixels(images: Sequence[np.ndarray], prepared: PreparedPixels, scaling: PixelScaling) -> FileInputs:
    pixels = [prepared(image) for image in images]
    _check_one_shape([image.shape for image in pixels])
    height, width, n_channels = pixels[0].shape
    facts = {
        "images": {
            "dtype": "uint8",
            "shape": ["rows", height, width, n_channels],
            "layout": "rows, height, width, channels",
            "channels": _COLOURS.get(n_channels, str(n_channels)),
            "range": [0, 255],
            "decoded": "8 bits, RGB without alpha, turned upright as the orientation in EXIF says",
            "before": list(prepared.steps),
            "inside": {"factor": scaling.factors.tolist(), "offset": scaling.offsets.tolist()},
        }
    }
    return FileInputs({"images": np.stack(pixels)}, _ScaledPixels(scaling), {"images": {0: "rows"}}, facts)


def _of_tensors(parts: dict[str, Tensor], kind: str, dtype: torch.dtype, more: Mapping[str, Any]) -> FileInputs:
    mask = parts.get(MASK)
    n_filled = 0
    if mask is not None and _TYPES in parts and not parts[_TYPES].any():
        del parts[_TYPES]  # that of one text is 0 everywhere
        n_filled = 1
    axes: dict[str, dict[int, str]] = {}
    described: dict[str, Any] = {}
    for name, part in parts.items():
        axes[name] = {0: "rows"}
        if mask is not None and part.shape == mask.shape:
            axes[name][1] = "tokens"
        shape = [axes[name].get(axis, size) for axis, size in enumerate(part.shape)]
        part = part.to(dtype) if part.is_floating_point() else part
        parts[name] = part
        described[name] = {"dtype": str(part.dtype).removeprefix("torch."), "shape": shape}
    for name, fact in more.items():
        if name == "transform":
            described["inputs"]["before"] = f"made of an image, for one row, by {fact}"
        else:
            described[name] = fact
    reading = _Parts(kind, tuple(parts), fills_types=bool(n_filled))
    arrays = {name: part.detach().cpu().numpy() for name, part in parts.items()}
    return FileInputs(arrays, reading, axes, described)


def _of_tokenizer(transform: Any) -> dict[str, Any]:
    tokenizer = transform.tokenizer
    found: dict[str, Any] = {
        "class": type(tokenizer).__name__,
        "max_length": transform.max_length,
        "padding": "right",
        "pad_token_id": getattr(tokenizer, "pad_token_id", 0) or 0,
    }
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and len(text := backend.to_str()) <= _MOST_OF_TOKENIZER:
        found["tokenizer.json"] = text
    return {"tokenizer": found}


class _ScaledPixels(nn.Module):
    """Bytes (n_rows, height, width, channels) to what a network of images gets, (n_rows, channels, height, width)."""

    factors: Tensor
    offsets: Tensor

    def __init__(self, scaling: PixelScaling) -> None:
        super().__init__()
        self.register_buffer("factors", _by_channel(scaling.factors))
        self.register_buffer("offsets", _by_channel(scaling.offsets))

    def forward(self, images: Tensor) -> Tensor:
        return images.permute(0, 3, 1, 2).to(torch.float32) * self.factors + self.offsets


class _Parts(nn.Module):
    """Tensors as a network takes them: one, several by position, or by name."""

    def __init__(self, kind: str, names: tuple[str, ...], *, fills_types: bool) -> None:
        super().__init__()
        self.kind, self.names, self.fills_types = kind, names, fills_types

    def forward(self, *parts: Tensor) -> Any:
        if self.kind == "tensor":
            return parts[0]
        if self.kind == "tuple":
            return parts
        named = dict(zip(self.names, parts, strict=True))
        if self.fills_types:
            named[_TYPES] = torch.zeros_like(named[IDS])
        return named


def _by_channel(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).reshape(1, -1, 1, 1)


def _image(pixels: np.ndarray) -> Any:
    from PIL import Image

    return Image.fromarray(pixels)


def _check_one_shape(shapes: Sequence[tuple[int, ...]]) -> None:
    if len(found := sorted(set(shapes))) > 1:
        raise ValueError(
            f"a file takes images of one size, and behind the preprocessing they have the sizes {found[:4]}; put a "
            "resize to a fixed height and width into the transform, such as torchvision.transforms.Resize((224, 224))"
        )

"""Feature maps: the layers of a backbone whose outputs are the last ones at 8, 16 and 32 pixels an element.

They are found by shapes alone: those for a picture, and for a taller one. What grows with it is an axis of the map, and
by how much tells the stride exactly, whatever the network pads. Where a backbone takes one size only, the shapes for
that one decide.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isqrt
from typing import Literal

from torch import Tensor

from model_handler import ModelError, ModelHandler, UnknownLayerError
from model_handler.errors import nearest, with_fix

__all__ = ["FeatureMap", "FeatureMaps", "find_feature_maps"]

_STRIDES = (8, 16, 32)
_FINEST = 4  # of a single map; below it is an image more than a feature map
_OF_SEVENS = 224  # a multiple of strides such as 7 or 14, which 160 is not
_TALLER = 160  # 5 x 32, and no multiple of 64: a stride of 64 is not taken for one of 32
_LISTS = ("Sequential", "ModuleList", "ModuleDict")
_MOST_PREFIX_TOKENS = 16

Shape = tuple[int, ...]
Layout = Literal["first", "last", "tokens"]


@dataclass(frozen=True)
class FeatureMap:
    """What one layer gives for an image: a map, or tokens that are one.

    Attributes
    ----------
    name : str
        The layer, or a container whose last output it is.
    stride : int
        How many pixels of the image an element stands for, along each side.
    channels : int
    layout : "first", "last" or "tokens"
        Whether it is (n, channels, height, width), (n, height, width, channels) or (n, places, channels).
    n_prefix : int
        How many tokens, of the class and registers, come before those of places.
    """

    name: str
    stride: int
    channels: int
    layout: Layout = "first"
    n_prefix: int = 0

    def channels_first(self, output: Tensor, height: int) -> Tensor:
        """Return the layer's output for images of this height as (n, channels, height / stride, width / stride)."""
        if self.layout == "last":
            return output.permute(0, 3, 1, 2)
        if self.layout == "tokens":
            places = output[:, self.n_prefix :].transpose(1, 2)
            return places.unflatten(2, (height // self.stride, -1))
        return output


@dataclass(frozen=True)
class FeatureMaps:
    """The maps that a detector reads, the finest first.

    Attributes
    ----------
    maps : tuple of FeatureMap
        One where the backbone has no others: a detector then makes a pyramid of it alone.
    fixed_size : (int, int) or None
        The height and width in pixels of the only images that the backbone takes; None where it takes any.
    """

    maps: tuple[FeatureMap, ...]
    fixed_size: tuple[int, int] | None = None

    @property
    def names(self) -> list[str]:
        """The layers, the finest map first."""
        return [found.name for found in self.maps]

    @property
    def strides(self) -> list[int]:
        """Pixels to an element of each map."""
        return [found.stride for found in self.maps]

    @property
    def channels(self) -> list[int]:
        """How many channels each map has."""
        return [found.channels for found in self.maps]


def find_feature_maps(handler: ModelHandler, example: Tensor, layers: Sequence[str] | str = "auto") -> FeatureMaps:
    """Find the layers whose outputs are the last ones of strides 8, 16 and 32, as far as there are such.

    A layer inside a block that reads a map and gives a coarser one, or none, is not taken: what comes before the block
    is meant. Tokens count as a map. A backbone with fewer than two of these maps gives its last one of a stride from 4
    to 32: a plain transformer of patches, say.

    Parameters
    ----------
    handler : ModelHandler
    example : tensor of shape (n, channels, height, width)
        An image of a size that the network takes; its numbers do not count, so it may be on the device "meta".
    layers : "auto" or sequence of str
        Layers to take in their place, of different strides.

    Raises
    ------
    ModelError
        If there is no such map; if a layer named gives none, or two have one stride; if the network fails.

    Examples
    --------
    >>> import torch
    >>> from torchvision.models import resnet18
    >>> from model_handler import ModelHandler
    >>> from repurpose.detection.networks import find_feature_maps
    >>> found = find_feature_maps(ModelHandler(resnet18()), torch.empty(1, 3, 64, 64, device="meta"))
    >>> found.names, found.strides, found.channels
    (['layer2', 'layer3', 'layer4'], [8, 16, 32], [128, 256, 512])
    """
    size = (int(example.shape[-2]), int(example.shape[-1]))
    shapes = handler.output_shapes(example[:1])
    read: dict[str, FeatureMap | None] = {}
    fixed_size = None
    for more in (_TALLER, _OF_SEVENS, size[0]):
        try:
            taller = handler.output_shapes(example.new_zeros(1, example.shape[1], size[0] + more, size[1]))
        except ModelError:
            fixed_size = size
            read = {name: _map_of_one(name, shape, size) for name, shape in shapes.items()}
        else:
            read = {name: _map_of_two(name, shape, taller.get(name, ()), size, more) for name, shape in shapes.items()}
        if fixed_size or any(read.values()):
            break
    maps = {name: found for name, found in read.items() if found is not None}
    if isinstance(layers, str):
        return FeatureMaps(_last_of_strides(maps, list(shapes), handler), fixed_size)
    return FeatureMaps(_maps_named(list(layers), maps, shapes, handler), fixed_size)


def _map_of_two(name: str, shape: Shape, taller: Shape, size: tuple[int, int], by: int) -> FeatureMap | None:
    """Read a map out of the shapes for one image, and for one that is taller `by` some pixels."""
    grown = [axis for axis, (few, more) in enumerate(zip(shape, taller)) if more > few]
    if shape[:1] != (1,) or len(shape) != len(taller) or len(grown) != 1:
        return None
    (axis,) = grown
    more = taller[axis] - shape[axis]
    if len(shape) == 4 and axis in (1, 2) and by % more == 0:
        stride, is_first = by // more, axis == 2
        # along the other side too: what grows by as much may be a matrix of attention
        if 0.7 < shape[axis + 1] * stride / size[1] < 1.4:
            return FeatureMap(name, stride, shape[1 if is_first else 3], "first" if is_first else "last")
    if len(shape) == 3 and axis == 1:
        stride = isqrt(by * size[1] // more)
        return _tokens(name, shape, stride, size) if more * stride * stride == by * size[1] else None
    return None


def _map_of_one(name: str, shape: Shape, size: tuple[int, int]) -> FeatureMap | None:
    """Read a map out of the shape for the one size that the backbone takes."""
    if shape[:1] != (1,):
        return None
    if len(shape) == 4:
        first: tuple[Layout, int, int, int] = ("first", *shape[2:], shape[1])
        for layout, rows, columns, channels in (first, ("last", *shape[1:])):
            stride = size[0] // max(rows, 1)  # an axis may be empty
            if rows > 1 and (rows * stride, columns * stride) == size:
                return FeatureMap(name, stride, channels, layout)
    if len(shape) == 3:
        strides = (size[0] // rows for rows in range(isqrt(shape[1]), 1, -1) if size[0] % rows == 0)
        return next((found for stride in strides if (found := _tokens(name, shape, stride, size))), None)
    return None


def _tokens(name: str, shape: Shape, stride: int, size: tuple[int, int]) -> FeatureMap | None:
    n_prefix = shape[1] - (size[0] // stride) * (size[1] // stride)
    return FeatureMap(name, stride, shape[2], "tokens", n_prefix) if 0 <= n_prefix <= _MOST_PREFIX_TOKENS else None


def _last_of_strides(
    maps: Mapping[str, FeatureMap], names: Sequence[str], handler: ModelHandler
) -> tuple[FeatureMap, ...]:
    """Choose the last map of each stride among layers and containers, which are given in the order of completion."""
    inside = dict(_coarsening_containers(maps, names, handler))
    last: dict[int, FeatureMap] = {}
    for name, found in maps.items():
        if not any(inside.get(path) == found.stride for path in _containers_of(name)):
            last[found.stride] = found
    if len(chosen := tuple(last[stride] for stride in _STRIDES if stride in last)) > 1:
        return chosen
    single = chosen or tuple(found for found in last.values() if _FINEST <= found.stride <= _STRIDES[-1])[-1:]
    if not single:
        strides = f"only maps of {sorted(last)} pixels an element" if last else "no feature map"
        raise with_fix(
            ModelError,
            f"the backbone gives {strides}, and a detector needs at least one of {_FINEST} to {_STRIDES[-1]}: take "
            "another backbone, or name the layers",
            python='layers=["layer2", "layer3"]',
            shell="--layer layer2 --layer layer3",
            between=", ",
        )
    return single


def _coarsening_containers(
    maps: Mapping[str, FeatureMap], names: Sequence[str], handler: ModelHandler
) -> Iterator[tuple[str, int]]:
    """Yield the containers that read a map and give a coarser one, or none, each with the stride of what it reads.

    Plain lists are spared that give a coarser map: they may hold one stage after the other.
    """
    read: dict[str, float] = {}
    given: dict[str, float] = {}
    stride: float = 1
    for name in names:
        for path in _containers_of(name):
            read.setdefault(path, stride)
        found = maps.get(name)
        stride = found.stride if found else stride
        given[name] = found.stride if found else inf
        for path in _containers_of(name):
            if path not in names:  # a list of modules, say, which gives what the last of them gives
                given[path] = stride
    for path, before in read.items():
        if given[path] == inf or (given[path] > before and handler.get_layer_type(path) not in _LISTS):
            yield path, int(before)


def _containers_of(name: str) -> list[str]:
    steps = name.split(".")
    return [".".join(steps[:end]) for end in range(1, len(steps))]


def _maps_named(
    layers: list[str], maps: Mapping[str, FeatureMap], shapes: Mapping[str, Shape], handler: ModelHandler
) -> tuple[FeatureMap, ...]:
    """Return the maps of layers that a user named, the finest first."""
    if unknown := [name for name in layers if name not in handler]:
        near = nearest(unknown[0], list(shapes))
        raise UnknownLayerError(f"the backbone has no layer {unknown[0]!r}; nearest: {', '.join(near)}")
    if wrong := [f"{name!r} gives {shapes.get(name, 'several tensors')}" for name in layers if name not in maps]:
        raise ModelError(
            f"no feature map: {'; '.join(wrong)}. Layers of maps are, for example, {list(maps)[-1:] or 'none here'}"
        )
    found = sorted((maps[name] for name in layers), key=lambda each: each.stride)
    strides = [each.stride for each in found]
    if not found or len(set(strides)) < len(strides):
        told = ", ".join(f"{each.name!r} {each.stride}" for each in found)
        raise ModelError(f"layers must be of different strides, at least one; got {told or 'none'}")
    return tuple(found)

"""Normalisation: the mean and deviation by which a source's own preprocessing scales the channels of an image.

They are read off what it makes of plain pictures, so its class does not count, and resize and crop, which leave a plain
picture plain, drop out of themselves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Normalization", "normalization_of"]

_SIDE = 64
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Normalization:
    """A channel's value v, from 0 to 1, becomes (v - mean) / deviation; one number for each channel.

    >>> from repurpose.detection.networks.normalization import Normalization
    >>> Normalization()
    Normalization(mean=(0.0, 0.0, 0.0), deviation=(1.0, 1.0, 1.0))
    """

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    deviation: tuple[float, ...] = (1.0, 1.0, 1.0)


def normalization_of(transform: Callable[[Any], Any] | None) -> Normalization:
    """Return by what a preprocessing normalises; nothing is done where there is none.

    Parameters
    ----------
    transform : callable or None
        From a PIL image in RGB to a tensor (channels, height, width).

    Raises
    ------
    ValueError
        If it does something else to colours than to scale each channel by itself, or does not give three channels.

    Examples
    --------
    >>> from torchvision.transforms import Compose, Normalize, Resize, ToTensor
    >>> from repurpose.detection.networks.normalization import normalization_of
    >>> found = normalization_of(Compose([Resize(32), ToTensor(), Normalize([0.5] * 3, [0.25] * 3)]))
    >>> [round(value, 4) for value in (*found.mean, *found.deviation)]
    [0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
    """
    if transform is None:
        return Normalization()
    black, white = _seen(transform, (0, 0, 0)), _seen(transform, (255, 255, 255))
    scale = white - black
    if not bool((scale.abs() > _TOLERANCE).all()):
        raise ValueError(f"the transform of the source gives black and white the same value; {_FIX}")
    for colour in ((255, 0, 0), (0, 51, 102), (153, 204, 255)):
        wanted = black + scale * torch.tensor(colour, dtype=torch.float64) / 255
        if not torch.allclose(_seen(transform, colour), wanted, atol=_TOLERANCE, rtol=_TOLERANCE):
            raise ValueError(f"the transform of the source does more to colours than to scale each channel; {_FIX}")
    return Normalization(tuple((-black / scale).tolist()), tuple((1 / scale).tolist()))


_FIX = (
    "a detector normalises by a mean and a deviation of each channel, so give transform=Compose([ToTensor(), "
    "Normalize(mean, std)]), and what else there is to do in the network"
)


def _seen(transform: Callable[[Any], Any], colour: tuple[int, int, int]) -> Tensor:
    """Return what a plain picture becomes in its middle, for a crop may add a border: (3,) in float64."""
    from PIL import Image

    with torch.random.fork_rng(devices=[]):
        made = transform(Image.new("RGB", (_SIDE, _SIDE), colour))
    if not isinstance(made, Tensor) or made.ndim != 3 or made.shape[0] != 3:
        got = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
        raise ValueError(f"the transform of the source must give a tensor (3, height, width), got {got}; {_FIX}")
    return made[:, made.shape[1] // 2, made.shape[2] // 2].double()

"""Random transforms (augmentation) in data, which draw again each time a row is read, are found by their names."""

from collections import deque
from collections.abc import Mapping
from itertools import islice
from types import ModuleType
from typing import Any

import numpy as np
from torch import Tensor

__all__ = ["random_part"]

_RANDOM = ("Rand", "AutoAugment", "TrivialAugment", "AugMix", "ColorJitter", "ElasticTransform", "CutMix", "MixUp")
_RANDOM_TOO = ("GaussianNoise", "ScaleJitter")
_TRANSFORMS = ("torchvision.transforms.", "timm.data.")
_PLAIN = (str, bytes, int, float, Tensor, np.ndarray, type, ModuleType, type(None))
_DEEP, _MANY = 6, 2000  # how far into a dataset and its transforms to look, and at how many things


def random_part(value: object) -> str:
    """Find a random transform of torchvision or timm inside `value` and return its name; "" if there is none."""
    left, seen = deque([(value, 0)]), dict[int, Any]()  # what was seen is held, or another thing could have its id
    while left and len(seen) < _MANY:
        value_inside, depth = left.popleft()
        if isinstance(value_inside, _PLAIN) or id(value_inside) in seen:
            continue
        seen[id(value_inside)] = value_inside
        kind = type(value_inside)
        if kind.__name__.startswith(_RANDOM + _RANDOM_TOO) and kind.__module__.startswith(_TRANSFORMS):
            return kind.__name__
        if depth < _DEEP:
            left.extend((part, depth + 1) for part in _inside(value_inside))
    return ""


def _inside(value: object) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return list(value[:20])
    if isinstance(value, Mapping):
        return list(islice(value.values(), 20))
    return list(vars(value).values()) if hasattr(value, "__dict__") else []

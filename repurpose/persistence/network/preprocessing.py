"""Preprocessing as data: what a transform is made of, and with which sizes, means and modes, so that two can compare.

A transform is an object of the class of each step and of its settings by name, as far as JSON has a word for them;
nothing is made of it again, since a file names no code.
"""

import inspect
import math
from collections.abc import Callable, Iterator
from enum import Enum
from functools import partial

import numpy as np
from torch import Tensor, nn

from model_handler import TextTransform
from model_handler.files.canonical_json import JsonValue

__all__ = ["describe_transform", "transform_differences"]

_MOST_ITEMS = 64  # of a setting, such as a mean; what is larger is a table or weights
_MOST_LEVELS = 8
_SAMPLE = "The quick brown Fox: 12.5 naïve jumps, isn't it? 東京"


def describe_transform(transform: Callable | None) -> JsonValue:
    """Describe a transform: ``{"step": "Resize", "size": 256, "interpolation": "bicubic", ...}``, or None.

    What settings hold that is neither plain data nor a step, such as a lock, is left out.
    """
    return None if transform is None else _described(transform, 0)


def transform_differences(saved: JsonValue, now: JsonValue) -> list[str]:
    """Say which steps and settings differ: ``["transforms.0.size is [224], saved [256]"]``.

    A setting that only one of the two has does not count: versions of a library add and drop settings.
    """
    return list(_differences(saved, now, ""))


def _described(value: object, level: int) -> JsonValue:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        value = value.tolist() if math.prod(value.shape) <= _MOST_ITEMS else f"{tuple(value.shape)} numbers"
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if level > _MOST_LEVELS or (isinstance(value, (list, tuple, dict)) and len(value) > _MOST_ITEMS):
        return f"a {type(value).__qualname__}"
    if isinstance(value, (list, tuple)):
        return [_described(item, level + 1) for item in value]
    if isinstance(value, dict):
        return {str(name): _described(item, level + 1) for name, item in value.items()}
    if isinstance(value, TextTransform):
        return _of_text(value)
    settings = {name: _described(item, level + 1) for name, item in _settings(value).items()}
    return {"step": getattr(value, "__qualname__", type(value).__qualname__), **settings}


def _of_text(transform: TextTransform) -> JsonValue:
    """Describe a tokenizer by what it makes of a sample: its own settings differ from version to version."""
    tokens = {name: list(row) for name, row in transform.tokens([_SAMPLE])[0].items()}
    return {
        "step": "TextTransform",
        "max_length": transform.max_length,
        "vocabulary": getattr(transform.tokenizer, "vocab_size", None),
        "sample": _described(tokens, 0),
    }


def _settings(step: object) -> dict[str, object]:
    """Return what a step was told, by name."""
    if isinstance(step, partial):
        return {"function": step.func, "arguments": step.args, "options": step.keywords}
    if inspect.ismethod(step):
        return {"of": step.__self__}
    if inspect.isroutine(step) or isinstance(step, type):
        return {}
    settings = {name: value for name, value in getattr(step, "__dict__", {}).items() if not name.startswith("_")}
    if isinstance(step, nn.Module):
        settings.pop("training", None)
        settings |= dict(step.named_children())
    return settings


def _differences(saved: JsonValue, now: JsonValue, where: str) -> Iterator[str]:
    if isinstance(saved, dict) and isinstance(now, dict):
        if saved.get("step") != now.get("step"):
            yield f"{where or 'it'} is a {now.get('step')}, saved a {saved.get('step')}"
            return
        for name in saved:
            if name in now:
                yield from _differences(saved[name], now[name], f"{where}.{name}" if where else name)
    elif isinstance(saved, list) and isinstance(now, list) and len(saved) == len(now):
        for i, (item, other) in enumerate(zip(saved, now)):
            yield from _differences(item, other, f"{where}.{i}")
    elif saved != now:
        yield f"{where or 'it'} is {_short(now)}, saved {_short(saved)}"


def _short(value: JsonValue) -> str:
    if isinstance(value, dict):
        return f"a {value.get('step')}"
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return ", ".join(map(_short, value))
    return str(value)[:60]

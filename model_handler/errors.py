"""The exceptions of this package, their advice on the fix, and the nearest valid names that messages give.

Every error about a network is a `ModelError`, and each about a file's contents one of three; all are `ValueError`s.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TypeVar

__all__ = [
    "AmbiguousLayerError",
    "CorruptFileError",
    "FormatVersionError",
    "ModelError",
    "NoBlocksError",
    "UnknownLayerError",
    "UnsafeFileError",
    "UntraceableModelError",
    "first_few",
    "nearest",
    "text_for_shell",
    "with_fix",
]

_E = TypeVar("_E", bound=Exception)


class ModelError(ValueError):
    """Something asked of a network that it cannot do; nothing was changed.

    >>> from torch import nn
    >>> from model_handler import ModelHandler
    >>> ModelHandler(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))).drop_layer_top(2)
    Traceback (most recent call last):
        ...
    model_handler.errors.ModelError: n must be from 1 to 1, for the network has 2 layers; got 2
    """


class UnknownLayerError(ModelError):
    """A layer name that the network does not have.

    >>> from torchvision.models import squeezenet1_1
    >>> from model_handler import ModelHandler
    >>> ModelHandler(squeezenet1_1()).freeze("featurs")
    Traceback (most recent call last):
        ...
    model_handler.errors.UnknownLayerError: no layer is named 'featurs'; nearest: ['features', ...
    """


class AmbiguousLayerError(ModelError):
    """A drop that would cut through a join, so that more than one branch could be the new output.

    >>> from torch import nn
    >>> from model_handler import ModelHandler
    >>> class TwoWays(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.left, self.right = nn.Linear(4, 3), nn.Linear(4, 3)
    ...     def forward(self, x):
    ...         return self.left(x) + self.right(x)
    ...
    >>> ModelHandler(TwoWays()).drop_layer_top()
    Traceback (most recent call last):
        ...
    model_handler.errors.AmbiguousLayerError: ... the branches ['left', 'right']...
    """


class UntraceableModelError(ModelError):
    """An edit that needs the graph of a network whose `forward` could not be traced.

    >>> from torch import nn
    >>> from model_handler import ModelHandler
    >>> class OneWayByTheData(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.bright, self.dark = nn.Linear(4, 3), nn.Linear(4, 3)
    ...     def forward(self, x):
    ...         return self.bright(x) if x.mean() > 0.5 else self.dark(x)
    ...
    >>> ModelHandler(OneWayByTheData()).drop_layer_top()
    Traceback (most recent call last):
        ...
    model_handler.errors.UntraceableModelError: drop_layer_top needs the graph of the network, but ...
    """


class NoBlocksError(ModelError):
    """Something asked of the chain of residual blocks of a network that has none.

    >>> import torch
    >>> from torch import nn
    >>> from model_handler import ModelHandler
    >>> ModelHandler(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3)), torch.rand(2, 4)).blocks
    Traceback (most recent call last):
        ...
    model_handler.errors.NoBlocksError: Sequential has no chain of residual blocks. What was looked for: ...
    """


class CorruptFileError(ValueError):
    """A file that is not, or not wholly, what was written; nothing of it was used.

    >>> from pathlib import Path
    >>> from model_handler import CorruptFileError, Features
    >>> Path("features.safetensors").write_text("cut off")
    7
    >>> try:
    ...     Features.load("features.safetensors")
    ... except CorruptFileError as error:
    ...     print(error)
    features.safetensors is no safetensors file: it has 7 bytes
    """


class FormatVersionError(ValueError):
    """A whole file of a format newer than this version of the library knows.

    >>> from model_handler import FormatVersionError
    >>> issubclass(FormatVersionError, ValueError)
    True
    """


class UnsafeFileError(ValueError):
    """A file that is to be trusted no further: of a kind that no honest one has, or asking for what it may not have.

    >>> from pathlib import Path
    >>> from model_handler import Features, UnsafeFileError
    >>> Path("features.safetensors").mkdir()
    >>> try:
    ...     Features.load("features.safetensors")
    ... except UnsafeFileError as error:
    ...     print(error)
    features.safetensors is a directory, where a file was expected
    """


def with_fix(kind: type[_E], said: str, *, python: str, shell: str = "", between: str = "; ") -> _E:
    """Return an error (or warning) whose text says what is wrong and, behind it, what to write in Python instead.

    `shell` is the same advice for who types a command and writes no Python, as `text_for_shell` gives it. Either is
    empty where there is nothing to be done about it from there.
    """
    error = kind(f"{said}{between}{python}" if python else said)
    vars(error)["text_for_shell"] = f"{said}{between}{shell}" if shell else said
    return error


def text_for_shell(error: BaseException) -> str:
    """Return what an error (or warning) says to who types a command: its text, with the advice that holds there."""
    return vars(error).get("text_for_shell") or str(error) or type(error).__name__


def first_few(names: Sequence[str], n: int = 3) -> str:
    """Return the first `n` names in one text, and how many more there are."""
    return ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")


def nearest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """Return up to `n` of the `known` names, those most like `name` first; the first known ones where none is alike.

    Where no whole name is alike, ends of paths are compared: "layer1" then finds "backbone.layer1".
    """
    known = list(dict.fromkeys(known))
    folded = {candidate.lower(): candidate for candidate in reversed(known)}
    alike = [folded[match] for match in get_close_matches(name.lower(), folded, n=n)]
    return alike or _nearest_ends(name.lower(), folded, n) or known[:n]


def _nearest_ends(name: str, folded: dict[str, str], n: int) -> list[str]:
    """Return up to `n` of the values of `folded` whose keys end in a path like `name`, of as many parts."""
    n_parts = name.count(".") + 1
    ends: dict[str, list[str]] = {}
    for path in reversed(folded):
        ends.setdefault(".".join(path.split(".")[-n_parts:]), []).append(folded[path])
    return [found for end in get_close_matches(name, ends, n=n) for found in ends[end]][:n]

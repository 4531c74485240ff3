"""The errors of this package, and the search for the names a user may have meant.

Every error about a network is a `ModelError`, which is a `ValueError`: one `except` catches them all.
"""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["AmbiguousLayerError", "ModelError", "UnknownLayerError", "UntraceableModelError", "nearest"]


class ModelError(ValueError):
    """Something asked of a network that it cannot do; nothing was changed."""


class UnknownLayerError(ModelError):
    """A layer name that the network does not have."""


class AmbiguousLayerError(ModelError):
    """A drop that would cut through a join, so that more than one branch could be the new output."""


class UntraceableModelError(ModelError):
    """An edit that needs the graph of a network whose `forward` could not be traced."""


def nearest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """Up to `n` of the `known` names, those most like `name` first; the first known ones where none is alike.

    Where no whole name is alike, ends of paths are compared: "layer1" then finds "backbone.layer1".
    """
    known = list(known)
    folded = {candidate.lower(): candidate for candidate in reversed(known)}
    alike = [folded[match] for match in get_close_matches(name.lower(), folded, n=n)]
    return alike or _nearest_ends(name.lower(), folded, n) or known[:n]


def _nearest_ends(name: str, folded: dict[str, str], n: int) -> list[str]:
    """Up to `n` of the values of `folded` whose keys end in a path like `name`, of as many parts."""
    n_parts = name.count(".") + 1
    ends: dict[str, list[str]] = {}
    for path in reversed(folded):
        ends.setdefault(".".join(path.split(".")[-n_parts:]), []).append(folded[path])
    return [found for end in get_close_matches(name, ends, n=n) for found in ends[end]][:n]

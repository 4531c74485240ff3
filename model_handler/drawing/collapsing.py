"""Collapsing: from layers to boxes, with the containers below a depth drawn as one box each.

A box never lies between parts of another: a container that is left and entered again is drawn in parts, so that data
flows one way through the picture.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from model_handler.drawing.flow import Key, Layer

__all__ = ["Group", "collapse"]


@dataclass(eq=False)
class Group:
    """Layers that are one box: a single one with `path` None, or those of a container, or of a part of it."""

    path: str | None
    layers: list[Key] = field(default_factory=list)
    reads: set[int] = field(default_factory=set)


def collapse(
    layers: dict[Key, Layer], links: Iterable[tuple[Key, Key]], depth: int | None, unfold: Collection[str]
) -> tuple[list[Group], dict[Key, int]]:
    """Return the groups, and for each layer the number of its group. `layers` come in an order in which data can flow.

    Containers at `depth` and deeper are collapsed, but for those in `unfold` and the ones that these are in.
    """
    opened = {path for name in unfold for path in accumulate(name.split("."), "{}.{}".format)}
    groups: list[Group] = []
    number: dict[Key, int] = {}
    current: dict[str, int] = {}
    reads: dict[Key, list[Key]] = {}
    for tail, head in links:
        reads.setdefault(head, []).append(tail)
    for key, layer in layers.items():
        path = _collapsed_at(layer.parts, depth, opened) if key[0] in ("layer", "dropped") else None
        sources = {number[tail] for tail in reads.get(key, ())}
        place = current.get(path) if path is not None else None
        if place is None or _reaches(groups, sources - {place}, place):
            place = len(groups)
            groups.append(Group(path))
            if path is not None:
                current[path] = place
        number[key] = place
        groups[place].layers.append(key)
        groups[place].reads |= sources - {place}
    _name_parts(groups, layers)
    return _sorted_by_reads(groups, number)


def _collapsed_at(parts: tuple[str, ...], depth: int | None, opened: Collection[str]) -> str | None:
    """Return the outermost container of a layer that is drawn as one box; None where the layer has a box of its own."""
    for length in range(1, len(parts)):
        path = ".".join(parts[:length])
        if depth is not None and length >= depth and path not in opened:
            return path
    return None


def _reaches(groups: Sequence[Group], sources: set[int], target: int) -> bool:
    """Return whether data flows from one group to one of others."""
    seen, waiting = set(sources), list(sources)
    while waiting:
        place = waiting.pop()
        if place == target:
            return True
        new = groups[place].reads - seen
        seen |= new
        waiting.extend(new)
    return False


def _name_parts(groups: list[Group], layers: dict[Key, Layer]) -> None:
    """Name the parts of a container, in place, by what they hold: the innermost container of all of it."""
    n_parts = Counter(group.path for group in groups)
    for group in groups:
        if group.path is None or n_parts[group.path] == 1:
            continue
        parts = [layers[key].parts[:-1] for key in group.layers]
        shared = len(parts[0])
        while any(other[:shared] != parts[0][:shared] for other in parts):
            shared -= 1
        single = len(group.layers) == 1
        group.path = None if single else ".".join(parts[0][:shared])


def _sorted_by_reads(groups: list[Group], number: dict[Key, int]) -> tuple[list[Group], dict[Key, int]]:
    """Return the groups, each after those that it reads; otherwise as they were."""
    places: dict[int, int] = {}
    for first in range(len(groups)):
        waiting = [first]
        while waiting:
            missing = sorted(place for place in groups[waiting[-1]].reads if place not in places)
            if missing:
                waiting.append(missing[0])
                continue
            place = waiting.pop()
            if place not in places:
                places[place] = len(places)
    ordered = sorted(range(len(groups)), key=places.__getitem__)
    for group in groups:
        group.reads = {places[place] for place in group.reads}
    return [groups[place] for place in ordered], {key: places[place] for key, place in number.items()}

"""Changes: what edits did to a network, as one flow that holds what is there now and what was dropped.

Layers are followed by name from state to state; what was dropped keeps its old place.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import pairwise

from torch import nn

from model_handler.drawing.flow import Flow, Key, Layer, flow_of
from model_handler.extraction.backends import HookBackend
from model_handler.surgery.edit_history import State

__all__ = ["Changes", "changes_of"]


@dataclass(frozen=True, eq=False)
class Changes:
    """Layers in an order in which data can flow, with `links` now and `dropped_links` before the edits.

    `added` and `dropped` are layers that came and went since the network was given; `replaced` gives layers that stand
    in for another under its name the type of that.
    """

    layers: dict[Key, Layer]
    links: tuple[tuple[Key, Key], ...]
    dropped_links: tuple[tuple[Key, Key], ...]
    added: frozenset[Key]
    dropped: frozenset[Key]
    replaced: Mapping[Key, str]
    old_ends: Mapping[str, str]


def changes_of(now: Flow, states: Sequence[State]) -> Changes:
    """Return what became of the first of `states`; `now` is the flow of the last."""
    if states[0].engine is states[-1].engine or _backend_kind(states[0]) != _backend_kind(states[-1]):
        return Changes(now.layers, now.links, (), frozenset(), frozenset(), {}, {})
    comparable = [state for state in states if _backend_kind(state) == _backend_kind(states[-1])]
    source, origins = flow_of(comparable[0]), _origins(comparable)
    present: dict[Key, Key] = {
        ("layer", old): ("layer", new) for new, old in origins.items() if ("layer", new) in now.layers
    }
    added = {key for key in now.layers if key[0] == "layer"} - set(present.values())
    places: dict[Key, Key] = {
        key: present.get(key, ("dropped", key[1])) if key[0] == "layer" else key for key in source.layers
    }
    links = [(places[tail], places[head]) for tail, head in source.links]
    replaced = {key: source.layers[key].type for key in added if key in source.layers and _stands_in(key, now, links)}
    dropped = {
        places[key]: layer
        for key, layer in source.layers.items()
        if places[key][0] == "dropped" and key not in replaced
    }
    links = [link for link in links if (link[0] in dropped or link[1] in dropped) and link[1][0] != "output"]
    links = [link for link in links if all(key in now.layers or key in dropped for key in link)]
    links = _without_circles(now.links, links)
    order = [key for key in places.values() if key in now.layers or key in dropped]
    layers = _with_dropped_in_place(now.layers, dropped, order, [*now.links, *links])
    return Changes(layers, now.links, tuple(links), frozenset(added), frozenset(dropped), replaced, source.ends)


def _stands_in(key: Key, now: Flow, links: Iterable[tuple[Key, Key]]) -> bool:
    """Return whether an added layer reads what the dropped one of its name read."""
    return {tail for tail, head in links if head == ("dropped", key[1])} == {
        tail for tail, head in now.links if head == key
    }


def _backend_kind(state: State) -> tuple[type, bool]:
    """Return what decides the names of layers: whether there is a graph or, without one, whether the network ran."""
    backend = state.engine.backend
    return type(backend), isinstance(backend, HookBackend) and backend.has_run


def _origins(states: Sequence[State]) -> dict[str, str]:
    """Return the layers of the last state that are those of the first, each with its name there."""
    origins = {name: name for name in states[0].engine.backend.layers}
    for before, after in pairwise(states):
        if after.engine is before.engine:
            continue
        old, new = before.engine.backend.layers, after.engine.backend.layers
        pairs: Iterable[tuple[str, str]] = ((name, name) for name in new if name in old)
        if len(after.renames) > len(before.renames):
            pairs = zip(new, old)
        origins = {
            name: origins[old_name]
            for name, old_name in pairs
            if old_name in origins and (after.keeps_layers or _is_same_layer(new[name], old[old_name]))
        }
    return origins


def _is_same_layer(layer: nn.Module | str, old_layer: nn.Module | str) -> bool:
    """Return whether a layer is that of another state: copies of one module share its weights."""
    if isinstance(layer, str) or isinstance(old_layer, str):
        return layer == old_layer
    weights = [list(map(id, module.parameters())) for module in (layer, old_layer)]
    return type(layer) is type(old_layer) and weights[0] == weights[1] and repr(layer) == repr(old_layer)


def _without_circles(links: Iterable[tuple[Key, Key]], old: Iterable[tuple[Key, Key]]) -> list[tuple[Key, Key]]:
    """List those old links beside which data still flows one way: an edit may have turned the order of layers round."""
    heads: dict[Key, list[Key]] = {}
    for tail, head in links:
        heads.setdefault(tail, []).append(head)
    good = []
    for tail, head in old:
        if not _leads(head, tail, heads):
            good.append((tail, head))
            heads.setdefault(tail, []).append(head)
    return good


def _leads(start: Key, end: Key, heads: Mapping[Key, list[Key]]) -> bool:
    seen, waiting = {start}, [start]
    while waiting:
        key = waiting.pop()
        if key == end:
            return True
        new = [head for head in heads.get(key, ()) if head not in seen]
        seen.update(new)
        waiting.extend(new)
    return False


def _with_dropped_in_place(
    now: Mapping[Key, Layer], dropped: Mapping[Key, Layer], before: Sequence[Key], links: Sequence[tuple[Key, Key]]
) -> dict[Key, Layer]:
    """List all layers, each after what it reads; otherwise as they run now, dropped ones behind what they followed."""
    priorities: dict[Key, tuple[int, int]] = {key: (number, 0) for number, key in enumerate(now)}
    last, behind = 0, 0
    for key in before:
        if key in dropped:
            behind += 1
            priorities[key] = (last, behind)
        elif key in priorities and key[0] != "output":
            last, behind = priorities[key][0], 0
    layers = {**now, **dropped}
    waits = dict.fromkeys(layers, 0)
    heads: dict[Key, list[Key]] = {}
    for tail, head in links:
        heads.setdefault(tail, []).append(head)
        waits[head] += 1
    ready = [(priorities[key], key) for key in layers if not waits[key]]
    heapify(ready)
    ordered: dict[Key, Layer] = {}
    while ready:
        _, key = heappop(ready)
        ordered[key] = layers[key]
        for head in heads.get(key, ()):
            waits[head] -= 1
            if not waits[head]:
                heappush(ready, (priorities[head], head))
    return ordered

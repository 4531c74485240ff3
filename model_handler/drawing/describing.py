"""Describing: what the boxes of a picture say, and the marks that they bear."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from torch import nn

from model_handler.drawing.changes import Changes
from model_handler.drawing.collapsing import Group
from model_handler.drawing.diagram import Box, Kind
from model_handler.drawing.flow import Flow, Key
from model_handler.graph.graph_network import PLAIN_CONTAINERS, Part
from model_handler.network.adapted_layer import AdaptedLayer, adapted_layers
from model_handler.quantities import readable
from model_handler.surgery.edit_history import State

__all__ = ["Describer", "count"]

_TIMES = "\N{MULTIPLICATION SIGN}"
_MAX_KINDS = 3  # kinds of modules listed in a box of a container


class Describer:
    """Makes boxes of the groups of one picture: `now` is the state drawn, `source` the network as it was given."""

    def __init__(self, now: State, source: State, flow: Flow, changes: Changes) -> None:
        self._now = now
        self._source = source
        self._flow = flow
        self._changes = changes

    def box(self, group: Group) -> Box:
        """Return the box of a group. `group.layers` of an input or the output are it alone."""
        key = group.layers[0]
        layer = self._changes.layers[key]
        if key[0] in ("input", "output"):
            word = key[0] if layer.type in ("input", "output") else layer.type
            return Box(layer.name, key[0], _lines(word if word != layer.name else "", _shape(layer.shape)))
        marks = self._marks(group)
        names = tuple(self._changes.layers[member].name for member in group.layers)
        if group.path is not None:
            return Box(group.path, "container", self._container_lines(group), marks, names)
        kind: Kind = "operation" if layer.module is None else "layer"
        was = f"in place of {_article(self._changes.replaced[key])}" if key in self._changes.replaced else ""
        n_parameters = count(self._parameters(group).values())
        text = _joined_by_dots(layer.type, f"{readable(n_parameters)} parameters" if n_parameters else "")
        adapter = str(layer.module._adapter) if isinstance(layer.module, AdaptedLayer) else ""
        return Box(layer.name, kind, _lines(text, _shape(layer.shape), was, adapter), marks, names)

    def _container_lines(self, group: Group) -> tuple[str, ...]:
        path = str(group.path)
        kept = [key for key in group.layers if key not in self._changes.dropped]
        end: Key = (
            ("layer", self._flow.ends.get(path, "")) if kept else ("dropped", self._changes.old_ends.get(path, ""))
        )
        shape = self._changes.layers[end].shape if end in group.layers and self._is_whole(group) else None
        n_layers = len(kept or group.layers)
        n_parameters = count(self._parameters(group).values())
        amount = _joined_by_dots(
            f"{n_layers} layer{'s' if n_layers > 1 else ''}",
            f"{readable(n_parameters)} parameters" if n_parameters else "",
        )
        return _lines(self._content(path, bool(kept)), amount, _shape(shape))

    def _content(self, path: str, kept: bool) -> str:
        """Return what a container is: its class, or for a plain one what it holds."""
        state = self._now if kept else self._source
        module = state.engine.backend.modules.get(path)
        if not isinstance(module, PLAIN_CONTAINERS):
            return self._class_name(path)
        kinds = Counter(self._class_name(f"{path}.{name}") for name, _ in module.named_children())
        listed = [f"{number} {_TIMES} {kind}" if number > 1 else kind for kind, number in kinds.items()]
        more = [f"{len(listed) - _MAX_KINDS + 1} other kinds"] if len(listed) > _MAX_KINDS else []
        return ", ".join([*listed[: _MAX_KINDS - 1], *more] if more else listed)

    def _class_name(self, path: str) -> str:
        """Return the class of a module; a container that an edit rebuilt has that of the one in the source."""
        module = self._now.engine.backend.modules.get(path)
        if module is None or isinstance(module, Part):
            module = self._source.engine.backend.modules.get(path, module)
        return "" if module is None else type(module).__name__

    def _is_whole(self, group: Group) -> bool:
        """Return whether all layers of a container are in one group."""
        parts = str(group.path).split(".")
        inside = [key for key, layer in self._changes.layers.items() if list(layer.parts[: len(parts)]) == parts]
        return len([key for key in inside if key[0] in ("layer", "dropped")]) == len(group.layers)

    def _parameters(self, group: Group) -> dict[str, nn.Parameter]:
        """Return the parameters of a group by name, those that a container holds itself included."""
        kept = [key for key in group.layers if key not in self._changes.dropped]
        layers = [self._changes.layers[key] for key in kept or group.layers]
        modules: list[tuple[str, Any]] = [(layer.path, layer.module) for layer in layers]
        if kept and group.path is not None and self._is_whole(group):
            modules.append((group.path, self._now.engine.backend.modules.get(group.path)))
        return {
            f"{path}.{name}": parameter
            for path, module in modules
            if isinstance(module, nn.Module)
            for name, parameter in module.named_parameters(remove_duplicate=False)
        }

    def _marks(self, group: Group) -> tuple[str, ...]:
        marks = [_extent("added", group.layers, self._changes.added)]
        marks.append(_extent("dropped", group.layers, self._changes.dropped))
        if marks[1] != "dropped":
            marks += [self._adapted(group), self._frozen(group)]
        return tuple(mark for mark in marks if mark)

    def _adapted(self, group: Group) -> str:
        layers = {key: self._changes.layers[key].module for key in group.layers if key not in self._changes.dropped}
        adapted = [key for key, module in layers.items() if module is not None and adapted_layers(module)]
        if not adapted and group.path is not None:  # an operation in there may read an adapted weight
            container = self._now.engine.backend.modules.get(group.path)
            return "partly adapted" if container is not None and adapted_layers(container) else ""
        return _extent("adapted", list(layers), adapted)

    def _frozen(self, group: Group) -> str:
        """Mark as frozen what has parameters none of which learns, or has none and is held in evaluation mode."""
        freezing = self._now.freezing
        learns = {freezing.is_trainable(name, p) for name, p in self._parameters(group).items()}
        if not learns:
            layers = [self._changes.layers[key] for key in group.layers]
            learns = {not freezing.held.get(layer.path, False) for layer in layers if layer.module is not None}
        if not learns or learns == {True}:
            return ""
        return "frozen" if learns == {False} else "partly frozen"


def count(parameters: Iterable[nn.Parameter]) -> int:
    """Return how many numbers parameters hold, shared ones counted once."""
    return sum(parameter.numel() for parameter in {id(parameter): parameter for parameter in parameters}.values())


def _extent(word: str, layers: Sequence[Key], marked: Collection[Key]) -> str:
    n_marked = sum(key in marked for key in layers)
    return "" if not n_marked else word if n_marked == len(layers) else f"partly {word}"


def _article(word: str) -> str:
    return f"an {word}" if word[:1].upper() in "AEIOU" else f"a {word}"


def _lines(*texts: str) -> tuple[str, ...]:
    return tuple(text for text in texts if text)


def _joined_by_dots(*texts: str) -> str:
    return " · ".join(text for text in texts if text)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "" if shape is None else f"({', '.join(map(str, shape))})"

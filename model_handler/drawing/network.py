"""A drawing is made from the states of a handler here: no other module of this folder knows what a handler keeps."""

from collections.abc import Collection, Sequence

from model_handler.drawing.changes import changes_of
from model_handler.drawing.collapsing import collapse
from model_handler.drawing.describing import Describer, count
from model_handler.drawing.diagram import Diagram, Edge
from model_handler.drawing.drawing import Drawing
from model_handler.drawing.flow import flow_of
from model_handler.errors import ModelError
from model_handler.extraction.backends import HookBackend
from model_handler.network.adapted_layer import adapted_layers
from model_handler.quantities import readable
from model_handler.surgery.edit_history import State

__all__ = ["draw"]


def draw(name: str, states: Sequence[State], depth: int | None, unfold: Collection[str]) -> Drawing:
    """Draw the last of `states`, with what was changed since the first.

    Raises UnknownLayerError for an unknown name in `unfold`, and ModelError for one with nothing in it to draw or a
    `depth` that is no whole number above 0.
    """
    now, source = states[-1], states[0]
    flow = flow_of(now)
    changes = changes_of(flow, states)
    paths = {".".join(layer.parts[:n]) for layer in changes.layers.values() for n in range(1, len(layer.parts))}
    _check(now, depth, unfold, paths)
    groups, number = collapse(changes.layers, [*changes.links, *changes.dropped_links], depth, unfold)
    describer = Describer(now, source, flow, changes)
    edges = {
        (number[tail], number[head]): dropped
        for dropped, links in ((True, changes.dropped_links), (False, changes.links))
        for tail, head in links
        if number[tail] != number[head]
    }
    return Drawing(
        Diagram(
            title=name,
            subtitle=_subtitle(now),
            note=_note(now),
            boxes=tuple(map(describer.box, groups)),
            edges=tuple(Edge(tail, head, dropped) for (tail, head), dropped in sorted(edges.items())),
        )
    )


def _check(now: State, depth: int | None, unfold: Collection[str], containers: Collection[str]) -> None:
    if depth is not None and (not isinstance(depth, int) or isinstance(depth, bool) or depth < 1):
        raise ModelError(f"depth must be a whole number from 1 on, or None to draw every layer, got {depth!r}")
    if missing := [name for name in unfold if name not in containers]:
        now.engine.refuse_unknown(missing)
        raise ModelError(f"{missing} cannot be unfolded: there is nothing inside that is a layer of the network")


def _subtitle(now: State) -> str:
    n_layers, parameters = len(now.engine.backend.layers), list(now.engine.network.parameters())
    learning = {
        id(parameter): parameter
        for name, parameter in now.engine.network.named_parameters(remove_duplicate=False)
        if now.freezing.is_trainable(name, parameter)
    }
    frozen = len(learning) < len(parameters)
    more = f", {readable(count(learning.values()))} of them learn" if frozen and parameters else ""
    n_adapters = len(adapted_layers(now.engine.network))
    more += f", {n_adapters} adapter{'s' if n_adapters > 1 else ''}" if n_adapters else ""
    return f"{n_layers} layers, {readable(count(parameters))} parameters{more}"


def _note(now: State) -> str:
    backend = now.engine.backend
    if not isinstance(backend, HookBackend):
        return ""
    order = "in which they ran" if backend.has_run else "of their registration"
    return f"This network has no graph: its modules are drawn in the order {order}, which is not the flow of data."

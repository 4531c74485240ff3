"""A draft is a graph being edited: what all edits share, the copy of a trace, their result, and names for messages.

`cutting` takes layers off, `joining` adds and exchanges them, `renaming` renames them. Each takes a network and its
trace, leaves them as they are, and gives an `Edited`: a network that runs the new graph on shared weights, and its
trace, in which layers keep the names they had. What users call is in `editing`.
"""

import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import fx, nn

from model_handler.errors import ModelError
from model_handler.graph.naming import layer_nodes
from model_handler.graph.nodes import nodes_in, output_node
from model_handler.graph.tracing import Trace

__all__ = [
    "Draft",
    "Edited",
    "End",
    "Site",
    "is_inside",
    "label",
    "names_of",
    "refuse_inside_of_layer",
    "single_output",
]


End = tuple[Any, fx.Node, int | None]  # a value, the node after which it is complete, which part of it is meant


@dataclass(frozen=True, eq=False)
class Edited:
    """A network after an edit, and its trace where it has one; `renewed` are the paths of modules new in it."""

    network: nn.Module
    trace: Trace | None = None
    renewed: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Site:
    """A place in a graph: a value, and those of its readers that are meant, in order of execution."""

    value: fx.Node
    readers: tuple[fx.Node, ...]


class Draft:
    """A trace on its way to another one: nodes copied, in their order, into a graph of their own.

    `copied` gives each old node its copy, and `entries` gives those that become inputs the new input.
    """

    def __init__(self, network: nn.Module, traced: Trace) -> None:
        self.traced = traced
        self.names = names_of(network, traced)
        self._order = {node: number for number, node in enumerate(traced.graph.nodes)}
        self.graph = fx.Graph()
        self.copied: dict[fx.Node, fx.Node] = {}
        self.entries: dict[fx.Node, fx.Node] = {}
        self._extra: set[fx.Node] = set()  # that no old node stands for

    @classmethod
    def of_all(cls, network: nn.Module, traced: Trace) -> "Draft":
        """Return a draft with every node, those too whose result nobody uses; to be finished by `finish_all`."""
        draft = cls(network, traced)
        draft.take(set(traced.graph.nodes))
        return draft

    def take(self, nodes: Collection[fx.Node]) -> None:
        """Copy some nodes of the old graph, in its order."""
        for node in self.traced.graph.nodes:
            if node in nodes and node.op != "output":
                self.copied[node] = self.graph.node_copy(node, self.now)
                self.copied[node].type = None  # a class that an annotation names may not be found after pickling

    def now(self, node: fx.Node) -> fx.Node:
        """Return what an old node is in the new graph."""
        return self.entries[node] if node in self.entries else self.copied[node]

    def finish_all(self) -> Trace:
        """End the new graph as the old one ends, and return its trace; `copied` then has the outputs too."""
        output = output_node(self.traced.graph)
        trace = self.finish(output.args[0])
        self.copied[output] = output_node(trace.graph)
        return trace

    def finish(self, value: Any, index: int | None = None) -> Trace:
        """End the new graph with `value`, nodes of the old one, or the part of it at `index`; return its trace."""
        return self._ended(self._part_of(fx.map_arg(value, self.now), index), nodes_in(value))

    def finish_several(self, ends: Sequence[End], is_written_behind: Callable[[Any, fx.Node], bool]) -> Trace:
        """End the new graph with a tuple of values; what may be written into later is copied when it is complete."""
        returned = []
        for value, after, index in ends:
            whole = fx.map_arg(value, self.now)
            with self.graph.inserting_before(self._last_by(after).next):
                part = self._part_of(whole, index)
                if isinstance(part, fx.Node) and is_written_behind(value, after):
                    part = self._added(self.graph.call_method("clone", (part,)))
            returned.append(part)
        return self._ended(tuple(returned), [node for value, _, _ in ends for node in nodes_in(value)])

    def _last_by(self, after: fx.Node) -> fx.Node:
        """Return the last node, as it is now, of those up to an old one, which may be gone itself: a write, say."""
        place = self._order
        return self.copied[max((node for node in self.copied if place[node] <= place[after]), key=place.__getitem__)]

    def _part_of(self, returned: Any, index: int | None) -> Any:
        if index is None:
            return returned
        if isinstance(returned, (tuple, list)):
            return returned[index]
        return self._added(self.graph.call_function(operator.getitem, (returned, index)))

    def _added(self, node: fx.Node) -> fx.Node:
        self._extra.add(node)
        return node

    def _ended(self, returned: Any, ends: list[fx.Node]) -> Trace:
        owners = {copy: self.traced.owners[node] for node, copy in self.copied.items()}
        owners.update(dict.fromkeys(self._extra, ""))
        exits = self._exits(ends)
        self.graph.output(returned)
        names = {self.copied[node]: name for name, node in self.names.items() if node in self.copied}
        inputs = tuple(str(node.target) for node in self.graph.nodes if node.op == "placeholder")
        return replace(self.traced, graph=self.graph, input_names=inputs, owners=owners, exits=exits, names=names)

    def _exits(self, ends: list[fx.Node]) -> dict[str, tuple[Any, fx.Node]]:
        """Find what containers return: as before where that was kept, the end of the network where a cut is inside."""
        exits: dict[str, tuple[Any, fx.Node]] = {}
        for path, (value, after) in self.traced.exits.items():
            if all(node in self.copied for node in nodes_in(value)):
                exits[path] = (fx.map_arg(value, self.copied.__getitem__), self._last_by(after))
            # a container cut inside returns what the network does, so that its name still means its last output
            elif len(ends) == 1 and ends[0] in self.copied and is_inside(ends[0], path, self.traced):
                exits[path] = (self.copied[ends[0]], self.copied[ends[0]])
        return exits


def names_of(network: nn.Module, traced: Trace) -> dict[str, fx.Node]:
    """Return the name of every layer with its node, in order of execution."""
    return layer_nodes(traced, dict(network.named_modules(remove_duplicate=False)))


def is_inside(node: fx.Node, path: str, traced: Trace) -> bool:
    """Return whether the forward of the module at `path`, or of one in it, made a node."""
    owner = traced.owners[node]
    return owner == path or owner.startswith(f"{path}.")


def label(node: fx.Node, names: Mapping[str, fx.Node]) -> str:
    """Return what a node is called in an error."""
    labels = {layer: name for name, layer in names.items()}
    if node in labels:
        return labels[node]
    if node.target is operator.getitem and isinstance(node.args[0], fx.Node):
        return f"{label(node.args[0], names)}[{node.args[1]}]"
    return f"input {node.target}" if node.op == "placeholder" else node.name


def single_output(network: nn.Module, traced: Trace, edit: str) -> fx.Node:
    """Return the value that the network returns. Raises ModelError naming the outputs unless it is one."""
    returned = output_node(traced.graph).args[0]
    if isinstance(returned, fx.Node):
        return returned
    names = names_of(network, traced)
    outputs = [label(node, names) for node in nodes_in(returned)]
    kind = "dict" if isinstance(returned, Mapping) else "tuple" if isinstance(returned, tuple) else "list"
    keys = f" under the keys {list(returned)}" if isinstance(returned, Mapping) else ""
    raise ModelError(
        f"{edit} needs a network with one output; this one returns a {kind} of {outputs}{keys}. "
        f"Choose one first: truncate(at={outputs[0] if outputs else '...'!r})"
    )


def refuse_inside_of_layer(traced: Trace, path: str) -> None:
    """Raise ModelError for a module inside one that counts as one layer: the graph has nothing there."""
    called = {str(node.target) for node in traced.graph.nodes if node.op == "call_module"}
    outer = next((leaf for leaf in (*traced.promoted, *called) if path.startswith(f"{leaf}.")), None)
    if outer is not None:
        why = traced.promoted.get(outer, "")
        said = why.startswith(("computes", "writes"))
        reason = f", for it {why if said else f'cannot be traced ({why})'}" if why else ""
        raise ModelError(f"{path!r} is inside {outer!r}, which counts as one layer{reason}; name {outer!r} itself")

"""Inlining opens modules that had to stay leaves of the trace, in a graph for extraction only.

A module that computes something else in training is a leaf of the graph, which must serve both modes. Features are
computed in evaluation alone, where most of these modules can be followed: their layers then come from the same pass as
all others, and can be folded. Names stay those of the graph that users see.
"""

from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from model_handler.graph.leaves import is_leaf
from model_handler.graph.nodes import nodes_in
from model_handler.graph.tracing import Trace, trace_call

__all__ = ["Inlined", "inline"]


@dataclass(frozen=True, eq=False)
class Inlined:
    """A graph with leaves opened up.

    `values` gives each node of the old graph what it has become and the node after which that is complete; `inside`
    gives the modules in the opened leaves the same, one entry a call in order of execution, for containers the last.
    """

    graph: fx.Graph
    values: dict[fx.Node, tuple[fx.Node, fx.Node]]
    inside: dict[str, list[tuple[Any, fx.Node]]]


def inline(network: nn.Module, trace: Trace) -> Inlined:
    """Open the promoted leaves, in a trace of `network`, that evaluation can be followed through."""
    graph = fx.Graph()
    values: dict[fx.Node, tuple[fx.Node, fx.Node]] = {}
    inside: dict[str, list[tuple[Any, fx.Node]]] = {}

    def become(node: fx.Node) -> fx.Node:
        return values[node][0]

    for node in trace.graph.nodes:
        called = _trace_of_leaf(network, trace, node)
        if called is None:
            copied = graph.node_copy(node, become)
            values[node] = (copied, copied)
        else:
            # in the order of first use, as `trace_call` made its inputs
            arguments = [become(argument) for argument in dict.fromkeys(nodes_in((node.args, node.kwargs)))]
            values[node] = _spliced(graph, called, arguments, inside, node)
    return Inlined(graph, values, inside)


def _trace_of_leaf(network: nn.Module, trace: Trace, node: fx.Node) -> Trace | None:
    """Return the trace of a call of a promoted leaf that returns one tensor."""
    path = str(node.target)
    if node.op != "call_module" or path not in trace.promoted or _has_forward_hooks(network.get_submodule(path)):
        return None
    called = trace_call(network, path, node.args, node.kwargs)
    # of several tensors, readers take parts by index, which a spliced graph does not have to index
    if called is None or not isinstance(called.exits[path][0], fx.Node):
        return None
    # a leaf that returns its input has no node of its own to put in its place
    return called if any(inner.op not in ("placeholder", "output") for inner in called.graph.nodes) else None


def _has_forward_hooks(module: nn.Module) -> bool:
    """Return whether a hook sits on what would be opened: only leaves keep theirs."""
    opened = [part for part in module.modules() if part is module or not is_leaf(part)]
    return any(part._forward_hooks or part._forward_pre_hooks for part in opened)


def _spliced(
    graph: fx.Graph,
    called: Trace,
    arguments: list[fx.Node],
    inside: dict[str, list[tuple[Any, fx.Node]]],
    node: fx.Node,
) -> tuple[fx.Node, fx.Node]:
    """Copy the graph of a call to the end of `graph`, in place, and note what is inside."""
    own = [inner for inner in called.graph.nodes if inner.op == "placeholder"]
    copied: dict[fx.Node, fx.Node] = dict(zip(own, arguments, strict=True))
    for inner in called.graph.nodes:
        if inner.op not in ("placeholder", "output"):
            copied[inner] = graph.node_copy(inner, copied.__getitem__)
            if inner.op == "call_module":
                inside.setdefault(str(inner.target), []).append((copied[inner], copied[inner]))
    for path, (value, after) in called.exits.items():
        if after.op != "placeholder":
            inside[path] = [(fx.map_arg(value, copied.__getitem__), copied[after])]
    value, after = called.exits[str(node.target)]
    return copied[value], copied[after]

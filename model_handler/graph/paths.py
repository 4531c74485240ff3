"""Paths: the layers through which data goes from one part of a traced network to another."""

import operator
from collections.abc import Mapping

from torch import fx, nn

from model_handler.graph.dependencies import unused_writers
from model_handler.graph.tracing import Trace

__all__ = ["layers_on_paths", "nodes_of_module"]


def layers_on_paths(
    network: nn.Module, trace: Trace, layers: Mapping[str, fx.Node], firsts: set[fx.Node], lasts: set[fx.Node]
) -> list[str]:
    """Return the names of the layers on any path of data from one of `firsts` to one of `lasts`, both included.

    In order of execution; empty where there is no path. Sizes are no data; what an operation writes into a tensor that
    is read later is.
    """
    reads = _reads(network, trace.graph, set(layers.values()))
    after: set[fx.Node] = set()
    for node, read in reads.items():
        if node in firsts or not after.isdisjoint(read):
            after.add(node)
    # Two sweeps, one each way: a node on a path is behind one of the first and before one of the last.
    before: set[fx.Node] = set()
    for node, read in reversed(reads.items()):
        if node in lasts or node in before:
            before.update([node, *read])
    return [name for name, node in layers.items() if node in after and node in before]


def nodes_of_module(network: nn.Module, trace: Trace, module: nn.Module) -> set[fx.Node]:
    """Return the nodes that run a module, or run inside it, under whatever path."""
    inside = set(module.modules())
    paths = {path for path, part in network.named_modules(remove_duplicate=False) if part in inside}
    return {
        node
        for node in trace.graph.nodes
        if trace.owners.get(node) in paths or (node.op == "call_module" and node.target in paths)
    }


def _reads(network: nn.Module, graph: fx.Graph, layers: set[fx.Node]) -> dict[fx.Node, list[fx.Node]]:
    """Return for each layer, and each part taken of one's output, those it reads, in order of execution.

    Beside the arguments these are the operations that wrote into one of them, with a result that nobody takes.
    """
    unused = unused_writers(graph, dict(network.named_modules(remove_duplicate=False)))
    found: dict[fx.Node, list[fx.Node]] = {}
    writers: dict[fx.Node, list[fx.Node]] = {}
    for node in graph.nodes:
        if node in layers or (node.target is operator.getitem and node.args[0] in found):
            read = [source for argument in node.all_input_nodes for source in (argument, *writers.get(argument, ()))]
            found[node] = [source for source in read if source in found]
            # its result goes through the memory of its arguments, to whatever reads them later
            if node in unused:
                for argument in node.all_input_nodes:
                    writers.setdefault(argument, []).append(node)
    return found

"""Dependencies: the nodes of a graph that some values need, without dead nodes, in-place writes considered.

In-place operations make that more than reachability: one whose result nobody uses still counts where it writes into
storage that something needed reads later (dead-code elimination would drop it and change the outputs).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import fx, nn

from model_handler.graph.nodes import is_constant, output_node, target_name

__all__ = [
    "may_write",
    "needed_by_output",
    "needed_nodes",
    "storages",
    "unused_writers",
    "writes_into",
    "writes_into_constants",
]

# Those that always allocate their output. Whatever is not listed may return a view, and is taken to share memory.
_FRESH_MODULES = ("conv", "linear", "batchnorm", "instancenorm", "normalization", "pooling", "sparse", "activation")
_FRESH_OPERATIONS = frozenset(
    "conv1d conv2d conv3d linear matmul bmm add sub mul truediv cat stack softmax relu relu6 gelu silu hardswish "  # noqa: SIM905
    "hardsigmoid sigmoid tanh layer_norm batch_norm group_norm mean sum max_pool2d avg_pool2d "
    "adaptive_avg_pool2d scaled_dot_product_attention rsub neg pow sqrt exp".split()
)
_IN_PLACE_OPERATORS = frozenset(
    "iadd isub imul imatmul itruediv ifloordiv imod ipow ilshift irshift iand ixor ior iconcat".split()  # noqa: SIM905
)


def needed_nodes(
    graph: fx.Graph, reads: Mapping[fx.Node, Sequence[fx.Node]], modules: dict[str, nn.Module]
) -> set[fx.Node]:
    """Return the nodes to keep so that right after each key of `reads` the nodes under it hold what they would in full.

    Nodes behind the last key are never needed.
    """
    storage = storages(graph, modules)
    needed: set[fx.Node] = set()
    live: set[fx.Node] = set()
    # Walked backwards: what is behind the last key is skipped, and a write counts where what it changes is read later.
    pending = len(reads)
    for node in reversed(graph.nodes):
        if node in reads:
            pending -= 1
            needed.update(reads[node])
            live.update(storage[read] for read in reads[node])
        if pending == len(reads):
            continue
        # of foreign code it is not known which argument it writes into, so each may be the one
        writes = {storage[argument] for argument in node.all_input_nodes} if may_write(node, modules) else set()
        if node in needed or writes & live:
            needed.add(node)
            needed.update(node.all_input_nodes)
            live.update(storage[argument] for argument in node.all_input_nodes)
    return needed


def needed_by_output(graph: fx.Graph, modules: dict[str, nn.Module]) -> set[fx.Node]:
    """Return the nodes to keep so that the graph returns what it does."""
    output = output_node(graph)
    return needed_nodes(graph, {output: output.all_input_nodes}, modules)


def unused_writers(graph: fx.Graph, modules: dict[str, nn.Module]) -> set[fx.Node]:
    """Return the operations that write into a tensor which is read later, and whose result nobody takes."""
    unused = {node for node in graph.nodes if not node.users and node.all_input_nodes and node.op != "output"}
    return unused & needed_by_output(graph, modules) if unused else set()


def writes_into(graph: fx.Graph, node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Return whether something in the graph may write into what `node` holds."""
    storage = storages(graph, modules)
    writers = (writer for writer in graph.nodes if may_write(writer, modules))
    return any(storage[argument] is storage[node] for writer in writers for argument in writer.all_input_nodes)


def writes_into_constants(graph: fx.Graph, modules: dict[str, nn.Module]) -> list[fx.Node]:
    """Return the operations that write into a tensor which `forward` made anew, and which tracing made a constant."""
    storage = storages(graph, modules)
    constants = {storage[node] for node in graph.nodes if is_constant(node.target)}
    return [
        node
        for node in graph.nodes
        if node.op in ("call_function", "call_method") and node.all_input_nodes and may_write(node, modules)
        if storage[node.all_input_nodes[0]] in constants
    ]


def storages(graph: fx.Graph, modules: dict[str, nn.Module]) -> dict[fx.Node, fx.Node]:
    """Return a representative for each node, the same for nodes that may share memory."""
    parent: dict[fx.Node, fx.Node] = {}
    attributes: dict[Any, fx.Node] = {}

    def find(node: fx.Node) -> fx.Node:
        while parent[node] is not node:
            parent[node] = node = parent[parent[node]]
        return node

    for node in graph.nodes:
        parent[node] = node
        if node.op == "get_attr":
            parent[node] = find(attributes.setdefault(node.target, node))  # two reads of one weight are one tensor
        elif node.op != "output" and not _is_fresh(node, modules):
            for argument in node.all_input_nodes:
                parent[find(argument)] = node
    return {node: find(node) for node in graph.nodes}


def _is_fresh(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Return whether a node's output is surely memory of its own."""
    if may_write(node, modules):
        return False
    if node.op == "call_module":
        kind = type(modules[str(node.target)])
        return kind is not nn.Identity and kind.__module__.removeprefix("torch.nn.modules.") in _FRESH_MODULES
    name = target_name(node.target)
    return node.op in ("call_function", "call_method") and name in _FRESH_OPERATIONS


def may_write(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Return whether a node may write into its inputs: in-place forms, and code of which nothing is known."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        # code that is not torch's own may write into anything it is given
        foreign = not type(module).__module__.startswith("torch.nn.modules.")
        return foreign or any(getattr(part, "inplace", False) for part in module.modules())
    if node.op == "call_method":
        return _is_in_place(str(node.target)) or bool(node.kwargs.get("inplace"))
    if node.op != "call_function":
        return False
    name, home = target_name(node.target), getattr(node.target, "__module__", None) or "torch"
    in_place_operator = home in ("_operator", "operator") and _is_in_place(f"__{name}__")
    # `torch.ops` and built-ins have no module of their own; these libraries write only where the name says so
    known = home.startswith(("torch", "_operator", "operator", "builtins", "math", "einops"))
    asked = bool(node.kwargs.get("inplace")) or "out" in node.kwargs or any(argument is True for argument in node.args)
    return not known or in_place_operator or _is_in_place(name) or asked


def _is_in_place(name: str) -> bool:
    """Return whether a method writes into its tensor: `add_` and `__iadd__` do, `__add__` does not."""
    if name.startswith("__"):
        return name in ("__setitem__", "__delitem__") or (name.startswith("__i") and name[2:-2] in _IN_PLACE_OPERATORS)
    return name.endswith("_")

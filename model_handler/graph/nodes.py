"""Questions about the nodes of torch.fx that several modules ask: output, constants, targets, nested arguments."""

from keyword import iskeyword
from typing import Any

from torch import fx

__all__ = ["CONSTANT", "is_constant", "nodes_in", "output_node", "target_name", "without_keywords"]

CONSTANT = "_tensor_constant"  # how torch.fx names tensors that a `forward` makes anew, each with a number behind it


def output_node(graph: fx.Graph) -> fx.Node:
    """Return the node that returns."""
    return next(node for node in reversed(graph.nodes) if node.op == "output")


def nodes_in(value: Any) -> list[fx.Node]:
    """Return the nodes in a value of nested tuples, lists and dicts, in order."""
    nodes: list[fx.Node] = []
    fx.map_arg(value, nodes.append)
    return nodes


def target_name(target: object) -> str:
    """Return a path or the name of a method as it is, the name of a function; "" where it has none."""
    return target if isinstance(target, str) else getattr(target, "__name__", "")


def is_constant(target: object) -> bool:
    """Return whether the target of a node is a tensor that a `forward` made anew."""
    return isinstance(target, str) and target.startswith(CONSTANT)


def without_keywords(path: str) -> str:
    """Return a path for which torch.fx writes code that Python can read: it takes any identifier for an attribute.

    A part that is a word of the language ("in", as a key of an `nn.ModuleDict`) gets a space, which makes it none.
    """
    return ".".join(f"{part} " if iskeyword(part) else part for part in path.split("."))

"""Training and evaluation mode: nodes are marked where the network's own `forward` computes otherwise in training.

Modules that differ between the modes become leaves (`tracing`); only the root cannot. An edited network runs the graph
of evaluation in both modes, so its nodes are noted here where training does otherwise: an argument that follows the
mode (`F.dropout(x, training=self.training)`) is chosen at run time, and a node that training does not compute at all
is marked, so that no edit bakes it in.
"""

import operator
from typing import Any

from torch import fx, nn

from model_handler.graph.dependencies import may_write, storages
from model_handler.graph.gradients import pair_switches
from model_handler.graph.nodes import is_constant

__all__ = ["UNLIKE_TRAINING", "following_mode", "note_modes"]

IN_TRAINING = "in_training"  # in the `meta` of a node: position or keyword of an argument to its value in training
UNLIKE_TRAINING = "unlike_training"  # in the `meta` of a node: training computes something else


def note_modes(evaluated: fx.Graph, trained: fx.Graph | None, modules: dict[str, nn.Module]) -> None:
    """Note in the `meta` of the nodes of `evaluated`, in place, how training differs; None where it has no graph.

    Nodes are paired in their order: a pair has the same target and reads paired nodes. What only training computes (the
    auxiliary heads of Inception) has no pair and no effect, unless it writes into what a pair holds.
    """
    pairs: dict[fx.Node, fx.Node] = {}
    left = [] if trained is None else list(trained.nodes)
    storage = {} if trained is None else storages(trained, modules)
    kept: set[fx.Node] = set()  # of these storages
    for node in evaluated.nodes:
        if node.op == "output":
            place = len(left)
        elif (found := next((n for n, other in enumerate(left) if _is_pair(node, other, pairs)), None)) is None:
            node.meta[UNLIKE_TRAINING] = True
            continue
        else:
            place = found
        if any(_writes_into(kept, other, storage, modules) for other in left[:place]):
            left = []  # of what follows nothing is surely the same
        if not left:
            # of the output its inputs are marked: it is no layer, and an edit bakes in what it reads
            for changed in node.all_input_nodes if node.op == "output" else [node]:
                changed.meta[UNLIKE_TRAINING] = True
            continue
        if node.op != "output":
            pairs[node] = left[place]
            pair_switches(node, left[place])
            if node.op != "get_attr":
                kept.add(storage[left[place]])
            if chosen := _differing(node, left[place]):
                node.meta[IN_TRAINING] = chosen
            left = left[place + 1 :]


def following_mode(graph: fx.Graph) -> fx.Graph:
    """Return the graph to be run by a network of both modes: arguments noted by `note_modes` read its `training`."""
    if not any(IN_TRAINING in node.meta for node in graph.nodes):
        return graph
    copied: dict[fx.Node, fx.Node] = {}
    both = fx.Graph()
    for node in graph.nodes:
        chosen: dict[int | str, fx.Node] = {}
        for key, in_training in node.meta.get(IN_TRAINING, {}).items():
            values = (_argument(node, key), in_training)
            chosen[key] = both.call_function(operator.getitem, (values, both.get_attr("training")))
        copied[node] = node_of_both = both.node_copy(node, copied.__getitem__)
        node_of_both.args = tuple(chosen.get(place, argument) for place, argument in enumerate(node_of_both.args))
        node_of_both.kwargs = {key: chosen.get(key, argument) for key, argument in node_of_both.kwargs.items()}
    return both


def _is_pair(node: fx.Node, other: fx.Node, pairs: dict[fx.Node, fx.Node]) -> bool:
    if (node.op, len(node.args), list(node.kwargs)) != (other.op, len(other.args), list(other.kwargs)):
        return False
    if _comparable_target(node.target) != _comparable_target(other.target):
        return False
    may_choose = node.op in ("call_function", "call_method")
    arguments, other_arguments = [*node.args, *node.kwargs.values()], [*other.args, *other.kwargs.values()]
    return all(
        _reads_the_same(argument, other_argument, pairs)
        or (may_choose and _is_constant_number(argument) and type(argument) is type(other_argument))
        for argument, other_argument in zip(arguments, other_arguments)
    )


def _comparable_target(target: object) -> Any:
    return "constant" if is_constant(target) else target


def _reads_the_same(value: object, other: object, pairs: dict[fx.Node, fx.Node]) -> bool:
    if isinstance(value, fx.Node):
        return pairs.get(value) is other
    if isinstance(value, (tuple, list)) and isinstance(other, (tuple, list)):
        return len(value) == len(other) and all(
            _reads_the_same(part, other_part, pairs) for part, other_part in zip(value, other)
        )
    if isinstance(value, dict) and isinstance(other, dict):
        return list(value) == list(other) and all(_reads_the_same(value[key], other[key], pairs) for key in value)
    if isinstance(value, slice) and isinstance(other, slice):
        return all(_reads_the_same(getattr(value, a), getattr(other, a), pairs) for a in ("start", "stop", "step"))
    return type(value) is type(other) and (value is other or repr(value) == repr(other))


def _is_constant_number(value: object) -> bool:
    return isinstance(value, (bool, int, float))


def _differing(node: fx.Node, other: fx.Node) -> dict[int | str, Any]:
    keys: list[int | str] = [*range(len(node.args)), *node.kwargs]
    values = {key: (_argument(node, key), _argument(other, key)) for key in keys}
    return {
        key: trained
        for key, (evaluated, trained) in values.items()
        if _is_constant_number(evaluated) and repr(evaluated) != repr(trained)
    }


def _argument(node: fx.Node, key: int | str) -> Any:
    return node.args[key] if isinstance(key, int) else node.kwargs[key]


def _writes_into(
    kept: set[fx.Node], node: fx.Node, storage: dict[fx.Node, fx.Node], modules: dict[str, nn.Module]
) -> bool:
    return may_write(node, modules) and any(storage[read] in kept for read in node.all_input_nodes)

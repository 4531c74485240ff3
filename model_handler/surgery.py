"""Surgery: from a traced network to another one with fewer or more layers, the given one left as it was.

Each function takes a network and its trace and gives an `Edited`: a network that runs the new graph on shared weights,
and its trace, in which layers keep the names they had. What users call is in `editing`.
"""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, fx, nn

from model_handler.additions import named_modules
from model_handler.errors import AmbiguousLayerError, ModelError, UntraceableModelError
from model_handler.graph_network import build_network
from model_handler.naming import layer_nodes, split_index
from model_handler.pruning import needed_nodes
from model_handler.replica import set_mode, share_weights
from model_handler.tracing import Trace, default_input_names, trace

__all__ = ["Edited", "add_layer_top", "drop_layer_top", "insert", "refuse_several_outputs", "replace_layer", "truncate"]


@dataclass(frozen=True, eq=False)
class Edited:
    """A network after an edit, and its trace."""

    network: nn.Module
    trace: Trace


def truncate(network: nn.Module, traced: Trace, at: str) -> Edited:
    """End the network at a layer, or at the last output of a container. `at` must be a known name.

    Raises ModelError for a module inside a leaf: the graph has no value there.
    """
    names = _names(network, traced)
    stem, index = (at, None) if at in names else split_index(at)
    if stem in names:
        value: Any = names[stem]
        after = names[stem]
    elif stem in traced.exits:
        value, after = traced.exits[stem]
    else:
        raise ModelError(_no_value(network, traced, stem))
    cut = _cut(network, traced, names, value, after, index)
    return Edited(build_network(network, cut.graph), cut)


def drop_layer_top(network: nn.Module, traced: Trace, n: int) -> Edited:
    """Take the last `n` layers, in order of execution, off the network.

    Raises ModelError for an `n` that is not in 1 to the number of layers less one, or a network of several outputs, and
    AmbiguousLayerError where the layers dropped read more than one of those kept.
    """
    names = _names(network, traced)
    refuse_several_outputs(network, traced, "drop_layer_top")
    _check_number(n, len(names))
    kept, dropped = list(names)[:-n], set(list(names.values())[-n:])
    values = _boundary(traced, dropped, network)
    if len(values) > 1:
        raise AmbiguousLayerError(_ambiguous(traced, names, n, values))
    if not values or values[0].op == "placeholder":
        raise ModelError(f"dropping {n} layers would leave no layer before the output; drop fewer, or truncate(at=...)")
    cut = _cut(network, traced, names, values[0], names[kept[-1]])
    return Edited(build_network(network, cut.graph), cut)


def add_layer_top(network: nn.Module, traced: Trace, modules: Mapping[str, nn.Module]) -> Edited:
    """Run `modules`, one after the other, on the output of the network.

    Their names must be free; their insides become layers too, where they can be traced. Raises ModelError for a network
    of several outputs.
    """
    refuse_several_outputs(network, traced, "add_layer_top")
    output = next(node for node in reversed(traced.graph.nodes) if node.op == "output")
    base = _cut(network, traced, _names(network, traced), output.args[0], output.prev)
    end = next(node for node in reversed(base.graph.nodes) if node.op == "output")
    return _joined(network, base, modules, end.args[0], [end])


def insert(network: nn.Module, traced: Trace, name: str, modules: Mapping[str, nn.Module], *, before: bool) -> Edited:
    """Run `modules`, one after the other, on what a layer returns, or before it on the one value that it reads.

    `name` is a layer, an input of the network, or a container to insert behind; all that used the layer's output uses
    theirs. Raises ModelError if the layer is not on the way to the output, or, with `before`, reads several values.
    """
    output = next(node for node in reversed(traced.graph.nodes) if node.op == "output")
    base = _cut(network, traced, _names(network, traced), output.args[0], output.prev)
    places = {layer: node for node, layer in base.names.items()}
    inputs = {str(node.target): node for node in base.graph.nodes if node.op == "placeholder"}
    exit = None if before else base.exits.get(name)
    node = places.get(name) or (exit[0] if exit else inputs.get(name))
    if not isinstance(node, fx.Node) or not node.users:
        raise ModelError(f"{name!r} is no layer whose output is used on the way to the end of the network")
    if not before:
        return _joined(network, base, modules, node, list(node.users))
    read = [argument for argument in node.all_input_nodes if argument.op != "get_attr"]
    if len(read) != 1:
        labels = {layer: layer_name for layer_name, layer in places.items()}
        raise ModelError(f"{name!r} reads {[_label(one, labels) for one in read]}: insert behind one of these instead")
    return _joined(network, base, modules, read[0], [node])


def replace_layer(network: nn.Module, traced: Trace, name: str, module: nn.Module, *, all_calls: bool) -> Edited:
    """Run `module` in the place of a layer, as one layer and under its path, in each of its calls or in one.

    One call of a shared module cannot keep the path: it gets the name of the module's class. Raises ModelError for an
    operation, for what is not on the way to the output, and for a shared module without a word on which calls.
    """
    output = next(node for node in reversed(traced.graph.nodes) if node.op == "output")
    base = _cut(network, traced, _names(network, traced), output.args[0], output.prev)
    node = next((node for node, layer in base.names.items() if layer == name), None)
    if node is None or node.op != "call_module":
        raise ModelError(f"{name!r} is no module on the way to the output; of a container name its layers")
    modules = dict(network.named_modules(remove_duplicate=False))
    old = modules[str(node.target)]
    called = [one for one in base.graph.nodes if one.op == "call_module" and modules[str(one.target)] is old]
    calls = {base.names[one]: one for one in called}
    if len(calls) > 1 and not all_calls and "@" not in name:
        raise ModelError(f"{name!r} runs {len(calls)} times, as {list(calls)}: all_calls=True, or one with its '@'")
    copied = share_weights(module)
    set_mode(copied, network.training)
    if len(calls) == 1 or all_calls:
        return Edited(build_network(network, base.graph, replaced={str(node.target): copied}), base)
    free = next(iter(named_modules([(None, module)], network, base.names.values())))
    node.target = free
    return Edited(build_network(network, base.graph, {free: copied}), replace(base, names={**base.names, node: free}))


def refuse_several_outputs(network: nn.Module, traced: Trace, edit: str) -> None:
    """Raise ModelError naming the outputs unless the network returns one value."""
    returned = next(node for node in reversed(traced.graph.nodes) if node.op == "output").args[0]
    if not isinstance(returned, fx.Node):
        nodes: list[fx.Node] = []
        fx.map_arg(returned, nodes.append)
        labels = {node: name for name, node in _names(network, traced).items()}
        outputs = [_label(node, labels) for node in nodes]
        kind = "dict" if isinstance(returned, Mapping) else "tuple" if isinstance(returned, tuple) else "list"
        keys = f" under the keys {list(returned)}" if isinstance(returned, Mapping) else ""
        raise ModelError(
            f"{edit} needs a network with one output; this one returns a {kind} of {outputs}{keys}. "
            f"Choose one first: truncate(at={outputs[0] if outputs else '...'!r})"
        )


def _names(network: nn.Module, traced: Trace) -> dict[str, fx.Node]:
    return layer_nodes(traced, dict(network.named_modules(remove_duplicate=False)))


def _check_number(n: int, n_layers: int) -> None:
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise ModelError(f"n must be a whole number of layers, got {n!r}")
    if not 1 <= n < n_layers:
        raise ModelError(f"n must be from 1 to {n_layers - 1}, for the network has {n_layers} layers; got {n}")


def _no_value(network: nn.Module, traced: Trace, name: str) -> str:
    path = name.partition("@")[0]
    for leaf, why in traced.promoted.items():
        if path.startswith(f"{leaf}."):
            return (
                f"{name!r} is inside {leaf!r}, which counts as one layer, for it {_reason(why)}; truncate at {leaf!r}"
            )
    called = {str(node.target) for node in traced.graph.nodes if node.op == "call_module"}
    if outer := next((leaf for leaf in called if path.startswith(f"{leaf}.")), None):
        return f"{name!r} is inside {outer!r}, which counts as one layer; truncate at {outer!r}"
    inside = [layer for layer, node in _names(network, traced).items() if _is_inside(node, path, traced)]
    if inside:
        return f"{name!r} returns an object that a graph cannot hold; truncate at a layer in it, such as {inside[-1]!r}"
    return f"{name!r} does not run in the forward of the network, so nothing can be cut there; see layer_names"


def _reason(why: str) -> str:
    return why if why.startswith(("computes", "writes")) else f"cannot be traced ({why})"


def _boundary(traced: Trace, dropped: set[fx.Node], network: nn.Module) -> list[fx.Node]:
    """The values of kept layers, and inputs, that the dropped part of the network reads on its way to the output."""
    output = next(node for node in reversed(traced.graph.nodes) if node.op == "output")
    modules = dict(network.named_modules(remove_duplicate=False))
    needed = needed_nodes(traced.graph, {output: [output.args[0]]}, modules)
    layers = set(_names(network, traced).values())
    gone: set[fx.Node] = set()
    values: dict[fx.Node, None] = {}
    for node in traced.graph.nodes:
        if node is not output and node not in needed:
            continue
        hangs = node not in layers and any(argument in gone for argument in node.all_input_nodes)
        if not (node in dropped or hangs or node is output):
            continue
        gone.add(node)
        values.update(dict.fromkeys(a for a in node.all_input_nodes if a not in gone and _is_value(a, layers)))
    return list(values)


def _is_value(node: fx.Node, layers: set[fx.Node]) -> bool:
    """Whether a node stands for data: a layer, an input or a part of what a layer returned, but not a size."""
    if node.target is operator.getitem and isinstance(node.args[0], fx.Node):
        return _is_value(node.args[0], layers)
    return node in layers or node.op == "placeholder"


def _ambiguous(traced: Trace, names: Mapping[str, fx.Node], n: int, values: Sequence[fx.Node]) -> str:
    labels = {node: name for name, node in names.items()}
    branches = [_label(node, labels) for node in values]
    calls = [f"truncate(at={_label(node, labels)!r})" for node in values if node.op != "placeholder"]
    return (
        f"dropping {n} layers, from {list(names)[-n]!r} on, cuts through a join: what is dropped reads the branches "
        f"{branches}. Say where the network is to end: {' or '.join(calls)}"
    )


def _label(node: fx.Node, labels: Mapping[fx.Node, str]) -> str:
    if node in labels:
        return labels[node]
    if node.target is operator.getitem and isinstance(node.args[0], fx.Node):
        return f"{_label(node.args[0], labels)}[{node.args[1]}]"
    return f"input {node.target}" if node.op == "placeholder" else node.name


def _cut(
    network: nn.Module,
    traced: Trace,
    names: Mapping[str, fx.Node],
    value: Any,
    after: fx.Node,
    index: int | None = None,
) -> Trace:
    """A trace with its own graph, which computes `value` as it is right after a node, and ends there."""
    modules = dict(network.named_modules(remove_duplicate=False))
    read: list[fx.Node] = []
    fx.map_arg(value, read.append)
    needed = needed_nodes(traced.graph, {after: read}, modules)
    graph = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    for node in traced.graph.nodes:
        if node in needed or node.op == "placeholder":
            copied[node] = graph.node_copy(node, copied.__getitem__)
            copied[node].type = None  # a class that an annotation names may not be found again after pickling
    owners = {mine: traced.owners[node] for node, mine in copied.items()}
    exits = _kept_exits(traced, copied, read)
    returned = fx.map_arg(value, copied.__getitem__)
    if index is not None and isinstance(returned, (tuple, list)):
        returned = returned[index]
    elif index is not None:
        returned = graph.call_function(operator.getitem, (returned, index))
        owners[returned] = ""
    graph.output(returned)
    kept_names = {copied[node]: name for name, node in names.items() if node in copied}
    return replace(traced, graph=graph, owners=owners, exits=exits, names=kept_names)


def _kept_exits(
    traced: Trace, copied: Mapping[fx.Node, fx.Node], ends: Sequence[fx.Node]
) -> dict[str, tuple[Any, fx.Node]]:
    """What containers return now: as before where that was kept, the end of the network where the cut is inside."""
    order = {node: number for number, node in enumerate(traced.graph.nodes)}
    exits: dict[str, tuple[Any, fx.Node]] = {}
    for path, (value, after) in traced.exits.items():
        read: list[fx.Node] = []
        fx.map_arg(value, read.append)
        if all(node in copied for node in read):
            last = max((node for node in copied if order[node] <= order[after]), key=order.__getitem__)
            exits[path] = (fx.map_arg(value, copied.__getitem__), copied[last])
        elif len(ends) == 1 and _is_inside(ends[0], path, traced):
            exits[path] = (copied[ends[0]], copied[ends[0]])
    return exits


def _is_inside(node: fx.Node, path: str, traced: Trace) -> bool:
    owner = traced.owners[node]
    return owner == path or owner.startswith(f"{path}.")


def _joined(
    network: nn.Module, base: Trace, modules: Mapping[str, nn.Module], value: fx.Node, users: Sequence[fx.Node]
) -> Edited:
    """Run `modules` on `value`, before the first of `users`, and give these the result; `base` is used up by it."""
    graph, owners, exits = base.graph, dict(base.owners), dict(base.exits)
    top_network, top = _traced_top(modules, network.training)
    constants: dict[str, Tensor] = {}
    copied: dict[fx.Node, Any] = {}
    order = {node: number for number, node in enumerate(graph.nodes)}
    with graph.inserting_before(min(users, key=order.__getitem__)):
        for node in top.graph.nodes:
            if node.op == "placeholder":
                copied[node] = value
            elif node.op == "output":
                result = fx.map_arg(node.args[0], copied.__getitem__)
            else:
                copied[node] = graph.node_copy(node, copied.__getitem__)
                copied[node].type = None
                owners[copied[node]] = top.owners[node]
                if str(node.target).startswith("_tensor_constant"):
                    copied[node].target = name = _free_constant(network, constants)
                    constants[name] = getattr(top_network, str(node.target))
    for user in users:
        user.args = fx.map_arg(user.args, lambda read: result if read is value else read)
        user.kwargs = fx.map_arg(user.kwargs, lambda read: result if read is value else read)
    for path, (inside, after) in top.exits.items():
        exits[path] = (fx.map_arg(inside, copied.__getitem__), copied[after])
    names = {**base.names, **{copied[node]: name for name, node in _names(top_network, top).items()}}
    edited = Trace(graph, base.input_names, owners, exits, {**base.promoted, **top.promoted}, names)
    return Edited(build_network(network, graph, dict(top_network.named_children()), constants), edited)


def _traced_top(modules: Mapping[str, nn.Module], training: bool) -> tuple[nn.Module, Trace]:
    """The modules, structure copied and weights shared, in a row and in the mode of the network."""
    top = nn.Sequential()
    for name, module in modules.items():
        top._modules[name] = share_weights(module)
    set_mode(top, training)
    try:
        return top, trace(top, default_input_names(top))
    except UntraceableModelError as error:
        raise ModelError(f"the added modules cannot be run one after the other: {error}") from error


def _free_constant(network: nn.Module, taken: Mapping[str, Tensor]) -> str:
    number = 0
    while hasattr(network, f"_tensor_constant{number}") or f"_tensor_constant{number}" in taken:
        number += 1
    return f"_tensor_constant{number}"

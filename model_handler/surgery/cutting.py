"""Cutting: layers come off the top or the bottom of a traced network, and with them all that only they needed.

The cut leaves one value: where the part taken off and the part kept meet in several, it is refused by name.
"""

import operator
from collections.abc import Mapping, Sequence

from torch import fx, nn

from model_handler.errors import AmbiguousLayerError, ModelError
from model_handler.graph.dependencies import may_write, needed_by_output, needed_nodes, storages, writes_into
from model_handler.graph.graph_network import OWN_INPUT, build_network
from model_handler.graph.leaves import last_of_list
from model_handler.graph.naming import split_index
from model_handler.graph.nodes import nodes_in, output_node
from model_handler.graph.tracing import Trace
from model_handler.surgery.draft import (
    Draft,
    Edited,
    End,
    Site,
    is_inside,
    label,
    names_of,
    refuse_inside_of_layer,
    single_output,
)

__all__ = ["drop_layer_bottom", "drop_layer_top", "truncate"]


def truncate(network: nn.Module, traced: Trace, at: Sequence[str]) -> Edited:
    """End the network at a layer, or at the last output of a container; with several it returns a tuple of them.

    `at` must be known names. Raises ModelError for a module inside a leaf: the graph has no value there.
    """
    ends = [_end_at(network, traced, name) for name in at]
    if len(ends) == 1:
        return _ended(network, traced, *ends[0])
    modules = _modules(network)
    reads: dict[fx.Node, list[fx.Node]] = {}
    for value, after, _ in ends:
        reads.setdefault(after, []).extend(nodes_in(value))
    needed = needed_nodes(traced.graph, reads, modules)
    draft = Draft(network, traced)
    draft.take({node for node in traced.graph.nodes if node in needed or node.op == "placeholder"})
    cut = draft.finish_several(ends, lambda value, after: _is_written_behind(traced, needed, value, after, modules))
    return Edited(build_network(network, cut.graph), cut)


def drop_layer_top(network: nn.Module, traced: Trace, n: int) -> Edited:
    """Take the last `n` layers, in order of execution, off the network.

    Raises ModelError for an `n` that is not in 1 to the number of layers less one, or a network of several outputs, and
    AmbiguousLayerError where the layers dropped read more than one of those kept.
    """
    names = names_of(network, traced)
    single_output(network, traced, "drop_layer_top")
    _check_number(n, len(names))
    kept, dropped = list(names)[:-n], set(list(names.values())[-n:])
    values = _read_above(network, traced, dropped)
    if len(values) > 1:
        raise AmbiguousLayerError(_ambiguous_top(names, n, values))
    if not values or values[0].op == "placeholder":
        raise ModelError(f"dropping {n} layers would leave no layer before the output; drop fewer, or truncate(at=...)")
    order = {node: number for number, node in enumerate(traced.graph.nodes)}
    last = max(names[kept[-1]], values[0], key=order.__getitem__)  # a part of what a layer returned comes after it
    return _ended(network, traced, values[0], last)


def drop_layer_bottom(network: nn.Module, traced: Trace, n: int) -> tuple[Edited, Site]:
    """Take the first `n` layers off; the one value that the others read of them becomes the input.

    Gives also that value and its readers, nodes of `traced`. The new input keeps the name of the old one. Raises
    ModelError as `drop_layer_top` and for a network of several inputs, and AmbiguousLayerError where the layers kept
    read more than one value of those dropped, or the old input beside one.
    """
    names = names_of(network, traced)
    if len(traced.input_names) > 1:
        raise ModelError(
            f"drop_layer_bottom needs a network with one input; this one has {list(traced.input_names)}, and which of "
            f"them the layers are to be taken from is not known: put replace(name, torch.nn.Identity()) in their places"
        )
    _check_number(n, len(names))
    needed = needed_by_output(traced.graph, _modules(network))
    kept, values = _read_below(traced, needed, names, n)
    if len(values) != 1:
        sides = (range(n - 1, 0, -1), range(n + 1, len(names)))
        nearest = [
            next((m for m in side if len(_read_below(traced, needed, names, m)[1]) == 1), None) for side in sides
        ]
        raise AmbiguousLayerError(_ambiguous_bottom(names, n, list(values), [m for m in nearest if m]))
    ((value, readers),) = values.items()
    draft = Draft(network, traced)
    draft.entries[value] = entry = draft.graph.placeholder(traced.input_names[0])
    draft.take(kept)
    cut = draft.finish(output_node(traced.graph).args[0])
    cut.owners[entry] = ""
    # what was an inner value is the caller's tensor now, and not to be written into
    if writes_into(cut.graph, entry, _modules(network)):
        entry.meta[OWN_INPUT] = True
    order = list(traced.graph.nodes)
    site = Site(value, tuple(sorted(readers, key=order.index)))
    return Edited(build_network(network, cut.graph), cut), site


def _ended(network: nn.Module, traced: Trace, value: object, after: fx.Node, index: int | None = None) -> Edited:
    """Return a network that computes `value` as it is right after a node, or its part at `index`, and returns it."""
    needed = needed_nodes(traced.graph, {after: nodes_in(value)}, _modules(network))
    draft = Draft(network, traced)
    draft.take({node for node in traced.graph.nodes if node in needed or node.op == "placeholder"})
    cut = draft.finish(value, index)
    return Edited(build_network(network, cut.graph), cut)


def _end_at(network: nn.Module, traced: Trace, at: str) -> End:
    """Find the value of a layer or a container, the node after which it is complete, and which part of it is meant."""
    names = names_of(network, traced)
    stem, index = (at, None) if at in names else split_index(at)
    if stem not in names and stem not in traced.exits:
        stem = last_of_list(stem, _modules(network))
    if stem in names:
        return names[stem], names[stem], index
    if stem in traced.exits:
        return (*traced.exits[stem], index)
    raise ModelError(_no_value(network, traced, stem))


def _is_written_behind(
    traced: Trace, needed: set[fx.Node], value: object, after: fx.Node, modules: dict[str, nn.Module]
) -> bool:
    """Tell whether something that stays may write into a value after it is complete."""
    order = list(traced.graph.nodes)
    behind = [node for node in order[order.index(after) + 1 :] if node in needed and may_write(node, modules)]
    storage = storages(traced.graph, modules)
    held = {storage[node] for node in nodes_in(value)}
    return any(storage[argument] in held for node in behind for argument in node.all_input_nodes)


def _modules(network: nn.Module) -> dict[str, nn.Module]:
    return dict(network.named_modules(remove_duplicate=False))


def _no_value(network: nn.Module, traced: Trace, name: str) -> str:
    path = name.partition("@")[0]
    refuse_inside_of_layer(traced, path)
    inside = [layer for layer, node in names_of(network, traced).items() if is_inside(node, path, traced)]
    if inside:
        return f"{name!r} returns an object that a graph cannot hold; truncate at a layer in it, such as {inside[-1]!r}"
    return f"{name!r} does not run in the forward of the network, so nothing can be cut there; see layer_names"


def _check_number(n: int, n_layers: int) -> None:
    try:
        operator.index(n)
    except TypeError:
        is_whole_number = False
    else:
        is_whole_number = not isinstance(n, bool)
    if not is_whole_number:
        raise ModelError(f"n must be a whole number of layers, got {n!r}")
    if n_layers < 2:
        raise ModelError(
            f"the network has {n_layers} layer{'s' if n_layers != 1 else ''}: none can be dropped, got n={n}"
        )
    if not 1 <= n < n_layers:
        raise ModelError(f"n must be from 1 to {n_layers - 1}, for the network has {n_layers} layers; got {n}")


def _read_above(network: nn.Module, traced: Trace, dropped: set[fx.Node]) -> list[fx.Node]:
    """Find the values of kept layers, and inputs, that the dropped part of the network reads towards the output."""
    output = output_node(traced.graph)
    needed = needed_by_output(traced.graph, _modules(network))
    layers = set(names_of(network, traced).values())
    gone: set[fx.Node] = set()
    values: dict[fx.Node, None] = {}
    for node in traced.graph.nodes:
        if node is not output and node not in needed:
            continue
        # what is no layer goes with what it reads: a size or a part of an output that is dropped
        hangs = node not in layers and any(argument in gone for argument in node.all_input_nodes)
        if not (node in dropped or hangs or node is output):
            continue
        gone.add(node)
        values.update(dict.fromkeys(a for a in node.all_input_nodes if a not in gone and _is_value(a, layers)))
    return list(values)


def _read_below(
    traced: Trace, needed: set[fx.Node], names: Mapping[str, fx.Node], n: int
) -> tuple[set[fx.Node], dict[fx.Node, list[fx.Node]]]:
    """Find what stays when the first `n` layers go, and each value or input of these it reads, with its readers."""
    layers = list(names.values())
    below, above = set(layers[:n]), set(layers[n:])
    pending = [node for node in traced.graph.nodes if node.op == "output" or (node in above and node in needed)]
    kept = set(pending)
    values: dict[fx.Node, list[fx.Node]] = {}
    while pending:
        node = pending.pop()
        for argument in node.all_input_nodes:
            origin = _whole_output(argument)
            if origin in below or origin.op == "placeholder":
                values.setdefault(argument, []).append(node)
            elif argument not in kept:  # a size, a part of an output, a parameter
                kept.add(argument)
                pending.append(argument)
    return kept, values


def _whole_output(node: fx.Node) -> fx.Node:
    """Return the node of which a node is a part."""
    while node.target is operator.getitem and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node


def _is_value(node: fx.Node, layers: set[fx.Node]) -> bool:
    """Return whether a node stands for data: a layer, an input or a part of what a layer returned, but not a size."""
    return node in layers or _whole_output(node) in layers or _whole_output(node).op == "placeholder"


def _ambiguous_top(names: Mapping[str, fx.Node], n: int, values: Sequence[fx.Node]) -> str:
    branches = [label(node, names) for node in values]
    calls = [f"truncate(at={label(node, names)!r})" for node in values if node.op != "placeholder"]
    return (
        f"dropping {n} layers, from {list(names)[-n]!r} on, cuts through a join: what is dropped reads the branches "
        f"{branches}. Say where the network is to end: {' or '.join(calls)}"
    )


def _ambiguous_bottom(names: Mapping[str, fx.Node], n: int, values: Sequence[fx.Node], nearest: Sequence[int]) -> str:
    branches = [label(node, names) for node in values]
    calls = [f"drop_layer_bottom({m})" for m in nearest]
    instead = f"This leaves one: {' or '.join(calls)}" if calls else "No other number of layers leaves one either"
    return (
        f"dropping the first {n} layers, up to {list(names)[n - 1]!r}, leaves a network that reads not one value but "
        f"{len(branches)}: the branches {branches}. {instead}"
    )

"""Flow: the layers of one state of a network and what each of them reads, from its graph or, without one, in a chain.

How states are compared is in `changes`, how layers become boxes in `collapsing`.
"""

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor, fx, nn

from model_handler.extraction.backends import HookBackend, TracedBackend
from model_handler.graph.dependencies import unused_writers
from model_handler.graph.naming import layer_nodes
from model_handler.graph.tracing import Trace
from model_handler.surgery.edit_history import State

__all__ = ["Flow", "Key", "Layer", "flow_of"]

Key = tuple[Literal["input", "layer", "dropped", "output"], str]  # "dropped": a layer of the source

_OUTPUT: Key = ("output", "output")


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer, an input or the output. `parts` is its place in the tree of containers, the name in it last.

    `module` is None for operations, inputs and outputs; `path` is the module's, without the suffix of a repeat.
    """

    name: str
    parts: tuple[str, ...]
    type: str
    module: nn.Module | None = None
    path: str = ""
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Flow:
    """Layers in order of execution, inputs first and the output last, and the pairs (from, to) that data takes.

    `ends` gives containers the layer whose output is theirs, where there is one.
    """

    layers: dict[Key, Layer]
    links: tuple[tuple[Key, Key], ...]
    ends: Mapping[str, str]


def flow_of(state: State) -> Flow:
    """Return the flow of a state; inputs have the shapes of its example inputs."""
    backend = state.engine.backend
    inputs = _input_layers(backend.input_names, state.example_inputs)
    if isinstance(backend, HookBackend):
        return _flow_of_chain(backend, inputs, state.shapes)
    return _flow_of_graph(backend, inputs, state.shapes)


def _input_layers(names: Iterable[str], example_inputs: object) -> dict[Key, Layer]:
    names = list(names)
    parts = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    given = example_inputs if isinstance(example_inputs, Mapping) else dict(zip(names, parts))
    shapes = {name: tuple(part.shape) for name, part in given.items() if isinstance(part, Tensor)}
    return {("input", name): Layer(name, (name,), "input", shape=shapes.get(name)) for name in names}


def _flow_of_chain(backend: HookBackend, inputs: dict[Key, Layer], shapes: Mapping[str, tuple[int, ...]]) -> Flow:
    layers = dict(inputs)
    for name, module in backend.layers.items():
        path = name.partition("@")[0]
        kind = type(module).__name__
        layers["layer", name] = Layer(
            name,
            tuple(path.split(".")),
            kind,
            module if isinstance(module, nn.Module) else None,
            path,
            shapes.get(name),
        )
    layers[_OUTPUT] = Layer("output", ("output",), "output")
    chain = list(layers)[max(len(inputs) - 1, 0) :]
    links = [(key, chain[1]) for key in list(inputs)[:-1]] + list(pairwise(chain))
    return Flow(layers, tuple(links), {})


def _flow_of_graph(backend: TracedBackend, inputs: dict[Key, Layer], shapes: Mapping[str, tuple[int, ...]]) -> Flow:
    trace = backend.trace
    names = {node: name for name, node in layer_nodes(trace, backend.modules).items()}
    types = {name: layer if isinstance(layer, str) else type(layer).__name__ for name, layer in backend.layers.items()}
    writers = unused_writers(trace.graph, backend.modules)
    layers = dict(inputs)
    data: dict[fx.Node, tuple[Key, ...]] = {}  # the layers whose output a node is or holds
    sizes: dict[fx.Node, tuple[Key, ...]] = {}  # those that it depends on in any way
    links: dict[tuple[Key, Key], None] = {}
    for node in trace.graph.nodes:
        depends = _united(sizes[argument] for argument in node.all_input_nodes)
        reads = _united(data[argument] for argument in node.all_input_nodes)
        if node.op == "placeholder":
            data[node] = sizes[node] = (("input", str(node.target)),)
        elif node in names:
            key: Key = ("layer", names[node])
            layers[key] = _layer(node, names[node], types[names[node]], backend, shapes)
            links.update(dict.fromkeys((source, key) for source in reads or depends))
            data[node] = sizes[node] = (key,)
            if node in writers:
                data[node.all_input_nodes[0]] = (key,)
        elif node.op == "output":
            layers[_OUTPUT] = Layer("output", ("output",), _returned(node.args[0]))
            links.update(dict.fromkeys((source, _OUTPUT) for source in reads))
        else:
            data[node] = reads if node.target is operator.getitem else ()
            sizes[node] = depends
    return Flow(layers, tuple(links), _ends(trace, names))


def _united(groups: Iterable[tuple[Key, ...]]) -> tuple[Key, ...]:
    return tuple(dict.fromkeys(key for group in groups for key in group))


def _layer(node: fx.Node, name: str, kind: str, backend: TracedBackend, shapes: Mapping[str, tuple[int, ...]]) -> Layer:
    owner = backend.trace.owners[node]
    if node.op != "call_module":
        inside = owner and name.startswith(f"{owner}.")
        parts = (*owner.split("."), name.removeprefix(f"{owner}.")) if inside else tuple(name.split("."))
        return Layer(name, parts, kind, shape=shapes.get(name))
    path = str(node.target)
    parts = tuple(path.split("."))
    if owner and not path.startswith(f"{owner}."):  # a shared module, run by a container that it is not registered in
        parts = (*owner.split("."), parts[-1])
    return Layer(name, parts, kind, backend.modules[path], path, shapes.get(name))


def _returned(value: object) -> str:
    """Return what a network returns, in words, where that is not one tensor."""
    if isinstance(value, Mapping):
        return f"dict: {', '.join(map(str, value))}"
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, (tuple, list)) else "output"


def _ends(trace: Trace, names: Mapping[fx.Node, str]) -> dict[str, str]:
    return {path: names[value] for path, (value, _) in trace.exits.items() if value in names}

"""Splitting: where the frozen part of a network ends, and the network split there into what is fixed and what learns.

The frozen part is the largest set of nodes that depend on the inputs through frozen nodes alone (`constant_nodes` says
which are); the frontier is what the rest reads of it. Of the equal ways to draw the line the one with the fewest
numbers is taken: cheap operations at the end that make more of what they read are left to the rest. The prefix computes
the frontier in evaluation mode without autograd; `rest` takes it from there, on the network's own parameters. What is
done with either while training is not known here.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from model_handler.errors import ModelError
from model_handler.extraction.backends import TracedBackend
from model_handler.extraction.engine import NETWORK_LOCK, Engine
from model_handler.frozen_prefix.constant_nodes import (
    N_ROWS,
    closed,
    differs_in_training,
    layer_of,
    observe,
    variable,
)
from model_handler.frozen_prefix.frontier import Frontier, SplitsItself
from model_handler.graph.dependencies import may_write, storages, writes_into
from model_handler.graph.graph_network import OWN_INPUT, build_network
from model_handler.graph.leaves import is_leaf
from model_handler.graph.modes import UNLIKE_TRAINING
from model_handler.graph.nodes import nodes_in
from model_handler.network.inputs import NamedInputs
from model_handler.network.precision import computing_in
from model_handler.network.replica import set_mode, share_weights
from model_handler.network.tensors import tensors_of

__all__ = ["Split", "split"]


@dataclass(frozen=True, eq=False)
class _FrontierOfGraph(Frontier):
    """The frontier of a traced network, whose engine computes it."""

    _engine: Engine
    _nodes: tuple[fx.Node, ...]
    _layers: frozenset[str]

    def values(self, inputs: object, *, folded: bool = True) -> tuple[Tensor, ...]:
        with NETWORK_LOCK, torch.no_grad():
            return tuple(self._engine.values(inputs, self._nodes, folded=folded))

    def n_flops(self, inputs: object) -> int:
        with NETWORK_LOCK:
            flops = self._engine.profile(inputs).flops
        return sum(counted for name, counted in flops.items() if name in self._layers)


@dataclass(frozen=True, eq=False)
class Split:
    """What came of splitting a network: a frontier, or None and the reason."""

    frontier: Frontier | None
    reason: str = ""


def split(
    network: nn.Module,
    inputs: object,
    *,
    input_names: Sequence[str] | None = None,
    precision: str = "float32",
    fixed_sizes: bool = True,
) -> Split:
    """Split a network where its frozen part ends; the network is left as it is.

    Parameters
    ----------
    network : nn.Module
        A network such as `ModelHandler.get_module` hands out: frozen is what it held so. It may be in either mode.
    inputs : tensor, tuple of tensors or dict of tensors
        A batch of what it is trained on; one or two rows of it are run.
    input_names : sequence of str, optional
        The arguments of `forward` that are inputs, where the ones without a default are not meant.
    precision : "float32" or "bfloat16"
        What training computes in, as in `ModelHandler`.
    fixed_sizes : bool
        Whether all rows are of the shape of these; where not, sizes that the rest needs are computed by the rest.
    """
    device = next((tensor.device for tensor in tensors_of(network)), torch.device("cpu"))
    with NETWORK_LOCK:
        try:
            if isinstance(network, SplitsItself):
                return Split(network.frontier(inputs, precision=precision, fixed_sizes=fixed_sizes))
            engine = Engine(network, device, input_names, precision=precision)
            named = engine.prepare_inputs(inputs)
            # the rest is trained on the graph, so its gradients must be those of the network
            engine.hold_gradients()
            if not isinstance(engine.backend, TracedBackend):
                return Split(None, engine.untraceable)
            _refuse_unlike(network, engine, named)
            with torch.inference_mode(False):
                return Split(_FrontierSearch(engine, engine.backend, named, fixed_sizes).frontier())
        except ModelError as error:
            return Split(None, str(error))
        except (RuntimeError, ValueError, TypeError) as error:  # of a layer: training will explain it
            return Split(None, f"the network fails on the first rows: {str(error).splitlines()[0]}")


def _refuse_unlike(network: nn.Module, engine: Engine, inputs: NamedInputs) -> None:
    """Raise ModelError where the graph of evaluation is not what the network does while it trains."""
    graph = cast(TracedBackend, engine.backend).trace.graph
    if unlike := [layer_of(node) for node in graph.nodes if UNLIKE_TRAINING in node.meta]:
        raise ModelError(f"in training the network computes something else at {unlike[0]!r}")
    called = {str(node.target) for node in graph.nodes if node.op == "call_module"}
    inside = tuple(f"{path}." for path in called)
    for path, module in network.named_modules():
        # a container's hook would not run in a network that is cut in two inside it
        watched = (
            module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
        )
        if watched and path not in called and not path.startswith(inside) and not is_leaf(module):
            raise ModelError(f"a hook sits on {path or 'the network'!r}, which is more than one layer")
    if difference := differs_in_training(engine.network, engine.device, inputs):
        raise ModelError(difference)


class _FrontierSearch:
    """Looks for the line through the graph of one network behind which it has to be trained."""

    def __init__(self, engine: Engine, backend: TracedBackend, inputs: Any, fixed_sizes: bool) -> None:
        self.engine = engine
        self.backend = backend
        self.fixed_sizes = fixed_sizes
        self.graph = backend.trace.graph
        self.order = {node: number for number, node in enumerate(self.graph.nodes)}
        # What varies is judged in training: there alone dropout that is not frozen, and moving statistics, show.
        replica = share_weights(engine.network)
        set_mode(replica, True)
        self.modules = dict(replica.named_modules(remove_duplicate=False))
        self.storage = storages(self.graph, self.modules)
        writers = [node for node in self.graph.nodes if node.op != "output" and may_write(node, self.modules)]
        self.written = {node: {self.storage[argument] for argument in node.all_input_nodes} for node in writers}
        self.excluded = variable(self.graph, self.modules)
        candidates = closed(self.graph, self.excluded, self.modules, self.storage)
        self._refuse_nothing(candidates)  # before the network is run for it
        with computing_in(engine.precision, engine.device):
            self.seen, varying = observe(engine.network, engine.device, self.graph, candidates, inputs)
        self.excluded.update(varying)

    def frontier(self) -> Frontier:
        """Return the frontier with the fewest numbers. Raises ModelError where there is none."""
        part = self._largest()
        self._refuse_nothing(part)
        part = self._cheapest(part)
        values = self._values(part)
        rest = build_network(self.engine.network, self._graph_of_rest(part, values))
        layers = [node for node in self.backend.nodes if node in part]
        return _FrontierOfGraph(
            tuple(map(layer_of, values)),
            tuple(self.seen[node].rows or () for node in values),
            tuple(self.seen[node].dtype or torch.float32 for node in values),
            rest,
            layer_of(next((node for node in reversed(layers) if node.op == "call_module"), layers[-1])),
            len(layers),
            self.engine,
            tuple(values),
            frozenset(map(layer_of, layers)),
        )

    def _largest(self) -> set[fx.Node]:
        """Return the largest frozen part of which all that is read can be handed over."""
        excluded = set(self.excluded)
        while True:
            # taking a node out may leave others without what they read, so the part is closed again until it fits
            part = closed(self.graph, excluded, self.modules, self.storage)
            if not (wrong := self._unfit(part)):
                return part
            excluded |= wrong

    def _unfit(self, part: set[fx.Node]) -> set[fx.Node]:
        """Return nodes of a frozen part that the rest has to compute: what has no rows, or would be overwritten."""
        read = self._read_by_rest(part)
        wrong = {node for node in read if self.seen[node].rows is None and not self._is_known_size(node)}
        values = [node for node in read if self.seen[node].rows is not None]
        for writer, written in self.written.items():
            overwritten = [value for value in values if self.storage[value] in written]
            # The rest may write into one value, of which it gets a copy; two that share memory would no longer do so.
            if writer not in part:
                wrong.update(overwritten[1:])
            # inside the part a later write would change a value before it is handed over
            elif any(self.order[value] < self.order[writer] for value in overwritten):
                wrong.add(writer)
        return wrong

    def _cheapest(self, part: set[fx.Node]) -> set[fx.Node]:
        """Return the part without the operations at its end that make more numbers of those they read."""
        while True:
            best, size = part, self._bytes_a_row(part)
            # greedy from each end: numbers can grow before they shrink again, so every step is tried
            for last in self._read_by_rest(part):
                smaller, left = part, [last]
                while left:
                    node = left.pop()
                    if node in smaller and self._can_go(node, smaller):
                        smaller = smaller - {node}
                        left.extend(node.all_input_nodes)
                        if not self._unfit(smaller) and self._bytes_a_row(smaller) < size:
                            best, size = smaller, self._bytes_a_row(smaller)
            if best is part:
                return part
            part = best

    def _can_go(self, node: fx.Node, part: set[fx.Node]) -> bool:
        """Return whether nothing in a part reads a node, and computing it is next to nothing."""
        return node.op != "placeholder" and not self._has_weights(node) and part.isdisjoint(node.users)

    def _read_by_rest(self, part: Collection[fx.Node]) -> list[fx.Node]:
        """Return what the rest reads of a part."""
        return [node for node in self.graph.nodes if node in part and any(user not in part for user in node.users)]

    def _values(self, part: Collection[fx.Node]) -> list[fx.Node]:
        return [node for node in self._read_by_rest(part) if self.seen[node].rows is not None]

    def _bytes_a_row(self, part: Collection[fx.Node]) -> int:
        return sum(self.seen[node].n_bytes for node in self._read_by_rest(part))

    def _is_known_size(self, node: fx.Node) -> bool:
        size = self.seen[node].size
        return self.seen[node].is_size and (self.fixed_sizes or size is N_ROWS)

    def _has_weights(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return next(self.modules[str(node.target)].parameters(), None) is not None
        return any(argument.op == "get_attr" for argument in node.all_input_nodes)

    def _refuse_nothing(self, part: Collection[fx.Node]) -> None:
        """Raise ModelError where a frozen part has no weights."""
        if any(map(self._has_weights, part)):
            return
        if (first := next((node for node in self.graph.nodes if node in self.excluded), None)) is None:
            raise ModelError("the network has no frozen layer with weights")
        raise ModelError(f"no layer with weights is frozen before {layer_of(first)!r}, which {self.excluded[first]}")

    def _graph_of_rest(self, part: Collection[fx.Node], values: Sequence[fx.Node]) -> fx.Graph:
        """Return the graph of what is not in a part, with the values as its inputs."""
        rest = fx.Graph()
        copied: dict[fx.Node, Any] = {
            node: rest.placeholder(f"frontier_{number}") for number, node in enumerate(values)
        }
        n_rows = None
        for node in self._read_by_rest(part):
            if node not in copied:
                size = self.seen[node].size
                if n_rows is None and _holds_n_rows(size):
                    # sizes that follow the batch are asked of a value, as a batch of training may have other rows
                    n_rows = rest.call_method("size", (copied[values[0]], 0))
                copied[node] = _with_n_rows(size, n_rows)
        for node in self.graph.nodes:
            if node not in part and node.op != "placeholder":
                copied[node] = _copy_node(rest, node, copied)
        rest.lint()
        # values that are kept for all epochs must survive what the rest writes into its inputs
        for node in [copied[value] for value in values]:
            if writes_into(rest, node, self.modules):
                node.meta[OWN_INPUT] = True
        return rest


def _copy_node(graph: fx.Graph, node: fx.Node, copied: dict[fx.Node, Any]) -> fx.Node:
    """Copy a node as `Graph.node_copy` does, where an argument may have become a plain value."""
    if all(isinstance(copied[argument], fx.Node) for argument in nodes_in((node.args, node.kwargs))):
        return graph.node_copy(node, copied.__getitem__)
    args = cast(tuple[Any, ...], fx.map_arg(node.args, copied.__getitem__))
    kwargs = cast(dict[str, Any], fx.map_arg(node.kwargs, copied.__getitem__))
    made = graph.create_node(node.op, node.target, args, kwargs, node.name, node.type)
    made.meta = dict(node.meta)
    return made


def _holds_n_rows(size: object) -> bool:
    return size is N_ROWS or (isinstance(size, (tuple, list)) and any(map(_holds_n_rows, size)))


def _with_n_rows(size: object, n_rows: fx.Node | None) -> Any:
    if isinstance(size, (tuple, list)):
        return type(size)([_with_n_rows(part, n_rows) for part in size])
    return n_rows if size is N_ROWS else size

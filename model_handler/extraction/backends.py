"""Backends find and run the layers of a network: by its traced graph (torch.fx), or by hooks on its modules.

Both list layers and build programs; only the traced one knows functional operations and will carry edits.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from model_handler.errors import ModelError
from model_handler.extraction.batchnorm_fusion import BatchNormFusion
from model_handler.extraction.pooling import Pooling, Wanted
from model_handler.extraction.programs import HookedProgram, Program, Tap, Tapped, TracedProgram
from model_handler.extraction.recording import Found, GraphRun, Record, record_calls
from model_handler.graph.graph_network import Part
from model_handler.graph.inlining import Inlined, inline
from model_handler.graph.leaves import is_leaf, last_of_list, outermost_leaves, reachable
from model_handler.graph.naming import layer_nodes, operation_name, split_index
from model_handler.graph.tracing import Trace
from model_handler.network.inputs import NamedInputs, own_inputs
from model_handler.network.truncated_network import Stop

__all__ = ["DryRun", "HookBackend", "TracedBackend"]


@dataclass(frozen=True, eq=False)
class DryRun:
    """One full run: what the network returned, and what was seen of its layers.

    `shapes` gives each layer and container the shape of its (last) output, where that is one tensor; `flops` gives each
    layer its FLOPs, and `outside` gives them for what modules compute in their own `forward`, in no layer.
    """

    output: Any
    shapes: dict[str, tuple[int, ...]]
    flops: dict[str, int] = field(default_factory=dict)
    outside: dict[str, int] = field(default_factory=dict)


class TracedBackend:
    """Layers of a traced graph: modules and functional operations in order of execution."""

    def __init__(self, network: nn.Module, trace: Trace) -> None:
        self.trace = trace
        self.input_names = trace.input_names
        self.modules = reachable(network)
        self._nodes = layer_nodes(trace, self.modules)
        for name, node in self._nodes.items():
            node.meta["layer"] = name  # for errors
        self._hooks = HookBackend(network, trace.input_names)
        self._network = network
        self._inlined: Inlined | None = None

    @property
    def nodes(self) -> list[fx.Node]:
        """The nodes of the layers, in order."""
        return list(self._nodes.values())

    @property
    def layers(self) -> dict[str, nn.Module | str]:
        """Each layer's name with its module, or with the name of its operation."""
        return {
            name: self.modules[str(node.target)] if node.op == "call_module" else operation_name(node)
            for name, node in self._nodes.items()
        }

    def knows(self, name: str) -> bool:
        """Return whether `name` is a layer, a module, a repeat of one or a part of its output."""
        stem = name if name in self._nodes else split_index(name)[0]
        path, at, _ = stem.partition("@")
        return stem in self._nodes or (not (at and path in self._nodes) and self._hooks.knows(name))

    def last_node(self, name: str) -> fx.Node | None:
        """Return the node after which a layer's or a container's output is complete; None inside a leaf."""
        stem = name if name in self._nodes else split_index(name)[0]
        if stem not in self._nodes and stem not in self.trace.exits:
            stem = last_of_list(stem, self.modules)
        exit = self.trace.exits.get(stem)
        return self._nodes.get(stem) or (exit[1] if exit else None)

    def value_before(self, workspace: nn.Module, inputs: NamedInputs, value: fx.Node, reader: fx.Node) -> Any:
        """Return a copy of what a node holds when another one is about to read it."""
        try:
            GraphRun(workspace, self.trace.graph, sought=(value, reader)).run(*inputs.values())
        except Found as found:
            return found.value
        raise RuntimeError(f"{reader} is no node of this graph")

    def dry_run(self, workspace: nn.Module, inputs: NamedInputs, count: Callable[[], int] = lambda: 0) -> DryRun:
        """Run the whole graph; `count` gives the FLOPs so far."""
        run = GraphRun(workspace, self.trace.graph, count)
        output = run.run(*inputs.values())
        # a container whose end is no single node returns several values, and has no shape
        ends = {path: value for path, (value, _) in self.trace.exits.items() if isinstance(value, fx.Node)}
        shapes = {name: run.shapes[node] for name, node in {**ends, **self._nodes}.items() if node in run.shapes}
        flops = {name: run.flops.pop(node) for name, node in self._nodes.items()}
        outside: dict[str, int] = {}
        for node, counted in run.flops.items():
            path = self.trace.owners.get(node, "")
            outside[path] = outside.get(path, 0) + counted
        return DryRun(output, shapes, flops, {path: counted for path, counted in outside.items() if counted})

    def in_order(self, names: Iterable[str]) -> list[str]:
        """Sort layers and containers by when they are complete, a container behind what is in it."""
        order = {node: number for number, node in enumerate(self.trace.graph.nodes)}

        def completed(name: str) -> tuple[int, int]:
            node = self._nodes.get(name)
            return (order[node], 0) if node is not None else (order[self.trace.exits[name][1]], 1000 - name.count("."))

        return sorted(names, key=completed)

    def programs(
        self, workspace: nn.Module, wanted: Sequence[Wanted], inputs: NamedInputs
    ) -> list[tuple[Program, list[int]]]:
        """Return programs that compute the named layers, each with the places of its results in `wanted`.

        A module inside a leaf is not in the graph: hooks reach it, in a pass of their own.
        """
        found = {place: tap for place, one in enumerate(wanted) if (tap := self._tap_of(*one))}
        inside = [place for place in range(len(wanted)) if place not in found]
        programs: list[tuple[Program, list[int]]] = []
        if lost := [
            name
            for name in dict.fromkeys(wanted[place].name for place in inside)
            if isinstance(self.modules[self._hooks.find(name)[0]], Part)
        ]:
            raise ModelError(f"{lost} return objects, which an edited network does not make: name layers in them")
        # hooks run the whole network, so they get a pass of their own only where the graph does not reach
        if inside:
            hooked = self._hooks.programs(workspace, [wanted[place] for place in inside], inputs)
            programs = [(program, [inside[place] for place in places]) for program, places in hooked]
        if found:
            programs.append((TracedProgram(workspace, self.trace.graph, [*found.values()]), [*found]))
        return programs

    def fast_program(
        self, workspace: nn.Module, wanted: Sequence[Wanted], fusion: BatchNormFusion
    ) -> TracedProgram | None:
        """Make one program for all the named layers, leaves opened and BatchNorm folded; None where nothing is gained.

        What it computes is to be compared with what `programs` compute.
        """
        opened = self._opened()
        taps = [self._tap_of_opened(*one, opened) for one in wanted]
        if None in taps:
            return None
        program = TracedProgram(workspace, opened.graph, [tap for tap in taps if tap], fusion)
        # without folds it only pays where it saves the pass of hooks
        return program if program.folds or not all(self._tap_of(*one) for one in wanted) else None

    def program_of(
        self, workspace: nn.Module, nodes: Sequence[fx.Node], fusion: BatchNormFusion | None = None
    ) -> TracedProgram:
        """Make a program for what nodes hold, as it is; with a `fusion`, leaves are opened and BatchNorm is folded."""
        if fusion is None:
            taps = [(Tap(node.name), node, node) for node in nodes]
            return TracedProgram(workspace, self.trace.graph, taps)
        opened = self._opened()
        taps = [(Tap(node.name), *opened.values[node]) for node in nodes]
        return TracedProgram(workspace, opened.graph, taps, fusion)

    def _opened(self) -> Inlined:
        if self._inlined is None:
            with torch.inference_mode(False):
                self._inlined = inline(self._network, self.trace)
        return self._inlined

    def _tap_of(self, name: str, pooling: Pooling) -> Tapped | None:
        """Return where the graph has a layer; None inside a leaf."""
        stem, index = (name, None) if name in self._nodes else split_index(name)
        if stem not in self._nodes and stem not in self.trace.exits:
            stem = last_of_list(stem, self.modules)
        if stem in self._nodes:
            return Tap(stem, index, pooling), self._nodes[stem], self._nodes[stem]
        return (Tap(stem, index, pooling), *self.trace.exits[stem]) if stem in self.trace.exits else None

    def _tap_of_opened(self, name: str, pooling: Pooling, opened: Inlined) -> Tapped | None:
        """Return where the graph with leaves opened has a layer; None inside a leaf that it does not open."""
        if found := self._tap_of(name, pooling):
            tap, value, after = found
            return tap, fx.map_arg(value, lambda node: opened.values[node][0]), opened.values[after][1]
        path, call, index = self._hooks.find(name)
        calls = opened.inside.get(path, [])
        if call is None:
            call = 0 if is_leaf(self.modules[path]) else len(calls) - 1
        elif not is_leaf(self.modules[path]):
            return None  # of containers only the last call is known
        return (Tap(split_index(name)[0], index, pooling), *calls[call]) if 0 <= call < len(calls) else None


class HookBackend:
    """Layers of a network that is run as it is: the modules that ran, or all leaves while nothing has."""

    def __init__(self, network: nn.Module, input_names: Sequence[str]) -> None:
        self.input_names = tuple(input_names)
        self.modules = reachable(network)
        self._first_path = {module: path for path, module in network.named_modules()}
        self._leaves = outermost_leaves(network)
        self._record: Record | None = None

    @property
    def layers(self) -> dict[str, nn.Module | str]:
        if self._record is None:
            return {path: self.modules[path] for path in self._leaves}
        counts: dict[str, int] = {}
        found: dict[str, nn.Module | str] = {}
        for path in self._record.calls:
            if path in self._leaves:
                found[f"{path}@{counts[path]}" if path in counts else path] = self.modules[path]
                counts[path] = counts.get(path, 0) + 1
        return found

    @property
    def has_run(self) -> bool:
        """Whether the order of the layers is that in which they ran."""
        return self._record is not None

    def knows(self, name: str) -> bool:
        """Return whether `name` is a layer, a module, a repeat of one or a part of its output."""
        stem = name if name in self.modules else split_index(name)[0]
        path, at, repeat = stem.partition("@")
        return bool(path) and path in self.modules and (repeat.isdigit() or not at)

    def dry_run(self, workspace: nn.Module, inputs: NamedInputs, count: Callable[[], int] = lambda: 0) -> DryRun:
        """Run the network once and learn which modules run, how often and in what order; `count` gives the FLOPs."""
        start = count()
        self._record = record = record_calls(workspace, inputs, count)
        names, inside = iter(self.layers), tuple(f"{leaf}." for leaf in self._leaves)
        shapes: dict[str, tuple[int, ...] | None] = {}
        flops: dict[str, int] = {}
        outside = {"": count() - start - sum(record.flops)}
        inner = 0  # of calls inside the layer that runs
        for path, shape, counted in zip(record.calls, record.shapes, record.flops, strict=True):
            if path in self._leaves:
                name = next(names)
                shapes[name], flops[name], inner = shape, counted + inner, 0
            # modules return before the leaf that they are in: their FLOPs are those of the leaf that returns next
            elif path.startswith(inside):
                inner += counted
            else:
                shapes[path], outside[path] = shape, outside.get(path, 0) + counted
        return DryRun(
            record.output,
            {name: shape for name, shape in shapes.items() if shape is not None},
            flops,
            {path: counted for path, counted in outside.items() if counted},
        )

    def in_order(self, names: Iterable[str]) -> list[str]:
        """Return layers and containers in the order of a dry run, which is that in which they returned."""
        return list(names)

    def programs(
        self, workspace: nn.Module, wanted: Sequence[Wanted], inputs: NamedInputs
    ) -> list[tuple[Program, list[int]]]:
        # only the calls are wanted of this run, which may write into its inputs
        self._record = record = self._record or record_calls(workspace, own_inputs(inputs))
        taps = []
        for name, pooling in wanted:
            stop = self.stop_at(name)
            taps.append((Tap(split_index(name)[0], stop.index, pooling), stop.path, stop.call))
        return [(HookedProgram(workspace, record, taps), list(range(len(wanted))))]

    def stop_at(self, name: str) -> Stop:
        """Return the call of a module that a name means: of a container, the last one.

        Raises ModelError where that is not known, as nothing has run.
        """
        path, call, index = self.find(name)
        if call is not None or is_leaf(self.modules[path]):
            return Stop(name, path, call or 0, index)
        if self._record is None:
            raise ModelError(f"how often {name!r} runs is not known before data: make the handler with example inputs")
        return Stop(name, path, self._record.last_call(path), index)

    def find(self, name: str) -> tuple[str, int | None, int | None]:
        """Find the module that a name means, by its first path, and the call and part of its output that it names."""
        stem, index = (name, None) if name in self.modules else split_index(name)
        path, _, repeat = stem.partition("@")
        if self._record is None or path not in self._record.calls:
            path = last_of_list(path, self.modules)
        return self._first_path[self.modules[path]], int(repeat) if repeat else None, index

    @property
    def calls(self) -> tuple[str, ...]:
        """The paths of the modules that ran, in the order in which they returned; none while nothing has."""
        return () if self._record is None else self._record.calls

"""Programs compute the outputs of some layers and run no more of the network than these need, batch after batch.

`TracedProgram` runs the needed part of a graph, `HookedProgram` the network itself, stopped at the last layer asked
for. Both take each output the moment its layer returns, before a later in-place operation can overwrite it.
"""

import linecache
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, fx, nn
from torch.fx import graph_module

from model_handler.errors import ModelError
from model_handler.extraction.batchnorm_fusion import BatchNormFusion, FusedConvolution
from model_handler.extraction.channel_layout import Layout, layout_of_modules, layout_of_node
from model_handler.extraction.failures import explain_failure, explain_graph_failure
from model_handler.extraction.pooling import Pooling, pool
from model_handler.extraction.recording import Record
from model_handler.graph.dependencies import needed_nodes
from model_handler.graph.nodes import nodes_in, without_keywords
from model_handler.network.adapted_layer import AdaptedLayer
from model_handler.network.inputs import NamedInputs, call_network, own_inputs
from model_handler.network.outputs import select_tensor

__all__ = ["HookedProgram", "Pass", "Program", "Tap", "Tapped", "TracedProgram"]

Tapped = tuple["Tap", Any, fx.Node]  # a tap, the value that it takes, and the node after which that is complete


@dataclass(frozen=True)
class Tap:
    """A layer whose output is wanted: its name as the user wrote it, which tensor of its output, and as which rows.

    Without `pooling` the tensor is wanted as it is.
    """

    name: str
    index: int | None = None
    pooling: Pooling | None = None


class Program(Protocol):
    """Computes the rows of some taps by running `module`."""

    @property
    def module(self) -> nn.Module:
        """What it runs."""

    def run(self, inputs: NamedInputs, mask: Tensor | None = None) -> list[Tensor]:
        """Return one float32 array (n_rows, n_features) a tap, in order; without pooling, values as they are."""


class _Capture(nn.Module):
    """Turns a layer's output into rows on the spot, in memory of their own unless nothing runs after it."""

    def __init__(self, tap: Tap, layout: Layout | None, *, is_last: bool = False) -> None:
        super().__init__()
        self.tap = tap
        self.layout = layout
        self.is_last = is_last
        self.mask: Tensor | None = None

    def forward(self, value: object) -> Tensor:
        tensor = select_tensor(value, self.tap.name, self.tap.index)
        if tensor.ndim == 0:
            raise ModelError(f"layer {self.tap.name!r} gives a single number, not a row for each input")
        rows = tensor
        if self.tap.pooling is not None:
            rows = self._pooled(tensor, self.tap.pooling).to(torch.float32)
        # a view would change with the tensor, which an in-place layer behind it may overwrite; under export no tensor
        # has memory to compare, and a copy costs nothing
        shares_memory = (
            torch.compiler.is_exporting() or rows.untyped_storage()._cdata == tensor.untyped_storage()._cdata
        )
        return rows.clone() if shares_memory and not self.is_last else rows

    def _pooled(self, tensor: Tensor, pooling: Pooling) -> Tensor:
        real = callable(pooling) or not tensor.is_complex()
        rows = pool(tensor, pooling, self.layout, self.mask) if real else tensor
        if rows.is_complex():  # of which float32 would keep the real part alone
            raise ModelError(
                f"layer {self.tap.name!r} gives complex numbers, and features are real: take a layer behind it, or a "
                "pooling of your own that makes them real, such as torch.abs"
            )
        return rows


class TracedProgram:
    """The part of a graph that some values need, with BatchNorm folded where there is a `fusion`: into `folds`."""

    def __init__(
        self,
        workspace: nn.Module,
        graph: fx.Graph,
        taps: Sequence[Tapped],
        fusion: BatchNormFusion | None = None,
    ) -> None:
        modules = dict(workspace.named_modules(remove_duplicate=False))
        reads: dict[fx.Node, list[fx.Node]] = {}
        for _, value, after in taps:
            reads.setdefault(after, []).extend(nodes_in(value))
        needed = needed_nodes(graph, reads, modules)
        # behind the last node nothing runs that could overwrite what is taken, so its rows need no copy
        last = next(node for node in reversed(graph.nodes) if node in reads)
        self._captures = [
            _Capture(tap, _layout(value, modules), is_last=after is last and len(reads[last]) == 1)
            for tap, value, after in taps
        ]
        self._module = _needed_part(workspace, graph, needed, list(zip(taps, self._captures, strict=True)))
        self.folds: list[FusedConvolution] = fusion.apply(self._module) if fusion else []

    @property
    def module(self) -> nn.Module:
        """What it runs."""
        return self._module

    def run(self, inputs: NamedInputs, mask: Tensor | None = None) -> list[Tensor]:
        for capture in self._captures:
            capture.mask = mask
        try:
            return list(self._module.forward(**inputs))  # a call would print its own traceback
        except (ModelError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            if not torch.compiler.is_exporting():  # its tensors have no numbers to look into
                explain_graph_failure(self._module, inputs, error, spared=_Capture)
            raise
        finally:
            for capture in self._captures:
                capture.mask = None


class HookedProgram:
    """The network itself, watched by hooks and stopped at the last tap; `record` says how often each module runs."""

    def __init__(self, workspace: nn.Module, record: Record, taps: Sequence[tuple[Tap, str, int]]) -> None:
        """`taps` gives each tap the path of its module and the number, from 0, of the call that is meant."""
        self._network = workspace
        modules = dict(workspace.named_modules())
        self._targets = [
            (modules[path], call, _Capture(tap, layout_of_modules(record.upstream(path, modules))))
            for tap, path, call in taps
        ]

    @property
    def module(self) -> nn.Module:
        """What it runs."""
        return self._network

    def run(self, inputs: NamedInputs, mask: Tensor | None = None) -> list[Tensor]:
        found: dict[int, Tensor] = {}
        with ExitStack() as hooks:
            for number, (module, call, capture) in enumerate(self._targets):
                capture.mask = mask
                hooks.enter_context(module.register_forward_hook(self._watch(number, call, capture, found)))
            try:
                call_network(self._network, inputs)
            except _Finished:
                pass
            except (ModelError, torch.OutOfMemoryError):
                raise
            except Exception as error:
                if not torch.compiler.is_exporting():
                    explain_failure(self._network, inputs, error)
                raise
        missing = [self._targets[n][2].tap.name for n in range(len(self._targets)) if n not in found]
        if missing:
            raise ModelError(f"layers {missing} did not run for these inputs")
        return [found[number] for number in range(len(self._targets))]

    def _watch(self, number: int, call: int, capture: _Capture, found: dict[int, Tensor]) -> Callable[..., None]:
        calls = iter(range(10**9))

        def hook(module: nn.Module, arguments: object, output: object) -> None:
            if next(calls) == call:
                found[number] = capture(output)
                # export loses count of the modules that are open where one is left by an exception
                if len(found) == len(self._targets) and not torch.compiler.is_exporting():
                    raise _Finished

        return hook


@dataclass(frozen=True, eq=False)
class Pass:
    """The programs for some layers, run one after the other on each batch."""

    programs: Sequence[tuple[Program, list[int]]]

    def run(self, inputs: NamedInputs, mask: Tensor | None) -> list[Tensor]:
        """Return the rows of every layer, in the order in which the layers were named."""
        rows: dict[int, Tensor] = {}
        for program, places in self.programs:
            given = inputs if len(self.programs) == 1 else own_inputs(inputs)
            rows.update(zip(places, program.run(given, mask), strict=True))
        return [rows[place] for place in range(len(rows))]


class _Finished(BaseException):
    """Every output wanted has been taken; not an Exception, so that no `forward` swallows it."""


def _layout(value: object, modules: dict[str, nn.Module]) -> Layout | None:
    nodes = nodes_in(value)
    return layout_of_node(nodes[0], modules) if nodes else None


def _needed_part(
    workspace: nn.Module,
    graph: fx.Graph,
    needed: set[fx.Node],
    taps: Sequence[tuple[Tapped, _Capture]],
) -> fx.GraphModule:
    """Return a module that runs the needed nodes in their order and each capture right behind its node."""
    copied: dict[fx.Node, fx.Node] = {}
    part = fx.Graph()
    rows: dict[int, fx.Node] = {}
    pieces: dict[str, nn.Module] = {}
    for node in graph.nodes:
        if node in needed or node.op == "placeholder":
            copied[node] = part.node_copy(node, copied.__getitem__)
        for number, ((_, value, after), capture) in enumerate(taps):
            if after is node:
                pieces[f"_capture_{number}"] = capture
                rows[number] = part.call_module(f"_capture_{number}", (fx.map_arg(value, copied.__getitem__),))
    part.output(tuple(rows[number] for number in range(len(taps))))
    for number, node in enumerate(part.nodes):
        if node.op == "get_attr":  # under a name of its own: a leaf may hold the same tensor
            owner, _, name = node.target.rpartition(".")
            layer = workspace.get_submodule(owner)
            if isinstance(layer, AdaptedLayer) and name in layer._adapter.targets:
                node.op, pieces[f"_tensor_{number}"] = "call_module", _AdaptedWeight(layer, name)
            else:
                pieces[f"_tensor_{number}"] = getattr(layer, name)
            node.target = f"_tensor_{number}"
        elif node.op == "call_module" and node.target not in pieces:
            path, node.target = node.target, without_keywords(node.target)
            pieces[node.target] = _attribute(workspace, path)
    return _Program(pieces, part, "Features")


class _Program(fx.GraphModule):
    """A graph with its code, whose text goes with it: torch keeps that of each for good, for the sake of tracebacks."""

    def recompile(self) -> Any:
        """Write the code of the graph, as after each change of it."""
        code = super().recompile()
        finalizer = weakref.finalize(self, _forget_text, type(self).forward.__code__.co_filename)
        finalizer.atexit = False
        return code


def _forget_text(file: str) -> None:
    linecache.cache.pop(file, None)
    texts = getattr(getattr(graph_module, "_loader", None), "eval_cache", {})
    texts.pop(file, None)


class _AdaptedWeight(nn.Module):
    """Reads a weight that an adapter changes, each time anew."""

    def __init__(self, layer: AdaptedLayer, name: str) -> None:
        super().__init__()
        self.layer, self.name = layer, name

    def forward(self) -> Tensor:
        return getattr(self.layer, self.name)


def _attribute(network: nn.Module, path: str) -> Any:
    owner, _, name = path.rpartition(".")
    return getattr(network.get_submodule(owner), name)

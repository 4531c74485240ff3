"""Programs: a network cut down to what some layers need, ready to run batch after batch.

`TracedProgram` runs a pruned graph, `HookedProgram` the network itself, stopped at the last layer asked for. Both take
each output the moment its layer returns, before a later in-place operation can overwrite it.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, fx, nn

from model_handler.errors import ModelError
from model_handler.folding import Fold, Folding
from model_handler.layout import Layout, layout_of_modules, layout_of_node
from model_handler.pooling import Pooling, pool, select_tensor
from model_handler.pruning import needed_nodes
from model_handler.tracing import is_leaf

__all__ = [
    "HookedProgram",
    "Inputs",
    "Program",
    "Record",
    "Tap",
    "Tapped",
    "TracedProgram",
    "call_network",
    "explain_failure",
    "layer_failure",
    "own_inputs",
    "record_calls",
]

Inputs = Mapping[str, Any]

Tapped = tuple["Tap", Any, fx.Node]  # a tap, the value that it takes, and the node after which that is complete


@dataclass(frozen=True)
class Tap:
    """A layer whose output is wanted: its name as the user wrote it, and which tensor of its output."""

    name: str
    index: int | None = None


class Program(Protocol):
    """Computes the rows of some taps."""

    def run(self, inputs: Inputs, mask: Tensor | None = None) -> list[Tensor]:
        """One float32 array of shape (n_rows, n_features) a tap, in the order of the taps."""


class _Capture(nn.Module):
    """Turns a layer's output into rows on the spot, in memory of their own unless nothing runs after it."""

    def __init__(self, tap: Tap, pooling: Pooling, layout: Layout | None, *, is_last: bool = False) -> None:
        super().__init__()
        self.tap, self.pooling, self.layout, self.is_last = tap, pooling, layout, is_last
        self.mask: Tensor | None = None

    def forward(self, value: Any) -> Tensor:
        tensor = select_tensor(value, self.tap.name, self.tap.index)
        if tensor.ndim == 0:
            raise ModelError(f"layer {self.tap.name!r} gives a single number, not a row for each input")
        rows = pool(tensor, self.pooling, self.layout, self.mask).to(torch.float32)
        shares_memory = rows.untyped_storage()._cdata == tensor.untyped_storage()._cdata
        return rows.clone() if shares_memory and not self.is_last else rows


class TracedProgram:
    """The part of a graph that some values need, with BatchNorm folded where there is a `folding`: into `folds`."""

    def __init__(
        self,
        workspace: nn.Module,
        graph: fx.Graph,
        taps: Sequence[Tapped],
        pooling: Pooling,
        folding: Folding | None = None,
    ) -> None:
        modules = dict(workspace.named_modules(remove_duplicate=False))
        reads: dict[fx.Node, list[fx.Node]] = {}
        for _, value, after in taps:
            fx.map_arg(value, reads.setdefault(after, []).append)
        needed = needed_nodes(graph, reads, modules)
        last = next(node for node in reversed(graph.nodes) if node in reads)
        self._captures = [
            _Capture(tap, pooling, _layout(value, modules), is_last=after is last and len(reads[last]) == 1)
            for tap, value, after in taps
        ]
        self._module = _pruned(workspace, graph, needed, list(zip(taps, self._captures, strict=True)))
        self.folds: list[Fold] = folding.apply(self._module) if folding else []

    def run(self, inputs: Inputs, mask: Tensor | None = None) -> list[Tensor]:
        for capture in self._captures:
            capture.mask = mask
        try:
            return list(self._module.forward(**inputs))  # a call would print its own traceback
        except (ModelError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            self._explain(inputs, error)
            raise

    def _explain(self, inputs: Inputs, error: Exception) -> None:
        """Run once more, node by node, and name the layer that fails."""
        interpreter = _Interpreter(self._module)
        try:
            interpreter.run(*inputs.values())
        except Exception:
            node, arguments = interpreter.current
            if isinstance(self._module._modules.get(str(node.target)), _Capture):
                return
            layer = self._module.get_submodule(str(node.target)) if node.op == "call_module" else node.target
            name = node.meta.get("layer", str(node.target) if node.op == "call_module" else node.name)
            raise layer_failure(name, layer, arguments, error) from error


class HookedProgram:
    """The network itself, watched by hooks and stopped at the last tap; `record` says how often each module runs."""

    def __init__(
        self, workspace: nn.Module, record: "Record", taps: Sequence[tuple[Tap, str, int]], pooling: Pooling
    ) -> None:
        """`taps` gives each tap the path of its module and the number, from 0, of the call that is meant."""
        self._network = workspace
        modules = dict(workspace.named_modules())
        self._targets = [
            (modules[path], call, _Capture(tap, pooling, layout_of_modules(record.upstream(path, modules))))
            for tap, path, call in taps
        ]

    def run(self, inputs: Inputs, mask: Tensor | None = None) -> list[Tensor]:
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
                explain_failure(self._network, inputs, error)
                raise
        missing = [self._targets[n][2].tap.name for n in range(len(self._targets)) if n not in found]
        if missing:
            raise ModelError(f"layers {missing} did not run for these inputs")
        return [found[number] for number in range(len(self._targets))]

    def _watch(self, number: int, call: int, capture: _Capture, found: dict[int, Tensor]) -> Callable[..., None]:
        calls = iter(range(10**9))

        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            if next(calls) == call:
                found[number] = capture(output)
                if len(found) == len(self._targets):
                    raise _Finished

        return hook


@dataclass(frozen=True)
class Record:
    """Which modules ran in one pass, leaves and containers, in the order in which they returned, and what came out.

    `shapes` gives the output shape of each call, None where it is not one tensor; `flops` what each call counted beside
    the calls inside it.
    """

    calls: tuple[str, ...]
    shapes: tuple[tuple[int, ...] | None, ...]
    flops: tuple[int, ...]
    output: Any

    def last_call(self, path: str) -> int:
        """The number, from 0, of the last call of a module; 0 if it did not run."""
        return max(self.calls.count(path) - 1, 0)

    def upstream(self, path: str, modules: Mapping[str, nn.Module]) -> list[nn.Module]:
        """The module and those that returned before its last call did, nearest first."""
        if path not in self.calls:
            return [modules[path]]
        end = len(self.calls) - self.calls[::-1].index(path)
        return [modules[call] for call in reversed(self.calls[:end])]


def record_calls(network: nn.Module, inputs: Inputs, count: Callable[[], int] = lambda: 0) -> Record:
    """Run `network` once and note what ran; `count` gives the FLOPs so far."""
    calls: list[tuple[str, tuple[int, ...] | None, int]] = []
    begun: list[int] = []  # for each call that runs now, the FLOPs before it and of the calls that ended inside it

    def begin(module: nn.Module, arguments: Any) -> None:
        begun.append(count())

    def note(path: str) -> Callable[..., None]:
        def end(module: nn.Module, arguments: Any, output: Any) -> None:
            own = count() - begun.pop()
            begun[:] = [start + own for start in begun]
            calls.append((path, tuple(output.shape) if isinstance(output, Tensor) else None, own))

        return end

    with ExitStack() as hooks:
        for path, module in _hookable(network):
            if path:
                hooks.enter_context(module.register_forward_pre_hook(begin))
                hooks.enter_context(module.register_forward_hook(note(path)))
        try:
            output = call_network(network, inputs)
        except Exception as error:
            explain_failure(network, inputs, error)
            raise
    paths, shapes, flops = zip(*calls, strict=True) if calls else ((), (), ())
    return Record(paths, shapes, flops, output)


def call_network(network: nn.Module, inputs: Inputs) -> Any:
    """Call a network with inputs by name; where `forward` takes `*args`, in order."""
    if all(name.startswith("*") for name in inputs):
        return network(*inputs.values())
    return network(**inputs)


def own_inputs(inputs: Inputs) -> dict[str, Any]:
    """Inputs that a network may write into: many begin with `x.sub_(mean)` or an in-place layer."""
    return {name: part.clone() if isinstance(part, Tensor) else part for name, part in inputs.items()}


def explain_failure(network: nn.Module, inputs: Inputs, error: Exception) -> None:
    """Run the network that failed once more and raise ModelError naming the layer; return if no layer is to blame."""
    running: list[tuple[str, nn.Module, list[Any]]] = []

    def enter(path: str) -> Callable[..., None]:
        return lambda module, arguments: running.append((path, module, [getattr(a, "shape", a) for a in arguments]))

    def leave(module: nn.Module, arguments: Any, output: Any) -> None:
        running.pop()

    with ExitStack() as hooks:
        for path, module in _hookable(network):
            if path:
                hooks.enter_context(module.register_forward_pre_hook(enter(path)))
                hooks.enter_context(module.register_forward_hook(leave))
        try:
            call_network(network, inputs)
        except Exception as again:
            if running:
                raise layer_failure(*running[-1], again) from error


def _hookable(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules that can be watched: TorchScript takes no hooks."""
    return [entry for entry in network.named_modules() if not isinstance(entry[1], torch.jit.ScriptModule)]


class _Finished(BaseException):
    """Every output wanted has been taken; not an Exception, so that no `forward` swallows it."""


class _Interpreter(fx.Interpreter):
    """Runs node by node and remembers where it was."""

    def run_node(self, n: fx.Node) -> Any:
        self.current = (n, [getattr(value, "shape", value) for value in map(self.env.get, n.all_input_nodes)])
        return super().run_node(n)


def layer_failure(name: str, layer: Any, arguments: Sequence[Any], error: Exception) -> ModelError:
    """What to raise where `layer`, a module or an operation, fails on `arguments`, values or shapes."""
    shapes = ", ".join(str(tuple(a)) if isinstance(a, torch.Size) else type(a).__name__ for a in arguments)
    if isinstance(layer, nn.Module):
        what = repr(layer) if is_leaf(layer) else type(layer).__name__
    else:
        what = getattr(layer, "__name__", str(layer))
    return ModelError(f"layer {name!r}, {what}, failed on input of shape {shapes}: {error}")


def _layout(value: Any, modules: dict[str, nn.Module]) -> Layout | None:
    nodes: list[fx.Node] = []
    fx.map_arg(value, nodes.append)
    return layout_of_node(nodes[0], modules) if nodes else None


def _pruned(
    workspace: nn.Module,
    graph: fx.Graph,
    needed: set[fx.Node],
    taps: Sequence[tuple[Tapped, _Capture]],
) -> fx.GraphModule:
    """A module that runs the needed nodes in their order and each capture right behind its node."""
    copied: dict[fx.Node, fx.Node] = {}
    pruned = fx.Graph()
    rows: dict[int, fx.Node] = {}
    pieces: dict[str, nn.Module] = {}
    for node in graph.nodes:
        if node in needed or node.op == "placeholder":
            copied[node] = pruned.node_copy(node, copied.__getitem__)
        for number, ((_, value, after), capture) in enumerate(taps):
            if after is node:
                pieces[f"_capture_{number}"] = capture
                rows[number] = pruned.call_module(f"_capture_{number}", (fx.map_arg(value, copied.__getitem__),))
    pruned.output(tuple(rows[number] for number in range(len(taps))))
    for number, node in enumerate(pruned.nodes):
        if node.op == "get_attr":  # under a name of its own: a leaf may hold the same tensor
            pieces[f"_tensor_{number}"] = _attribute(workspace, node.target)
            node.target = f"_tensor_{number}"
        elif node.op == "call_module" and node.target not in pieces:
            pieces[node.target] = _attribute(workspace, node.target)
    return fx.GraphModule(pieces, pruned, "Features")


def _attribute(network: nn.Module, path: str) -> Any:
    owner, _, name = path.rpartition(".")
    return getattr(network.get_submodule(owner), name)

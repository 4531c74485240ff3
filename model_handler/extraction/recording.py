"""Recording notes which layers run in one forward, their output shapes and their FLOPs, by hooks or node by node."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from model_handler.extraction.failures import explain_failure, layer_failure
from model_handler.extraction.input_mistakes import misfit_of
from model_handler.graph.gradients import switched
from model_handler.network.inputs import NamedInputs, call_network
from model_handler.network.module_hooks import watched

__all__ = ["Found", "GraphRun", "Record", "record_calls"]


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
        """Return the number, from 0, of the last call of a module; 0 if it did not run."""
        return max(self.calls.count(path) - 1, 0)

    def upstream(self, path: str, modules: Mapping[str, nn.Module]) -> list[nn.Module]:
        """Return the module and those that returned before its last call did, nearest first."""
        if path not in self.calls:
            return [modules[path]]
        end = len(self.calls) - self.calls[::-1].index(path)
        return [modules[call] for call in reversed(self.calls[:end])]


def record_calls(network: nn.Module, inputs: NamedInputs, count: Callable[[], int] = lambda: 0) -> Record:
    """Run `network` once and note what ran; `count` gives the FLOPs so far."""
    calls: list[tuple[str, tuple[int, ...] | None, int]] = []
    begun: list[int] = []  # for each call that runs now, the FLOPs before it and of the calls that ended inside it

    def begin(path: str, module: nn.Module, arguments: object) -> None:
        begun.append(count())

    def end(path: str, output: object) -> None:
        own = count() - begun.pop()
        begun[:] = [start + own for start in begun]
        calls.append((path, tuple(output.shape) if isinstance(output, Tensor) else None, own))

    with watched(network, begin, end):
        try:
            output = call_network(network, inputs)
        except Exception as error:
            explain_failure(network, inputs, error)
            raise
    paths, shapes, flops = zip(*calls, strict=True) if calls else ((), (), ())
    return Record(paths, shapes, flops, output)


class GraphRun(fx.Interpreter):
    """Runs a graph on the modules of `workspace` and notes shapes and FLOPs; raises `Found` with a value `sought`.

    An operation that fails is named in a ModelError.
    """

    def __init__(
        self,
        workspace: nn.Module,
        graph: fx.Graph,
        count: Callable[[], int] = lambda: 0,
        sought: tuple[fx.Node, fx.Node] | None = None,
    ) -> None:
        super().__init__(workspace, graph=graph)
        self.extra_traceback = False  # torch.fx would write where it was into the message
        self._count, self._sought = count, sought
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        self.flops: dict[fx.Node, int] = {}
        self._inputs: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        if self._sought and n is self._sought[1]:
            raise Found(copy.deepcopy(self.env[self._sought[0]]))
        start = self._count()
        try:
            with switched(n, training=self.module.training):
                result = super().run_node(n)
        except Exception as error:
            if n.op not in ("call_function", "call_method"):
                raise  # hooks tell which module inside it fails
            read = [self.env[argument] for argument in n.all_input_nodes]
            shapes = [getattr(value, "shape", value) for value in read]
            misfit = misfit_of(self._inputs, error, dict(self.module.named_modules()))
            raise layer_failure(n.meta.get("layer", n.name), n.target, shapes, error, misfit) from error
        if n.op == "placeholder":
            self._inputs[str(n.target)] = result
        self.flops[n] = self._count() - start
        if isinstance(result, Tensor):
            self.shapes[n] = tuple(result.shape)
        return result


class Found(BaseException):
    """The value sought has been reached; not an Exception, to which torch.fx would add where it was."""

    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value

"""When a forward fails, the network is run once more under hooks, so that the error names the layer and its inputs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn

from model_handler.errors import ModelError
from model_handler.extraction.input_mistakes import misfit_of
from model_handler.network.inputs import NamedInputs, call_network
from model_handler.network.module_hooks import watched

__all__ = ["explain_failure", "explain_graph_failure", "explained", "layer_failure"]


def explain_failure(network: nn.Module, inputs: NamedInputs, error: Exception) -> None:
    """Run the network that failed once more and raise ModelError: the layer, and what about the inputs is to blame.

    Returns if neither is.
    """
    running: list[tuple[str, nn.Module, list[Any]]] = []

    def enter(path: str, module: nn.Module, arguments: Any) -> None:
        running.append((path, module, [getattr(argument, "shape", argument) for argument in arguments]))

    def leave(path: str, output: object) -> None:
        running.pop()

    # the module that has begun and not returned when the error comes is the one to blame
    with watched(network, enter, leave):
        try:
            call_network(network, inputs)
        except Exception as again:
            misfit = misfit_of(inputs, again, dict(network.named_modules()))
            if running:
                raise layer_failure(*running[-1], again, misfit) from error
            if misfit:
                raise ModelError(f"{type(network).__name__} fails: {again}{misfit}") from error


@contextmanager
def explained(network: nn.Module, inputs: NamedInputs) -> Iterator[None]:
    """Explain what fails in a block that runs the network on these inputs; what cannot be explained is raised as it is.

    ModelErrors are explained already.
    """
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        explain_failure(network, inputs, error)
        raise


def explain_graph_failure(
    module: fx.GraphModule, inputs: NamedInputs, error: Exception, *, spared: type[nn.Module]
) -> None:
    """Do as `explain_failure`, node by node; modules of the class `spared` are no layers, and not to blame."""
    interpreter = _Interpreter(module)
    try:
        interpreter.run(*inputs.values())
    except Exception:
        node, arguments = interpreter.current
        path = str(node.target)
        layer = module.get_submodule(path) if node.op == "call_module" else node.target
        if isinstance(layer, spared):
            return
        name = node.meta.get("layer", path if node.op == "call_module" else node.name)
        misfit = misfit_of(inputs, error, dict(module.named_modules()))
        raise layer_failure(name, layer, arguments, error, misfit) from error


def layer_failure(name: str, layer: object, arguments: Sequence[Any], error: Exception, misfit: str = "") -> ModelError:
    """Return what to raise where `layer`, a module or an operation, fails on `arguments`, values or shapes.

    `misfit` says what may be wrong with the inputs of the network.
    """
    shapes = ", ".join(str(tuple(a)) if isinstance(a, torch.Size) else type(a).__name__ for a in arguments)
    if isinstance(layer, nn.Module):
        # a repr that lists all that is inside buries the message
        what = type(layer).__name__ if any(layer.children()) else repr(layer)
    else:
        what = getattr(layer, "__name__", str(layer))
    return ModelError(f"layer {name!r}, {what}, failed on input of shape {shapes}: {error}{misfit}")


class _Interpreter(fx.Interpreter):
    """Runs node by node and remembers where it was."""

    def run_node(self, n: fx.Node) -> Any:
        self.current = (n, [getattr(value, "shape", value) for value in map(self.env.get, n.all_input_nodes)])
        return super().run_node(n)

"""Observing: what happens inside a network in one plain call, seen by hooks and by a watch on torch's functions."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["Seen", "doubled", "flat", "hooked", "run", "run_in_training", "watched"]


@dataclass
class Seen:
    """What one pass gave: by layer the output of a module's call, by container its last, by operation all of its."""

    calls: dict[str, Any] = field(default_factory=dict)
    containers: dict[str, Tensor] = field(default_factory=dict)
    operations: dict[str, list[Tensor]] = field(default_factory=dict)

    def outputs(self, name: str, *, is_layer: bool) -> list[Tensor]:
        """All that a name may mean: a layer's output, of an operation each of its repeats, a container's last one."""
        if not is_layer:
            return [self.containers[name]]
        return self.operations.get(name.partition("@")[0]) or [self.calls[name]]


def watched(network: nn.Module, inputs: Any, operations: set[str]) -> Seen:
    """Run `network` with a hook on every module that notes what it returned at that moment; operations by name."""
    seen, stack, counts = Seen(), [""], dict[str, int]()

    def enter(path: str) -> Callable[..., None]:
        return lambda module, arguments: stack.append(path)

    def leave(path: str, is_container: bool) -> Callable[..., None]:
        def note(module: nn.Module, arguments: Any, output: Any) -> None:
            stack.pop()
            value = output.detach().clone() if isinstance(output, Tensor) else output
            number = counts[path] = counts.get(path, -1) + 1
            if is_container and isinstance(value, Tensor):
                seen.containers[path] = value
            seen.calls.setdefault(f"{path}@{number}" if number else path, value)

        return note

    with ExitStack() as hooks:
        for path, module in network.named_modules():
            if path:
                hooks.callback(module.register_forward_pre_hook(enter(path)).remove)
                hooks.callback(module.register_forward_hook(leave(path, any(module.children()))).remove)
        hooks.enter_context(_Operations(seen, stack, operations))
        run(network, inputs)
    return seen


@contextmanager
def hooked(module: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    handle = module.register_forward_hook(lambda *arguments: hook(*arguments) and None)
    try:
        yield
    finally:
        handle.remove()


def run(network: nn.Module, inputs: Any) -> Any:
    with torch.no_grad():
        return _call(network, inputs)


def _call(network: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return network(**{name: part.clone() for name, part in inputs.items()})
    return network(inputs.clone())


def run_in_training(network: nn.Module, inputs: Any) -> Tensor:
    torch.manual_seed(0)
    return _call(network, inputs)


def doubled(inputs: Any) -> Any:
    """Inputs in double precision, where they are floating."""
    if isinstance(inputs, Mapping):
        return {name: doubled(part) for name, part in inputs.items()}
    return inputs.double() if inputs.is_floating_point() else inputs


def flat(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from (tensor for part in value.values() for tensor in flat(part))
    elif isinstance(value, (tuple, list)):
        yield from (tensor for part in value for tensor in flat(part))


class _Operations(TorchFunctionMode):
    """Notes what torch functions return, under the path of the module that runs and their name."""

    def __init__(self, seen: Seen, stack: list[str], wanted: set[str]) -> None:
        super().__init__()
        self.seen, self.stack, self.wanted = seen, stack, wanted

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.ndim and result.is_floating_point():
            name = getattr(func, "__name__", "").strip("_")
            for alias in {name, name.removeprefix("i"), name.removeprefix("r")}:
                path = f"{self.stack[-1]}.{alias}".lstrip(".")
                if path in self.wanted:
                    self.seen.operations.setdefault(path, []).append(result.detach().clone())
        return result

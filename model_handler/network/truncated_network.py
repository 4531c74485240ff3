"""Truncated networks: what an edit makes of a network without a graph, its own forward, ended at a layer, and a head.

A `StoppedNetwork` is the source's own kind of module, with the same children under the same names; only its `forward`
ends when a call of one module returns, takes that output, and runs the modules of the head on it. What ran only behind
that call can be taken off; its places stay, so that lists of modules keep their length.
"""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from threading import get_ident
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from model_handler.errors import ModelError
from model_handler.network.outputs import select_tensor
from model_handler.network.replica import set_mode, share_weights

__all__ = ["RemovedModule", "Stop", "StoppedNetwork", "modules_after", "place_of_call", "stopped", "with_head"]

_ANY_THREAD = 0


@dataclass(frozen=True)
class Stop:
    """Where a forward ends: call number `call`, from 0, of the module at `path`, or with path "" its own end.

    `name` is what the user called it; `index` picks one of several tensors.
    """

    name: str
    path: str
    call: int = 0
    index: int | None = None


class RemovedModule(nn.Module):
    """The place of a module that ran only after the end of the network."""

    def forward(self, *inputs: object, **options: object) -> Any:
        raise ModelError("for these inputs the network runs a module that truncate took off, as it ran after the cut")


@dataclass(frozen=True)
class _Course:
    """How a stopped network runs: to its stop, then through the modules of its head; `forward` is the object's own.

    Where several calls are `returned`, the stop among them, it gives their outputs as a tuple.
    """

    stop: Stop
    head: tuple[str, ...] = ()
    forward: Callable[..., Any] | None = None
    returned: tuple[Stop, ...] = ()


class StoppedNetwork(nn.Module):
    """The forward of another class of modules, ended at a stop and continued by a head; see `stopped`, `with_head`.

    It adds no names to its source's but these two.
    """

    _stopped_class: type[nn.Module]
    _stopped_course: _Course

    def __reduce__(self) -> tuple[Any, ...]:
        # under its name and module pickle would find the class of the source
        return _blank, (self._stopped_class,), self.__getstate__()


def stopped(
    network: nn.Module, stop: Stop, leaving: Collection[str] = (), returned: Sequence[Stop] = ()
) -> StoppedNetwork:
    """Return a network on the same weights that ends at `stop`, without the modules at the paths `leaving`.

    Where the stop is in the head, the head ends there; otherwise there is none. It gives the outputs of all the calls
    `returned`, the last of which to run is the stop. Raises ModelError for several where there is a head.
    """
    made = _as_stopped(network)
    course, (first, _, rest) = made._stopped_course, stop.path.partition(".")
    if returned and course.head:
        raise ModelError("a network with layers added on top ends at one layer; truncate at several before adding any")
    _take_off(made, [path for path in leaving if path.partition(".")[0] not in course.head])
    if first in course.head:
        kept = course.head[: course.head.index(first) + 1]
        made._stopped_course = replace(course, head=kept)
        if rest or stop.index is not None:
            inner = [path.partition(".")[2] for path in leaving if path.startswith(f"{first}.")]
            made._modules[first] = stopped(made.get_submodule(first), replace(stop, path=rest), inner)
    else:
        kept = ()
        made._stopped_course = replace(course, stop=stop, head=kept, returned=tuple(returned))
    for name in set(course.head) - set(kept):
        del made._modules[name]
    return made


def with_head(network: nn.Module, modules: Mapping[str, nn.Module]) -> StoppedNetwork:
    """Return a network on the same weights that runs `modules`, one after the other, on what it returned."""
    made = _as_stopped(network)
    for name, module in modules.items():
        made._modules.pop(name, None)  # the place of a removed module: the head comes last
        made._modules[name] = copied = share_weights(module)
        set_mode(copied, network.training)
    made._stopped_course = replace(made._stopped_course, head=(*made._stopped_course.head, *modules))
    return made


def modules_after(network: nn.Module, calls: Sequence[str], stop: Stop) -> list[str]:
    """Find the paths of the modules that ran only after a stop, from the paths of all `calls` in order of return.

    Of a module and those in it only the outer one is named.
    """
    modules = dict(network.named_modules())
    end = place_of_call(calls, stop)
    ran = {modules[path] for path in calls[: end + 1]}
    later = [path for path in dict.fromkeys(calls[end + 1 :]) if not ran & set(modules[path].modules())]
    return [path for path in later if not any(path.startswith(f"{other}.") for other in later)]


def place_of_call(calls: Sequence[str], stop: Stop) -> int:
    """Return where a stop is among the paths of all calls in order of return; -1 for the end of the network."""
    return [number for number, path in enumerate(calls) if path == stop.path][stop.call] if stop.path else -1


class _Stopped(BaseException):
    """The forward has reached its stop; not an Exception, so that no `forward` swallows it."""


def _as_stopped(network: nn.Module) -> StoppedNetwork:
    made: Any = share_weights(network)
    if not isinstance(made, StoppedNetwork):
        forward = vars(made).pop("forward", None)  # libraries put one on the object
        made.__class__ = _class_for(type(made))
        made._stopped_course = _Course(Stop("the network", ""), forward=forward)
    return made


def _class_for(source: type[nn.Module]) -> type[StoppedNetwork]:
    """Make a class of stopped networks under the source's name, by which libraries look up what they know of it."""

    @functools.wraps(source.forward)
    def forward(self: StoppedNetwork, *inputs: object, **options: object) -> Any:
        return _run_with_head(self, *inputs, **options)

    names = {
        "forward": forward,
        "_stopped_class": source,
        "__module__": source.__module__,
        "__qualname__": source.__qualname__,
        "__doc__": source.__doc__,
    }
    return type(source.__name__, (StoppedNetwork, source), names)


def _run_with_head(network: StoppedNetwork, *inputs: object, **options: object) -> Any:
    course = network._stopped_course
    taken = _values_at(network, course.returned or (course.stop,), *inputs, **options)
    if course.returned:
        return tuple(taken)
    (value,) = taken
    for name in course.head:
        value = network.get_submodule(name)(value)
    return value


def _values_at(
    network: StoppedNetwork, stops: Sequence[Stop], /, *inputs: object, **options: object
) -> list[torch.Tensor]:
    """Run the forward of the source to the stop of the network, and return the outputs of the calls `stops`."""
    last, forward = network._stopped_course.stop, network._stopped_course.forward
    forward = forward or functools.partial(network._stopped_class.forward, network)
    if not last.path:
        return [select_tensor(forward(*inputs, **options), last.name, last.index)]
    found: dict[int, Any] = {}
    # export loses count of the modules that are open where one is left by an exception, and drops what nothing reads
    exporting = torch.compiler.is_exporting()
    own_thread = _ANY_THREAD if torch.compiler.is_compiling() else get_ident()

    def watch(number: int, stop: Stop) -> RemovableHandle:
        left = stop.call

        def end(module: nn.Module, arguments: object, output: object) -> None:
            nonlocal left
            if _runs_in_another_thread(own_thread):  # which has a hook of its own
                return
            if left == 0:
                # a later layer may write into what does not end the forward
                found[number] = output if stop == last else select_tensor(output, stop.name, stop.index).clone()
                if stop == last and not exporting:
                    raise _Stopped
            left -= 1

        return network.get_submodule(stop.path).register_forward_hook(end)

    with ExitStack() as hooks:
        for number, stop in enumerate(stops):
            hooks.enter_context(watch(number, stop))
        try:
            forward(*inputs, **options)
        except _Stopped:
            if stops.index(last) not in found:  # that of a stopped network around this one
                raise
    if missing := [stop.name for number, stop in enumerate(stops) if number not in found]:
        ends = "where the network ends" if missing == [last.name] else "whose output it returns"
        raise ModelError(f"{missing[-1]!r}, {ends}, did not run for these inputs")
    return [select_tensor(found[n], stop.name, stop.index if stop == last else None) for n, stop in enumerate(stops)]


def _runs_in_another_thread(thread: int) -> bool:
    """Tell whether this thread is another one; torch compiles for whichever runs, and cannot follow the question."""
    return not torch.compiler.is_compiling() and thread not in (_ANY_THREAD, get_ident())


def _blank(source: type[nn.Module]) -> StoppedNetwork:
    kind = _class_for(source)
    return kind.__new__(kind)


def _take_off(network: nn.Module, paths: Collection[str]) -> None:
    """Put an empty module in the place of each module at `paths`, in place and under every name of it."""
    leaving = {network.get_submodule(path): RemovedModule() for path in paths}
    for part in list(network.modules()):
        part._modules.update({name: leaving[child] for name, child in part._modules.items() if child in leaving})

"""Programs: what the `forward` of one module does, as data, and the modules that run one.

A program is a list of steps, each of which calls a child, a function or a method of the tables in `operations`, or
takes a weight; nothing of a file becomes code, and no text of it is evaluated. Each module has its own program, so
containers stay what they were: modules with paths, a mode and hooks of their own. What `forward` does otherwise in
training is a second program.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from model_handler.errors import UnsafeFileError
from model_handler.files.canonical_json import JsonValue
from repurpose.offsite.architecture.arguments import Reference, from_json, references_in
from repurpose.offsite.architecture.operations import ATTRIBUTES, METHODS, function_named, method_of

__all__ = ["Part", "Program", "rebuilt_network"]

_MOST_INPUTS, _MOST_STEPS = 1_000, 20_000


class _Step(NamedTuple):
    kind: str
    target: Any  # names down to a child or a weight, a function, or the name of a method
    args: Any
    kwargs: dict[str, Any]
    is_flat: bool  # whether references stand in `args` alone, and not deeper
    without_gradient: bool
    done: tuple[int, ...]  # places that no later step reads


class Program:
    """What a module computes of its inputs: a copy of it is itself, and a file of pickle holds its JSON."""

    def __init__(self, said: JsonValue) -> None:
        """Read and check a program. Raises UnsafeFileError for anything that is none."""
        self.said = said
        if type(said) is not dict or sorted(said) != ["inputs", "output", "steps"] or type(said["steps"]) is not list:
            raise UnsafeFileError(f"its graph has the program {str(said)[:60]!r}")
        self.n_inputs = said["inputs"]
        if type(self.n_inputs) is not int or not 0 <= self.n_inputs <= _MOST_INPUTS:
            raise UnsafeFileError(f"its graph has a program of {str(self.n_inputs)[:40]} inputs")
        if len(said["steps"]) > _MOST_STEPS:
            raise UnsafeFileError(f"its graph has a program of {len(said['steps']):,} steps")
        read = [_step(step, self.n_inputs + number) for number, step in enumerate(said["steps"])]
        self._output = from_json(said["output"], self.n_inputs + len(read))
        self._steps = _with_lifetimes(read, self._output, self.n_inputs)

    def __reduce__(self) -> tuple[Any, ...]:
        return Program, (self.said,)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Program":
        return self

    def children(self) -> list[str]:
        """Return the path of each child as often as it is called."""
        return [".".join(step.target) for step in self._steps if step.kind == "module"]

    def weights(self) -> list[str]:
        """Return the paths of the parameters and buffers that are read."""
        return [".".join(step.target) for step in self._steps if step.kind == "weight"]

    def __len__(self) -> int:
        return len(self._steps)

    def run(self, module: nn.Module, inputs: Sequence[Any]) -> Any:
        """Return what the program computes with the children and weights of `module`."""
        values = list(inputs)
        for step in self._steps:
            if step.without_gradient:
                with torch.no_grad():
                    values.append(_result(module, step, values))
            else:
                values.append(_result(module, step, values))
            for place in step.done:  # not to hold what backward does not need
                values[place] = None
        return _filled(self._output, values)


class Part(nn.Module):
    """A module of a network that was rebuilt from data: it runs its program on its children and weights."""

    def __init__(self) -> None:
        super().__init__()
        self._programs: tuple[Program | None, Program | None] = (None, None)  # of evaluation, of training

    def forward(self, *inputs: Any) -> Any:
        """Run the program of the mode that the module is in."""
        program = self._programs[self.training]
        if program is None:
            raise TypeError("this part of a network is not called in this mode, or holds modules alone")
        if len(inputs) != program.n_inputs:
            raise TypeError(f"this part of a network takes {program.n_inputs} inputs, got {len(inputs)}")
        return program.run(self, inputs)


def rebuilt_network(name: str, input_names: Sequence[str]) -> Part:
    """Return an empty `Part` that is a whole network: its `forward` has arguments of these names."""
    return _of_class(name, tuple(input_names), initialised=True)


def _of_class(name: str, input_names: tuple[str, ...], *, initialised: bool = False) -> Part:
    """Return an instance of a class made for these names, so that whoever asks for the signature finds them."""

    def forward(self: Part, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(self, *args, **kwargs)
        return Part.forward(self, *(bound.arguments[name] for name in input_names))

    def reduce(self: Part) -> tuple[Any, ...]:
        return _of_class, (name, input_names), self.__getstate__()

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature([inspect.Parameter(each, kind) for each in ("self", *input_names)])
    vars(forward)["__signature__"] = signature
    made: type[Part] = type(name, (Part,), {"forward": forward, "__reduce__": reduce, "__module__": __name__})
    # copies bring their state along, so `__init__` is for new networks alone
    return made() if initialised else Part.__new__(made)


def _step(said: JsonValue, n_known: int) -> _Step:
    if type(said) is not list or len(said) not in (4, 5) or type(said[0]) is not str or type(said[1]) is not str:
        raise UnsafeFileError(f"its graph has the step {str(said)[:60]!r}")
    kind, target, args, kwargs = said[:4]
    if kind not in _TARGETS or (len(said) == 5 and said[4] != "no_grad"):
        raise UnsafeFileError(f"its graph has a step of the unknown kind {str(said[0])[:40]!r}")
    if type(args) is not list or type(kwargs) is not dict:
        raise UnsafeFileError(f"its graph has a step with the arguments {str(args)[:40]!r} and {str(kwargs)[:40]!r}")
    found_args = from_json(args, n_known)
    found_kwargs = {name: from_json(value, n_known) for name, value in kwargs.items()}
    _check_arguments(kind, target, found_args)
    deep = [arg for arg in (*found_args, *found_kwargs.values()) if not isinstance(arg, Reference)]
    is_flat = not references_in(deep) and not references_in(list(found_kwargs.values()))
    return _Step(kind, _TARGETS[kind](target), found_args, found_kwargs, is_flat, len(said) == 5, ())


def _check_arguments(kind: str, target: str, args: list[Any]) -> None:
    if kind == "method" and not (args and isinstance(args[0], Reference)):
        raise UnsafeFileError(f"its graph calls the method {target[:40]!r} of nothing that it computed")
    if target == "builtins.getattr" and not (len(args) == 2 and str(args[1]) in ATTRIBUTES):
        raise UnsafeFileError(f"its graph takes the attribute {str(args[1:])[:60]}, which is none of tensors")


def _with_lifetimes(steps: list[_Step], output: Any, n_inputs: int) -> list[_Step]:
    """Return the steps with the places whose last reader each is."""
    last: dict[int, int] = {}
    for number, step in enumerate(steps):
        last[n_inputs + number] = number
        last.update(dict.fromkeys(references_in([step.args, step.kwargs]), number))
    done: dict[int, list[int]] = {}
    for place in set(last) - set(references_in(output)):
        done.setdefault(last[place], []).append(place)
    return [step._replace(done=tuple(sorted(done.get(number, ())))) for number, step in enumerate(steps)]


def _child(path: str) -> tuple[str, ...]:
    return tuple(path.split("."))


def _function(name: str) -> Callable[..., Any]:
    if (found := function_named(name)) is None:
        raise UnsafeFileError(f"its graph calls the function {name[:60]!r}, which is none that networks may use")
    return found


def _method(name: str) -> str:
    if name not in METHODS:
        raise UnsafeFileError(f"its graph calls the method {name[:60]!r}, which is none that networks may use")
    return name


_TARGETS: Mapping[str, Callable[[str], Any]] = {
    "module": _child,
    "weight": _child,
    "function": _function,
    "method": _method,
}


def _result(module: nn.Module, step: _Step, values: list[Any]) -> Any:
    if step.kind == "weight":
        return _weight(module, step.target)
    if step.is_flat:
        args = [values[arg.place] if type(arg) is Reference else arg for arg in step.args]
        kwargs = step.kwargs
    else:
        args, kwargs = _filled(step.args, values), _filled(step.kwargs, values)
    if step.kind == "function":
        return step.target(*args, **kwargs)
    if step.kind == "method":
        return method_of(args[0], step.target)(*args[1:], **kwargs)
    for name in step.target:
        module = module._modules[name]  # type: ignore[assignment]
    return module(*args, **kwargs)


def _weight(module: nn.Module, path: tuple[str, ...]) -> Tensor:
    for name in path[:-1]:
        module = module._modules[name]  # type: ignore[assignment]
    found = getattr(module, path[-1])  # as an attribute, which adapters and torch.fx see
    # A program that computed in place could write rows into a weight, and these would leave with the adapter.
    return found.clone() if path[-1] in module._parameters else found


def _filled(value: Any, values: list[Any]) -> Any:
    if type(value) is Reference:
        return values[value.place]
    if type(value) in (list, tuple):
        return type(value)(_filled(item, values) for item in value)
    if type(value) is dict:
        return {name: _filled(item, values) for name, item in value.items()}
    if type(value) is slice:
        return slice(_filled(value.start, values), _filled(value.stop, values), _filled(value.step, values))
    return value

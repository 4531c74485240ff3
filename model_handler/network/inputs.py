"""Inputs: what a network is called with, by the names of its arguments: how they are named, copied, placed and cut."""

import inspect
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model_handler.errors import ModelError
from model_handler.network.replica import requires_grad_kept

__all__ = [
    "NamedInputs",
    "call_network",
    "default_input_names",
    "example_tensors",
    "first_row",
    "first_rows",
    "is_on_meta",
    "named_inputs",
    "own_inputs",
    "place",
    "with_numbers",
]

NamedInputs = Mapping[str, Any]


def default_input_names(network: nn.Module) -> tuple[str, ...]:
    """Return the arguments of `forward` that have no default; the first one where all have."""
    return _default_names(_parameters_of_forward(network))


def example_tensors(inputs: object) -> Any:
    """Return example inputs with arrays as tensors. Raises TypeError for text: the network is called with it."""
    if isinstance(inputs, np.ndarray):
        return torch.tensor(inputs)
    if isinstance(inputs, tuple):
        return tuple(map(example_tensors, inputs))
    if isinstance(inputs, Mapping):
        return {name: example_tensors(part) for name, part in inputs.items()}
    if isinstance(inputs, (str, bytes)):
        raise TypeError(f"example_inputs is a tensor, a tuple or a dict of tensors, as `forward` takes, got {inputs!r}")
    return inputs


def named_inputs(network: nn.Module, inputs: object, input_names: Sequence[str]) -> dict[str, Any]:
    """Return inputs by name: a mapping as it is, parts in a tuple by position. `input_names` are the usual ones here.

    The parts of a `forward` that takes `*args` are called "*0", "*1". Raises ModelError for too many or too few.
    """
    parameters = _parameters_of_forward(network)
    if isinstance(inputs, Mapping):
        needed = [p.name for p in parameters if _is_needed(p)]
        if missing := [name for name in needed if name not in inputs]:
            raise ModelError(f"the network takes the inputs {needed}, and {missing} are not among {list(inputs)}")
        return dict(inputs)
    parts = inputs if isinstance(inputs, tuple) else (inputs,)
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return {f"*{number}": part for number, part in enumerate(parts)}
    names = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
    if len(parts) == len(input_names):
        names = list(input_names)
    required = _default_names(parameters)
    if not len(required) <= len(parts) <= len(names):
        raise ModelError(
            f"the network takes the inputs {list(required)}, got {len(parts)}; give several parts as "
            "((a, b), label), without labels as ((a, b),), or as a dict by name"
        )
    return dict(zip(names, parts, strict=False))


def call_network(network: nn.Module, inputs: NamedInputs, *, may_set: bool = False) -> Any:
    """Call a network with inputs by name; where `forward` takes `*args`, in order.

    The `requires_grad` that a `forward` sets are put back, unless it `may_set` them.
    """
    with nullcontext() if may_set else requires_grad_kept(network):
        if all(name.startswith("*") for name in inputs):
            return network(*inputs.values())
        return network(**inputs)


def own_inputs(inputs: NamedInputs) -> dict[str, Any]:
    """Return inputs that a network may write into: many begin with `x.sub_(mean)` or an in-place layer."""
    return {name: part.clone() if isinstance(part, Tensor) else part for name, part in inputs.items()}


def place(tensor: Tensor, device: torch.device, dtype: torch.dtype, *, channels_last: bool) -> Tensor:
    """Copy a tensor to `device`, as `dtype` if it is floating, images with channels innermost in memory if asked.

    Always a copy, as the network may write into its input, and the input is the user's.
    """
    wanted = dtype if tensor.is_floating_point() else tensor.dtype
    layout = torch.channels_last if channels_last and tensor.ndim == 4 else torch.preserve_format
    to_gpu = device.type == "cuda"  # a copy the other way must have ended before the network reads it
    return tensor.to(device, wanted, non_blocking=to_gpu, copy=True, memory_format=layout)


def first_rows(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return inputs of up to two rows, enough to compare two ways to compute."""
    return {name: part[:2] if isinstance(part, Tensor) and part.ndim else part for name, part in inputs.items()}


def first_row(inputs: NamedInputs) -> dict[str, Any]:
    """Return the first row of each input that has as many rows as the first one; the others as they are."""
    sizes = [len(part) for part in inputs.values() if isinstance(part, Tensor) and part.ndim]
    return {
        name: part[:1] if isinstance(part, Tensor) and part.ndim and len(part) == sizes[0] else part
        for name, part in inputs.items()
    }


def is_on_meta(inputs: object) -> bool:
    """Return whether a part of some inputs has a shape and no numbers."""
    if isinstance(inputs, Mapping):
        return any(map(is_on_meta, inputs.values()))
    if isinstance(inputs, (tuple, list)):
        return any(map(is_on_meta, inputs))
    return isinstance(inputs, Tensor) and inputs.is_meta


def with_numbers(part: object) -> object:
    """Return a part of some inputs with numbers where it has a shape alone: uniform from 0 to 1, or zeros of integers.

    They are the same each time, and torch's generators are left as they were.
    """
    if not isinstance(part, Tensor) or not part.is_meta:
        return part
    if not part.is_floating_point():
        return torch.zeros(part.shape, dtype=part.dtype, device="cpu")
    return torch.rand(part.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32, device="cpu")


def _is_needed(parameter: inspect.Parameter) -> bool:
    variable = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and not variable


def _parameters_of_forward(network: nn.Module) -> list[inspect.Parameter]:
    return list(inspect.signature(network.forward).parameters.values())


def _default_names(parameters: Sequence[inspect.Parameter]) -> tuple[str, ...]:
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return tuple(p.name for p in named if p.default is p.empty) or tuple(p.name for p in named[:1])

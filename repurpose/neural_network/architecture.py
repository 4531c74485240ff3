"""Which parameters of a network are not the source's, and the input shapes by which loading makes the network again."""

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from model_handler.data.labels import LABEL_KEY, near_keys
from model_handler.network.states import state_of
from repurpose.data.inputs import Inputs

__all__ = [
    "Spec",
    "WithParts",
    "as_spec",
    "check_width",
    "like_spec",
    "new_parameters",
    "refuse_label_as_input",
]

# A table, as no file may name an attribute of torch.
_KINDS = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128, torch.bool),
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32, torch.int64),
)
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in _KINDS}
_MAX_ELEMENTS = 2**28  # two volumes of 512 voxels a side
_MOST_AXES = 64
_FILLED = 2**20  # elements up to which example inputs have memory of their own

# Of one tensor {"shape": ..., "dtype": ..., "fill": ...}; of a tuple a list of such, of a dict {"parts": {name: ...}}.
Spec = list[dict[str, Any]] | dict[str, Any]


class WithParts(nn.Module):
    """Wraps a network so that it carries further modules, which its forward does not use; its own names stay."""

    def __init__(self, network: nn.Module, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.__dict__["network"] = network  # not a child, or the names in its state_dict would begin with "network."
        self._parameters, self._buffers = network._parameters, network._buffers
        self._non_persistent_buffers_set = network._non_persistent_buffers_set
        self._modules = {**network._modules, **parts}
        self.training = network.training

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Return what the network returns."""
        return self.__dict__["network"](*inputs, **options)

    def train(self, mode: bool = True) -> "WithParts":
        """Set the mode of all parts and of the network itself, as of any module."""
        self.__dict__["network"].training = mode
        return super().train(mode)


def new_parameters(module: nn.Module, source: nn.Module) -> set[str]:
    """Return the names of the parameters of `module` that do not hold what the source has under the same name.

    A name may have gained a path in front, as by ``nn.Sequential(source, head)``.
    """
    transferable = {name: tensor.detach().cpu() for name, tensor in state_of(source).items()}
    new = set()
    for name, parameter in module.named_parameters():
        steps = name.split(".")
        ends = [".".join(steps[start:]) for start in range(len(steps))]
        value = parameter.detach().cpu()
        if not any(end in transferable and _has_equal_values(value, transferable[end]) for end in ends):
            new.add(name)
    return new


def check_width(inputs: object, n_features: int | None, class_name: str) -> None:
    """Raise ValueError unless rows of numbers are as wide as in training, and not empty; others are for the network."""
    if not isinstance(inputs, Tensor) or inputs.ndim != 2:
        return
    width = inputs.shape[1]
    if not width:
        raise ValueError(f"Found 0 feature(s) (shape={tuple(inputs.shape)}) while a minimum of 1 is required.")
    if n_features not in (None, width):
        raise ValueError(f"X has {width} features, but {class_name} is expecting {n_features} features as input")


def refuse_label_as_input(inputs: object, spec: Spec) -> None:
    """Raise ValueError for a dict with a part that is called like a label and was not an input in training."""
    if not isinstance(inputs, Mapping):
        return
    known = spec.get("parts", ()) if isinstance(spec, Mapping) else ()
    if unknown := [key for key in near_keys(inputs) if key not in known]:
        raise ValueError(
            f"the network was trained without an input {unknown[0]!r}; if it is the label, its key is {LABEL_KEY!r}"
        )


def as_spec(inputs: Inputs) -> Spec:
    """Note shapes and dtypes of inputs as plain values: of one tensor, a list of them, or a dict of them by name.

    Of integer inputs the smallest value is noted too: a length or a token may well not be 0.
    """
    if isinstance(inputs, Mapping):
        return {"parts": {name: _spec_of(part) for name, part in inputs.items()}}
    return [_spec_of(part) for part in inputs] if isinstance(inputs, tuple) else _spec_of(inputs)


def _spec_of(part: Tensor) -> dict[str, Any]:
    spec = {"shape": list(part.shape), "dtype": str(part.dtype).removeprefix("torch.")}
    is_integer = not (part.is_floating_point() or part.is_complex() or part.dtype == torch.bool)
    return {**spec, "fill": int(part.min())} if is_integer and part.numel() else spec


def like_spec(spec: Spec) -> Inputs:
    """Make inputs of the shapes and dtypes that `as_spec` noted, all zeros or the smallest integer.

    Raises ValueError for what it cannot have noted, as a file may hold.
    """
    if isinstance(spec, list):
        return tuple(_tensor_like(part) for part in spec)
    if isinstance(spec, dict) and isinstance(spec.get("parts"), dict):
        return {name: _tensor_like(part) for name, part in spec["parts"].items()}
    return _tensor_like(spec)


def _tensor_like(part: dict[str, Any]) -> Tensor:
    if not isinstance(part, dict) or not {"shape", "dtype"} <= set(part) <= {"shape", "dtype", "fill"}:
        raise ValueError("its inputs have no shape or no dtype")
    shape, dtype = part["shape"], _DTYPES.get(str(part["dtype"]))
    if dtype is None:
        raise ValueError(f"its inputs are of the unknown dtype {str(part['dtype'])[:40]!r}")
    if not _is_shape(shape):
        raise ValueError(f"its inputs have the shape {str(shape)[:60]}")
    fill = part.get("fill", 0)
    if isinstance(fill, bool) or not isinstance(fill, int):
        raise ValueError(f"its inputs are filled with {str(fill)[:40]!r}")
    try:
        one = torch.full((), fill, dtype=dtype, device="cpu")
    except (RuntimeError, OverflowError) as error:
        raise ValueError(f"its inputs are filled with {str(fill)[:40]}: {error}") from error
    # Large ones are one number seen from everywhere: a few characters of a file shall not fill the memory.
    return one.expand(shape) if prod(shape) > _FILLED else one.expand(shape).clone()


def _is_shape(shape: Any) -> bool:
    """Tell whether this can be the shape of two rows, which are what training notes."""
    if (
        not isinstance(shape, list)
        or not 0 < len(shape) <= _MOST_AXES
        or not all(type(size) is int and size >= 0 for size in shape)
    ):
        return False
    return shape[0] <= 2 and prod(shape) <= _MAX_ELEMENTS


def _has_equal_values(parameter: Tensor, other: object) -> bool:
    if not isinstance(other, Tensor) or parameter.shape != other.shape:
        return False
    return torch.equal(parameter, other.to(parameter.dtype))  # a head in another precision is still transferred

"""Architecture: what of a network to train came from the source, and what is needed to make the same network again."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from model_handler.data.labels import LABEL_KEY, near_keys
from model_handler.network.states import state_of

__all__ = ["WithParts", "as_spec", "check_width", "like_spec", "new_parameters", "refuse_label_as_input"]


class WithParts(nn.Module):
    """A network that carries further modules, which its forward does not use; all names of its own stay as they are."""

    def __init__(self, network: nn.Module, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.__dict__["network"] = network  # not a child, or all names would begin with it
        self._parameters, self._buffers = network._parameters, network._buffers
        self._non_persistent_buffers_set = network._non_persistent_buffers_set
        self._modules = {**network._modules, **parts}
        self.training = network.training

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """What the network gives."""
        return self.__dict__["network"](*inputs, **options)

    def train(self, mode: bool = True) -> "WithParts":
        """As of any module; the network itself goes along."""
        self.__dict__["network"].training = mode
        return super().train(mode)


def new_parameters(module: nn.Module, source: nn.Module) -> set[str]:
    """The names of the parameters of `module` that do not hold what the source has under the same name.

    A name may have gained a path in front, as by ``nn.Sequential(source, head)``.
    """
    theirs = {name: tensor.detach().cpu() for name, tensor in state_of(source).items()}
    new = set()
    for name, parameter in module.named_parameters():
        steps = name.split(".")
        ends = [".".join(steps[start:]) for start in range(len(steps))]
        mine = parameter.detach().cpu()
        if not any(end in theirs and _is_same(mine, theirs[end]) for end in ends):
            new.add(name)
    return new


def check_width(inputs: Any, n_features: int | None, class_name: str) -> None:
    """Raise ValueError unless rows of numbers are as wide as in training, and not empty; others are for the network."""
    if not isinstance(inputs, Tensor) or inputs.ndim != 2:
        return
    width = inputs.shape[1]
    if not width:
        raise ValueError(f"Found 0 feature(s) (shape={tuple(inputs.shape)}) while a minimum of 1 is required.")
    if n_features not in (None, width):
        raise ValueError(f"X has {width} features, but {class_name} is expecting {n_features} features as input")


def refuse_label_as_input(inputs: Any, spec: Any) -> None:
    """Raise ValueError for a dict with a part that is called like a label and was none of the inputs in training."""
    if not isinstance(inputs, Mapping):
        return
    known = spec.get("parts", ()) if isinstance(spec, Mapping) else ()
    if strange := [key for key in near_keys(inputs) if key not in known]:
        raise ValueError(
            f"the network was trained without an input {strange[0]!r}; if it is the label, its key is {LABEL_KEY!r}"
        )


def as_spec(inputs: Any) -> Any:
    """Shapes and dtypes of inputs, as plain values: of one tensor, a list of them, or a dict of them by name.

    Of whole numbers the smallest is noted too: a length or a token may well not be 0.
    """
    if isinstance(inputs, Mapping):
        return {"parts": {name: as_spec(part) for name, part in inputs.items()}}
    if isinstance(inputs, tuple):
        return [as_spec(part) for part in inputs]
    spec = {"shape": list(inputs.shape), "dtype": str(inputs.dtype).removeprefix("torch.")}
    whole = not (inputs.is_floating_point() or inputs.is_complex() or inputs.dtype == torch.bool)
    return {**spec, "fill": int(inputs.min())} if whole and inputs.numel() else spec


def like_spec(spec: Any) -> Any:
    """Inputs of the shapes and dtypes that `as_spec` noted, all zeros or the smallest whole number."""
    if isinstance(spec, list):
        return tuple(like_spec(part) for part in spec)
    if "parts" in spec:
        return {name: like_spec(part) for name, part in spec["parts"].items()}
    return torch.full(spec["shape"], spec.get("fill", 0), dtype=getattr(torch, spec["dtype"]), device="cpu")


def _is_same(mine: Tensor, theirs: Any) -> bool:
    return isinstance(theirs, Tensor) and mine.shape == theirs.shape and torch.equal(mine, theirs.to(mine.dtype))

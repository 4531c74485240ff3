"""A run on torch's "meta", which has shapes and no numbers: it finds what would fill the memory before it does."""

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model_handler.errors import UnsafeFileError
from model_handler.network.copying import deep_copy

__all__ = ["check_by_running"]

_LARGEST, _LARGEST_SUM = 2**28, 2**36  # elements that one operation makes, and all together, of two rows


def check_by_running(network: nn.Module, inputs: Mapping[str, Any]) -> None:
    """Run a network, in evaluation and in training, on shapes alone.

    `inputs` are by name, as `forward` takes them, and of two rows. Raises UnsafeFileError where an operation makes a
    tensor of a size that no network has; whatever else an operation raises is raised.
    """
    shapes = deep_copy(network).to("meta")
    given = {name: part.to("meta") if isinstance(part, Tensor) else part for name, part in inputs.items()}
    for mode in (False, True):
        shapes.train(mode)
        with torch.no_grad(), _Counting():
            shapes(**given)


class _Counting(TorchDispatchMode):
    """Counts the elements that operations make."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and not _is_view(tensor):
                size = prod(tensor.shape)
                self.total += size
                if size > _LARGEST or self.total > _LARGEST_SUM:
                    raise UnsafeFileError(
                        f"its graph makes a tensor of the shape {tuple(tensor.shape)} by {function}, of two rows: "
                        "no network does"
                    )
        return made


def _is_view(tensor: Tensor) -> bool:
    """Tell whether a tensor takes no memory of its own: of what is expanded, each number stands for many."""
    return tensor._is_view() or 0 in tensor.stride()

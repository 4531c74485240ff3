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
from repurpose.offsite.architecture.operations import check_items

__all__ = ["check_by_running"]

_LARGEST, _LARGEST_SUM = 2**28, 2**36  # elements that one operation makes, and all together, of two rows
_LONGEST_LIST = 100_000


def check_by_running(network: nn.Module, inputs: Mapping[str, Any]) -> None:
    """Run a network, in evaluation and in training, on shapes alone.

    `inputs` are by name, as `forward` takes them, and of two rows. Raises UnsafeFileError where an operation makes a
    tensor of a size, or returns a list of a length, that no network has; whatever else an operation raises is raised.
    """
    shapes = deep_copy(network).to("meta")
    given = {name: part.to("meta") if isinstance(part, Tensor) else part for name, part in inputs.items()}
    for mode in (False, True):
        shapes.train(mode)
        # what makes tensors of its own, as `torch.ones`, is to make them there too
        with torch.no_grad(), torch.device("meta"), _Counting():
            check_items(shapes(**given))


class _Counting(TorchDispatchMode):
    """Counts the elements that operations make."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        device = (kwargs or {}).get("device")
        if device is not None and torch.device(device).type != "meta":  # there it would take memory at once
            raise UnsafeFileError(f"its graph asks {function} for the device {str(device)[:40]!r}")
        if any("List[" in str(each.type) for each in function._schema.returns):
            self._check_lists(function, [each for each in tree_leaves(args) if isinstance(each, Tensor)])
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._count(function, tensor)
        return made

    def _check_lists(self, function: Any, tensors: list[Tensor]) -> None:
        """Raise UnsafeFileError before an operation makes a list of as many tensors as an axis is long."""
        if any(size > _LONGEST_LIST for tensor in tensors for size in tensor.shape):
            raise UnsafeFileError(f"its graph makes a list of more than {_LONGEST_LIST:,} tensors by {function}")

    def _count(self, function: Any, tensor: Tensor) -> None:
        # of what is expanded, too, though it takes no memory: the next operation computes with each element
        size = prod(tensor.shape)
        self.total += 0 if tensor._is_view() else size
        if size > _LARGEST or self.total > _LARGEST_SUM:
            raise UnsafeFileError(
                f"its graph makes a tensor of the shape {tuple(tensor.shape)} by {function}, of two rows"
            )

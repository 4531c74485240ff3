"""A run on torch's "meta", which has shapes and no numbers: it finds what would fill the memory before it does."""

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model_handler.errors import CorruptFileError, UnsafeFileError
from model_handler.network.copying import deep_copy
from repurpose.offsite.architecture.operations import check_items

__all__ = ["check_by_running"]

_LARGEST, _LARGEST_SUM = 2**28, 2**36  # elements that one operation makes, and all together, of two rows
_LONGEST_LIST = 100_000
_MANY = 64  # rows, of which growth faster than theirs is seen, and a number of rows written into the graph
_SLACK, _SMALL = 2, 2**16  # torch computes some sizes by other steps; a table of all rows by all rows is small
_Limits = tuple[int, int]  # of one tensor and of all


def check_by_running(network: nn.Module, inputs: Mapping[str, Any]) -> None:
    """Run a network, in evaluation and in training, on shapes alone, of two rows and of many.

    `inputs` are by name, as `forward` takes them, and of two rows. Raises UnsafeFileError where an operation makes a
    tensor of a size, or returns a list of a length, that no network has, or where sizes grow faster than the number of
    rows; CorruptFileError for a network of two rows alone; whatever else an operation raises of two rows is raised.
    """
    shapes = deep_copy(network).to("meta")
    for mode in (False, True):
        shapes.train(mode)
        of_two = _made_by(shapes, inputs, (_LARGEST, _LARGEST_SUM), 2)
        largest, total = (_SLACK * max(most * _MANY // 2, _SMALL) for most in of_two)
        more = {name: _with_rows(part, _MANY) for name, part in inputs.items()}
        try:
            _made_by(shapes, more, (largest, total), _MANY)
        except UnsafeFileError:
            raise
        except Exception as error:  # any operation may raise anything of what it does not take
            said = f"its graph takes 2 rows and fails on {_MANY} of the same shape: {type(error).__name__}: "
            raise CorruptFileError(said + str(error).partition("\n")[0]) from error  # what follows is torch's own stack


def _made_by(network: nn.Module, inputs: Mapping[str, Any], limits: _Limits, n_rows: int) -> _Limits:
    """Run a network on shapes; return how many elements its largest tensor and all together have."""
    given = {name: part.to("meta") if isinstance(part, Tensor) else part for name, part in inputs.items()}
    # what makes tensors of its own, as `torch.ones`, is to make them there too
    with torch.no_grad(), torch.device("meta"), _Counting(limits, n_rows) as counted:
        check_items(network(**given))
    return counted.largest, counted.total


def _with_rows(part: Any, n_rows: int) -> Any:
    """Return a part of the inputs with so many rows, on "meta"; what has no two rows stays."""
    if not isinstance(part, Tensor) or part.ndim == 0 or len(part) != 2:
        return part
    return torch.empty((n_rows, *part.shape[1:]), dtype=part.dtype, device="meta")


class _Counting(TorchDispatchMode):
    """Counts the elements that operations make."""

    def __init__(self, limits: _Limits, n_rows: int) -> None:
        super().__init__()
        self.limits, self.n_rows = limits, n_rows
        self.largest = self.total = 0

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
        self.largest = max(self.largest, size)
        self.total += 0 if tensor._is_view() else size
        if self.largest > self.limits[0] or self.total > self.limits[1]:
            faster = "" if self.n_rows == 2 else ", which grows faster than the number of rows"
            raise UnsafeFileError(
                f"its graph makes a tensor of the shape {tuple(tensor.shape)} by {function}, of "
                f"{self.n_rows} rows{faster}"
            )

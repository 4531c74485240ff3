"""Deep copies of networks get weights of their own, whatever tensors with a history hang on their modules.

torch refuses to copy a tensor that was computed with gradients, and modules hold such tensors beside their weights:
the `weight` of `torch.nn.utils.weight_norm`, `spectral_norm` and `prune`, which each forward recomputes, activations
kept from the last one, or what `__init__` made of a parameter. A copy holds their values, without their history.
"""

import copy
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["CopiedByValue", "CopyingValues", "deep_copy", "detach_tensors", "separate_storage"]


_WITHOUT_STORAGE = (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)


def deep_copy(network: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """Copy `network`, with a place of its own for every number of a parameter or buffer, so that it can learn.

    `memo` is as of `copy.deepcopy`.
    """
    with CopyingValues(), torch.no_grad():  # TorchScript would note the copying in the history of its weights
        copied = copy.deepcopy(network, memo)
    for own, original in zip(copied.parameters(), network.parameters(), strict=True):
        own.requires_grad_(original.requires_grad)
    separate_storage(copied)
    for copied_module, module in zip(copied.modules(), network.modules(), strict=True):
        if isinstance(module, torch.jit.ScriptModule) and "train" in vars(module):  # held in evaluation by freezing
            vars(copied_module)["train"] = copy.deepcopy(vars(module)["train"], {id(module): copied_module})
    return copied


def separate_storage(network: nn.Module) -> None:
    """Give parameters and buffers into which nothing can be written others of the same values, in place.

    These are those that overlap themselves, as `expand` makes them, and those made in `torch.inference_mode`: no step
    of an optimiser and no `load_state_dict` could change them. A tensor that has several names keeps them.
    """
    apart: dict[int, Tensor] = {}
    for module in network.modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for slot in (module._parameters, module._buffers):
            for name, tensor in slot.items():
                if tensor is not None and (tensor.is_inference() or _overlaps_itself(tensor)):
                    slot[name] = apart.setdefault(id(tensor), _apart(tensor))  # type: ignore[assignment]


def detach_tensors(network: nn.Module) -> None:
    """Leave of the tensors that modules hold beside parameters and buffers the values alone, in place.

    What computed them, a graph with all its activations, is not kept alive, and the network can be copied.
    """
    for module in network.modules():
        if not isinstance(module, torch.jit.ScriptModule):
            held = vars(module)
            held.update({name: value.detach() for name, value in held.items() if _has_history(value)})


class CopyingValues(TorchFunctionMode):
    """A mode in which a deep copy of a tensor that torch would not copy holds its values, without their history."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is Tensor.__deepcopy__ and (_has_history(args[0]) or args[0].layout in _WITHOUT_STORAGE):
            tensor, memo = args
            memo[id(tensor)] = copied = tensor.detach().clone()
            return copied
        return function(*args, **(kwargs or {}))


class CopiedByValue:
    """`copy.deepcopy` of what holds networks copies tensors with a history, which torch refuses to copy, by value."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        memo[id(self)] = copied = type(self).__new__(type(self))
        state: Any = self.__getstate__()  # a dict, as there are no slots
        with CopyingValues():
            vars(copied).update(copy.deepcopy(state, memo))
        return copied


def _has_history(value: object) -> bool:
    return isinstance(value, Tensor) and not value.is_leaf


def _overlaps_itself(tensor: Tensor) -> bool:
    """Return whether two numbers may lie in one place: a stride is within what the axes of smaller strides take up."""
    if tensor.layout is not torch.strided or not tensor.numel():
        return False
    taken = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and stride < taken:
            return True
        taken += stride * (size - 1)
    return False


def _apart(tensor: Tensor) -> Tensor:
    own = tensor.detach().clone(memory_format=torch.contiguous_format)
    return nn.Parameter(own, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else own

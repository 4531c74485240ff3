"""A loss that became NaN or infinite is explained, by inputs, dtype, or a group of layers with too high a rate."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from repurpose.data.inputs import Inputs
from repurpose.training.plan.parameter_groups import GroupTable

__all__ = ["explain_divergence", "not_finite"]


def not_finite(module: nn.Module) -> set[str]:
    """Find those weights that learn, and those buffers, by name, which hold NaN or infinite numbers."""
    learning = ((name, weight.detach()) for name, weight in module.named_parameters() if weight.requires_grad)
    tensors = (*learning, *module.named_buffers())
    return {name for name, tensor in tensors if _is_floating(tensor) and not _all_finite(tensor)}


def explain_divergence(
    groups: GroupTable, optimizer: Optimizer, inputs: "Inputs | None", *, epoch: int, batch: int, is_first_step: bool
) -> str:
    """Name the epoch, the batch, and the group of layers whose last step was the largest beside its weights."""
    where = f"the loss became NaN or infinite in epoch {epoch}, batch {batch} (both from 0)"
    if inputs is not None and not all(bool(torch.isfinite(part).all()) for part in _floating(inputs)):
        return f"{where}: the inputs of this batch hold NaN or infinite numbers; look at them, or at the transform"
    steps = [
        (_relative_step(entry["params"], entry["lr"]), group.name, entry["lr"])
        for group, entry in zip(groups, optimizer.param_groups)
    ]
    _, name, rate = max(steps)
    if is_first_step:
        return f"{where}: before any step, so the source's weights or the loss are to blame, not the learning rate"
    parameters = [parameter for entry in optimizer.param_groups for parameter in entry["params"]]
    if any(
        parameter.dtype == torch.float16 for parameter in parameters
    ):  # 1e-8, the usual `eps`, is 0 there: 0/0 in Adam's step
        return (
            f"{where}: weights of float16 learn, in which small gradients and an optimiser's eps become 0; give the "
            "network in float32, network.float(), and where memory is short precision='bfloat16'"
        )
    return (
        f"{where}: the group {name!r} moved furthest, at the learning rate {rate:.3g}; lower it, or set clip_norm=1.0"
    )


def _all_finite(tensor: Tensor) -> bool:
    """Look at the sum first, which is many times faster, and finite where all its terms are, but for enormous ones."""
    if tensor.dtype.itemsize == 1:  # of which torch has no sum
        tensor = tensor.float()
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def _relative_step(parameters: list[Tensor], rate: float) -> float:
    """Compute the norm of the last gradient times the rate, beside that of the weights; infinite where it is NaN."""
    gradient = _norm(parameter.grad for parameter in parameters if parameter.grad is not None)
    share = rate * gradient / max(_norm(parameter.detach() for parameter in parameters), 1e-12)
    return share if math.isfinite(share) else math.inf


def _norm(tensors: Iterable[Tensor]) -> float:
    """Compute the norm of several tensors; of sharded ones, of this process's shards: no other may be asked now."""
    local: Iterable[Any] = (tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors)
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in local))


def _floating(inputs: Inputs) -> list[Tensor]:
    parts: Iterable[Inputs]
    parts = inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple) else [inputs]
    return [part for part in parts if _is_floating(part)]


def _is_floating(value: object) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.is_floating_point()

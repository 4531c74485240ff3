"""Comparing: how far outputs differ, and marks by which any change of a network shows."""

import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["changed_marks", "checksums", "difference", "fingerprint"]


def difference(got: Tensor, wanted: Tensor) -> float:
    """The largest difference, as a part of the largest wanted value; infinite for other sizes or what is not finite."""
    if got.numel() != wanted.numel():
        return float("inf")
    got, wanted = got.reshape(-1).double(), wanted.reshape(-1).double()
    if not torch.isfinite(wanted).all():
        return float("inf")
    return float((got - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30))


def checksums(network: nn.Module) -> dict[str, int]:
    """A checksum of each parameter and buffer, the ones left out of the `state_dict` too."""
    named = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {name: zlib.crc32(tensor.detach().contiguous().numpy().tobytes()) for name, tensor in named.items()}


def fingerprint(network: nn.Module) -> dict[str, Any]:
    """All that must stay: the bits and identity of weights, modes, what learns, modules, hooks and attributes."""
    marks: dict[str, Any] = {f"bits of {name}": bits for name, bits in checksums(network).items()}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        marks[f"parameter {name}"] = (id(parameter), parameter.requires_grad, parameter.grad is None)
    for name, module in network.named_modules(remove_duplicate=False):
        hooks = {key: list(value) for key, value in vars(module).items() if key.endswith("_hooks") and value}
        marks[f"module {name}"] = (id(module), module.training, sorted(vars(module)), hooks)
    return marks


def changed_marks(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [name for name in {**before, **after} if before.get(name) != after.get(name)]

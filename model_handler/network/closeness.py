"""Closeness: whether two ways to run a network give the same, but for the order in which numbers are added."""

import torch
from torch import Tensor

__all__ = ["tensors_are_close"]


def tensors_are_close(got: list[Tensor], wanted: list[Tensor]) -> bool:
    """Return whether two lists hold the same tensors, in shape and dtype too."""
    return len(got) == len(wanted) and all(
        value.shape == reference.shape and value.dtype == reference.dtype and _is_close(value.cpu(), reference.cpu())
        for value, reference in zip(got, wanted, strict=True)
    )


def _is_close(value: Tensor, reference: Tensor) -> bool:
    """Tell whether two tensors agree to three fifths of the digits; another order of summation costs a few others."""
    if torch.equal(value, reference):  # as most are, which is seen in a fraction of the time
        return True
    if not value.is_floating_point():
        return False
    digits = torch.finfo(value.dtype).eps ** 0.6
    largest = float(reference.nan_to_num(0, 0, 0).abs().max()) if reference.numel() else 0.0
    return torch.allclose(value.double(), reference.double(), rtol=digits, atol=0.1 * digits * largest, equal_nan=True)

"""Agreement: whether two ways to run a network give the same, but for the order in which numbers are added."""

import torch
from torch import Tensor

__all__ = ["agree"]


def agree(got: list[Tensor], wanted: list[Tensor]) -> bool:
    """Whether two lists hold the same tensors, in shape and dtype too."""
    return len(got) == len(wanted) and all(
        mine.shape == theirs.shape and mine.dtype == theirs.dtype and _close(mine.cpu(), theirs.cpu())
        for mine, theirs in zip(got, wanted, strict=True)
    )


def _close(mine: Tensor, theirs: Tensor) -> bool:
    """Equal to three fifths of the digits of the dtype; another order of summation costs a few of the others."""
    if torch.equal(mine, theirs):  # as most are, which is seen in a fraction of the time
        return True
    if not mine.is_floating_point():
        return False
    digits = torch.finfo(mine.dtype).eps ** 0.6
    largest = float(theirs.nan_to_num(0, 0, 0).abs().max()) if theirs.numel() else 0.0
    return torch.allclose(mine.double(), theirs.double(), rtol=digits, atol=0.1 * digits * largest, equal_nan=True)

"""Feedback: from the output of the last block back to the input of each one, by the linear maps A_l and B_l.

In a chain of blocks of one width these are matrices; between the stages of a ConvNet A_l is a
transposed convolution that mirrors the stride, and B_l a convolution of one pixel. TOAST-Lite keeps each
weight where pre-tuning left it and learns a product of low rank that is added to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Feedback", "StageSize"]

# of a layer that reads 768 channels; a narrower one is drawn wider, so that signals keep their size
_SD, _WIDTH = 0.02, 768


@dataclass(frozen=True)
class StageSize:
    """The channels that a block or a stage reads and gives, and by what its output is smaller than its input."""

    width_in: int
    width_out: int
    stride: int = 1


class Feedback(nn.Module):
    """The maps A_l and B_l of all blocks or stages, first to last.

    Parameters
    ----------
    sizes : sequence of StageSize
    of_maps : bool
        Whether signals are maps (n_rows, channels, height, width) rather than tokens (n_rows, n_tokens, width).
    rank : int, optional
        The rank of what is learned in TOAST-Lite; None learns all of each map.
    """

    def __init__(self, sizes: Sequence[StageSize], *, of_maps: bool = False, rank: int | None = None) -> None:
        super().__init__()
        kind = _TransposedConvolution if of_maps else _Linear
        self.A = nn.ModuleList(kind(size.width_out, size.width_in, size.stride, rank) for size in sizes)
        self.B = nn.ModuleList(kind(size.width_in, size.width_in, 1, rank) for size in sizes)

    def forward(self, u: Tensor) -> list[Tensor]:
        """Compute what is added to the input of each block, first to last, from the signal behind the last one."""
        return [inward(signal) for inward, signal in zip(self.B, self._fed_back(u), strict=True)]

    def projected(self, u: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
        """Compute what `forward` does for tokens, each result td_l mapped by a matrix of `weights` (n_given, width)."""
        inward = [cast(_FeedbackMap, B).full_weight() for B in self.B]
        return [_in_turn(*maps) for maps in zip(self._fed_back(u), inward, weights, strict=True)]

    def _fed_back(self, u: Tensor) -> list[Tensor]:
        """Compute the signal before each block, first to last, from the one behind the last block."""
        signals: list[Tensor] = []
        for upward in reversed(self.A):
            u = upward(u)
            signals.insert(0, u)
        return signals


def _in_turn(u: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Map tokens by two matrices, one after the other; these are multiplied first where that is less work.

    It is where a batch has many more tokens than there are channels, as in training.
    """
    n_tokens, n_products = u[..., 0].numel(), second.shape[0] * first.numel()
    if n_products + n_tokens * second.shape[0] * first.shape[1] < n_tokens * (first.numel() + second.numel()):
        return F.linear(u, second @ first)
    return F.linear(F.linear(u, first), second)


class _FeedbackMap(nn.Module):
    """A linear map without bias: its weight, and in TOAST-Lite U and V, whose product is added to it."""

    def __init__(self, shape: tuple[int, ...], fan_in: int, rank: int | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=_SD * (_WIDTH / fan_in) ** 0.5))
        self.is_lite = rank is not None
        if rank is not None:
            self.weight.requires_grad_(False)
            n_rows, n_columns = shape[0], self.weight[0].numel()
            rank = min(rank, n_rows, n_columns)  # a ConvNet's first stage reads an image of three channels
            self.U = nn.Parameter(torch.zeros(n_rows, rank))
            self.V = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(rank, n_columns), a=5**0.5))

    def full_weight(self) -> Tensor:
        """Return the weight with what was learned beside it."""
        return self.weight + (self.U @ self.V).view_as(self.weight) if self.is_lite else self.weight


class _Linear(_FeedbackMap):
    """Maps the channels of tokens; the weight is of shape (width_out, width_in)."""

    def __init__(self, n_read: int, n_given: int, stride: int, rank: int | None) -> None:
        super().__init__((n_given, n_read), n_read, rank)

    def forward(self, u: Tensor) -> Tensor:
        return F.linear(u, self.full_weight())


class _TransposedConvolution(_FeedbackMap):
    """Maps the channels of maps that become larger by `stride`; each position makes one patch of that many pixels."""

    def __init__(self, n_read: int, n_given: int, stride: int, rank: int | None) -> None:
        super().__init__((n_read, n_given, stride, stride), n_read, rank)
        self.stride = stride

    def forward(self, u: Tensor) -> Tensor:
        return F.conv_transpose2d(u, self.full_weight(), stride=self.stride)

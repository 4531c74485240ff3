"""Gradient reversal: what comes after learns to tell domains apart, what comes before to make that hard.

Ganin, Ustinova, Ajakan, Germain, Larochelle, Laviolette, Marchand and Lempitsky (2016), Domain-adversarial training of
neural networks, JMLR 17, arXiv:1505.07818, section 4.2.
"""

from typing import Any

import torch
from torch import Tensor

__all__ = ["reverse_gradient"]


def reverse_gradient(values: Tensor, strength: float) -> Tensor:
    """Return the values as they are; their gradient is minus `strength` times that of what is returned."""
    return _Reversed.apply(values, strength)


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return -ctx.strength * gradients[0], None

"""A gradient reversal layer: the identity, through which gradients come back negative, times a strength.

Ganin et al. (2016), arXiv:1505.07818, section 4.2.
"""

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["GradientReversal", "set_reversals"]


class GradientReversal(nn.Module):
    """Passes on what it gets; the gradient that comes back is times minus `strength`, a number of one element.

    Examples
    --------
    >>> import torch
    >>> from repurpose.domain import GradientReversal
    >>> reversal, value = GradientReversal(), torch.tensor([2.0, 3.0], requires_grad=True)
    >>> reversal.strength = 0.5
    >>> reversal(value).pow(2).sum().backward()
    >>> value.grad  # of the squares it would be 4 and 6
    tensor([-2., -3.])
    """

    strength: Tensor | float = 0.0

    def forward(self, value: Tensor) -> Tensor:
        """Return the value."""
        return _Reversed.apply(value, self.strength)


def set_reversals(network: nn.Module, strength: Tensor | float) -> bool:
    """Set the strength of all reversals in a network, in place; return whether there are any."""
    found = [part for part in network.modules() if isinstance(part, GradientReversal)]
    for part in found:
        part.strength = strength
    return bool(found)


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, strength: Tensor | float) -> Tensor:
        ctx.strength = strength
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return -ctx.strength * gradient, None

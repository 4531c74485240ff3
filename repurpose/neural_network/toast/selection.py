"""Selection: how much each token or position of the first pass has to do with the task, and what is fed back of it.

By the equations of the paper s_i = clamp(cos(z_i, xi), 0, 1), u_i = P (s_i z_i), where xi is the embedding of
the task and P mixes channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Selection"]


class Selection(nn.Module):
    """Holds xi, drawn from N(0, I), and P, the identity at the start; channels are the last axis."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.xi = nn.Parameter(torch.randn(width))
        self.P = nn.Parameter(torch.eye(width))

    def scores(self, normalised: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute s: (n_rows, ..., width) to (n_rows, ...), from 0 to 1, and 0 where `mask` is false."""
        found = F.cosine_similarity(normalised, self.xi, dim=-1).clamp(0, 1)
        return found if mask is None else found * mask

    def forward(self, z: Tensor, scores: Tensor) -> Tensor:
        """Compute u: z of shape (n_rows, ..., width) weighted by its scores and mixed, of the same shape."""
        return F.linear(scores.unsqueeze(-1) * z, self.P)

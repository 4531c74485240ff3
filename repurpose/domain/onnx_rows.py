"""What methods do to rows of the target before the head sees them, as torch modules that a file of ONNX can hold."""

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["KernelComponents", "StandardizedRows", "Votes"]


class StandardizedRows(nn.Module):
    """Features in units of the target, and their coordinates along `axes` where these are given; float32.

    Parameters
    ----------
    means, deviations : float64 ndarray of shape (n_features,)
    axes : float64 ndarray of shape (n_features, n_adapted) or None
    """

    means: Tensor
    deviations: Tensor
    axes: Tensor | None

    def __init__(self, means: np.ndarray, deviations: np.ndarray, axes: np.ndarray | None = None) -> None:
        super().__init__()
        self.register_buffer("means", torch.from_numpy(means))
        self.register_buffer("deviations", torch.from_numpy(deviations))
        self.register_buffer("axes", None if axes is None else torch.from_numpy(np.ascontiguousarray(axes)))

    def forward(self, features: Tensor) -> Tensor:
        """Adapt features (n_rows, n_features)."""
        return self.in_double(features).float()

    def in_double(self, features: Tensor) -> Tensor:
        """Do the same without rounding to float32."""
        rows = (features.double() - self.means) / self.deviations
        return rows if self.axes is None else rows @ self.axes


class KernelComponents(nn.Module):
    """Components of the Gaussian kernel between features and known rows, all in units of both domains; float32.

    Parameters
    ----------
    pooled : StandardizedRows
    known : float32 ndarray of shape (n_known, n_features)
    width : float
        Of the kernel.
    components : float64 ndarray of shape (n_known, n_components)
    """

    points: Tensor
    squares: Tensor
    rate: Tensor
    components: Tensor

    def __init__(self, pooled: StandardizedRows, known: np.ndarray, width: float, components: np.ndarray) -> None:
        super().__init__()
        self.pooled = pooled
        points = pooled.in_double(torch.from_numpy(known))
        self.register_buffer("points", points.T.contiguous())
        self.register_buffer("squares", points.square().sum(dim=1))
        self.register_buffer("rate", torch.tensor(-0.5 / width**2, dtype=torch.float64))
        self.register_buffer("components", torch.from_numpy(np.ascontiguousarray(components)))

    def forward(self, features: Tensor) -> Tensor:
        """Adapt features (n_rows, n_features)."""
        rows = self.pooled.in_double(features)
        squares = rows.square().sum(dim=1, keepdim=True) - 2 * (rows @ self.points) + self.squares
        return (torch.exp(self.rate * squares.clamp(min=0)) @ self.components).float()


class Votes(nn.Module):
    """Maps rows to the share of the votes that each class gets: (n_rows, n_classes), float64.

    Parameters
    ----------
    heads : list of nn.Module
        Each maps rows to probabilities, and votes for the most likely class.
    votes : ndarray of shape (n_heads,)
        How much each of them counts.
    """

    votes: Tensor

    def __init__(self, heads: list[nn.Module], votes: np.ndarray) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self.register_buffer("votes", torch.from_numpy(votes / votes.sum()))

    def forward(self, rows: Tensor) -> Tensor:
        """Count the votes for rows (n_rows, n_features)."""
        shares = []
        for vote, head in zip(self.votes, self.heads):
            probabilities = head(rows)
            n_classes = probabilities.shape[1]
            is_chosen = torch.arange(n_classes, device=rows.device) == probabilities.argmax(dim=1, keepdim=True)
            shares.append(is_chosen.double() * vote)
        total = sum(shares[1:], shares[0])
        return total / total.sum(dim=1, keepdim=True)

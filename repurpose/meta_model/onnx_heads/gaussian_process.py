"""`GaussianProcesses`: one latent function a class, by the kernel and products with one stored matrix.

Probabilities need the variance of the latent functions averaged over the classes alone, so that of all matrices A_c^-1
only their mean is kept, (n_points, n_points).
"""

from math import pi

import numpy as np
import torch
from torch import Tensor, nn

from repurpose.meta_model.gp.kernel import LayerKernels
from repurpose.meta_model.gp.model import GpModel
from repurpose.meta_model.onnx_heads.numbers import double

__all__ = ["GaussianProcesses", "LatentVariance"]

_NOTHING = 1e-10  # a row this small beside the others is the rounding error of a row at the centre


class LayerKernel(nn.Module):
    """The part of the kernel that one layer adds, between its columns of the features and the points.

    Parameters
    ----------
    columns : slice
    center : ndarray of shape (n_features,)
    norm : float
        What centred rows are divided by; 0 for a layer that counts for nothing.
    unit_norm : bool
        Whether rows are brought to norm 1 then.
    radial, lengthscale, linear : float
    points : float64 tensor of shape (n_points, width)
    """

    center: Tensor
    norm: Tensor
    radial: Tensor
    rate: Tensor
    linear: Tensor
    points: Tensor
    squares: Tensor

    def __init__(
        self,
        columns: slice,
        center: np.ndarray,
        norm: float,
        *,
        unit_norm: bool,
        radial: float,
        lengthscale: float,
        linear: float,
        points: Tensor,
    ) -> None:
        super().__init__()
        self.columns, self.unit_norm = columns, unit_norm
        self.register_buffer("center", double(center[columns]))
        self.register_buffer("norm", double(norm if norm > 0 else np.inf))
        self.register_buffer("radial", double(radial))
        self.register_buffer("rate", double(-0.5 / lengthscale**2))
        self.register_buffer("linear", double(linear))
        self.register_buffer("points", points.T.contiguous())
        self.register_buffer("squares", points.square().sum(dim=1))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map float64 features to the kernel of each row with the points, (n_rows, n_points), and with itself."""
        rows = (features[:, self.columns] - self.center) / self.norm
        if self.unit_norm:
            norms = rows.square().sum(dim=1, keepdim=True).sqrt()
            # A row at the centre has no direction, and becomes zero.
            rows = torch.where(norms > _NOTHING, rows / norms.clamp(min=_NOTHING), torch.zeros_like(rows))
        products, own = rows @ self.points, rows.square().sum(dim=1, keepdim=True)
        squares = (own + self.squares - 2 * products).clamp(min=0)
        return self.radial * torch.exp(self.rate * squares) + self.linear * products, self.radial + self.linear * own


class GaussianProcesses(nn.Module):
    """Maps features to the probabilities of `GpModel`, whose kernel must be ours."""

    mean: Tensor
    temperature: Tensor
    variance_factor: Tensor
    weights: Tensor
    mean_inverse: Tensor

    def __init__(self, model: GpModel) -> None:
        super().__init__()
        kernel, rows, ends = model.kernel, model.rows, np.cumsum(model.rows.widths).tolist()
        if not isinstance(kernel, LayerKernels):
            raise TypeError(f"the kernel must be LayerKernels, got {type(kernel).__name__}")
        self.layers = nn.ModuleList(
            LayerKernel(
                slice(end - points.shape[1], end),
                rows.center,
                float(rows.norms[layer]),
                unit_norm=bool(rows.unit_norm),
                radial=kernel.radial[layer],
                lengthscale=kernel.lengthscale[layer],
                linear=kernel.linear[layer],
                points=points,
            )
            for layer, (end, points) in enumerate(zip(ends, model.points))
        )
        self.register_buffer("mean", double(model.mean))
        self.register_buffer("temperature", double(model.temperature))
        self.register_buffer("variance_factor", double(pi / 8 * model.variance_factor))
        self.register_buffer("weights", model.weights.clone())
        self.register_buffer("mean_inverse", model.solve.sum() / model.solve.n_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (n_rows, n_features) to probabilities (n_rows, n_classes), float64."""
        cross, own = self._kernel(features)
        means = self.mean + cross @ self.weights
        variances = self._variances(cross, own)
        scale = self.temperature * torch.sqrt(1 + self.variance_factor * variances)
        return torch.softmax(means / scale, dim=1)

    def variances(self, features: Tensor) -> Tensor:
        """Map features to the variance of the latent functions, averaged over the classes: (n_rows,)."""
        return self._variances(*self._kernel(features))[:, 0]

    def _kernel(self, features: Tensor) -> tuple[Tensor, Tensor]:
        parts = [layer(features.double()) for layer in self.layers]
        crosses, owns = [cross for cross, _ in parts], [own for _, own in parts]
        return sum(crosses[1:], crosses[0]), sum(owns[1:], owns[0])

    def _variances(self, cross: Tensor, own: Tensor) -> Tensor:
        taken = ((cross @ self.mean_inverse) * cross).sum(dim=1, keepdim=True)
        return (own - taken).clamp(min=0)


class LatentVariance(nn.Module):
    """Maps features to the variance of the latent functions of a head, averaged over the classes: (n_rows,)."""

    def __init__(self, head: GaussianProcesses) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        """Map features (n_rows, n_features) to variances (n_rows,), float64."""
        return self.head.variances(features)

"""The fitted Gaussian processes are arrays alone, from which latent values, probabilities and draws follow.

Exact or through inducing points, the form is the same: `points` are the training rows or the inducing ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import pi
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from repurpose.meta_model.gp.exact_solve import ExactSolve, ExactSolveSchema
from repurpose.meta_model.gp.gpytorch_kernel import GpytorchKernel, KernelState
from repurpose.meta_model.gp.kernel import LayerKernels
from repurpose.meta_model.gp.rows import LayerRows
from repurpose.meta_model.gp.shared_solve import SharedSolve
from repurpose.persistence.values.parts import storable
from repurpose.persistence.values.schema import Array, Either, Items, Number, Object, Table

__all__ = ["VARIANCE_FACTOR", "GpModel", "tempered_logits"]

# Of the latent variance, for probabilities. Choosing it by left-out examples measured no better, and worse with few
# labels a class.
VARIANCE_FACTOR = 0.1

_MAX_ELEMENTS = 2**24  # of a batch's kernel matrix: 128 MB


@storable
@dataclass(frozen=True, eq=False)
class GpModel:
    """One latent function a class, sharing kernel and prior mean.

    Attributes
    ----------
    rows : LayerRows
    kernel : LayerKernels, KernelState or GpytorchKernel
        The learned kernel; of one of gpytorch the state is kept, from which `GpRepurposer` makes it again to predict.
    points : list of float64 tensors of shape (n_points, width), one a layer
    solve : ExactSolve, or SharedSolve through inducing points and in files of earlier versions
        What the examples take off the prior variance.
    weights : float64 tensor of shape (n_points, n_classes)
    mean : float
        The prior mean of the latent functions.
    temperature, variance_factor : float
        See `GpRepurposer`.
    """

    rows: LayerRows
    kernel: LayerKernels | GpytorchKernel | KernelState
    points: list[Tensor]
    solve: ExactSolve | SharedSolve
    weights: Tensor
    mean: float
    temperature: float
    variance_factor: float

    _schema: ClassVar[Table] = {
        "rows": Object(LayerRows),
        "kernel": Either(Object(LayerKernels), Object(KernelState)),
        "points": Items(Array("n_points", "width", tensor=True), n="n_layers", apart=True),
        "solve": Either(ExactSolveSchema(), Object(SharedSolve)),
        "weights": Array("n_points", "n_classes", tensor=True),
        "mean": Number(),
        "temperature": Number(above=0),
        "variance_factor": Number(least=0),
    }

    def latent(self, features: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return mean and variance of the latent functions for raw features: each float64 (n_rows, n_classes)."""
        if isinstance(self.kernel, KernelState):
            raise ValueError("the kernel of gpytorch is with the repurposer: ask that, or use given_to")
        means, variances = [], []
        for batch in self._batches(features):
            rows = self.rows.transform(batch)
            cross = self.kernel.between(rows, self.points)
            taken = self.solve.quadratic_forms(cross)
            means.append(torch.addmm(torch.tensor(self.mean, dtype=cross.dtype), cross, self.weights))
            # Rounding may take a little more than the prior variance close to an example.
            variances.append((self.kernel.diagonal(rows)[:, None] - taken).clamp_min_(0))
        return torch.cat(means), torch.cat(variances)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the probabilities of raw rows: (n_rows, n_classes), float64, rows summing to 1."""
        means, variances = self.latent(features)
        logits = tempered_logits(means, variances, self.variance_factor, self.temperature)
        return torch.softmax(logits, dim=1).numpy()

    def draws(self, features: np.ndarray, n_samples: int, random_state: np.random.RandomState) -> np.ndarray:
        """Return class probabilities of draws from the latent functions: (n_samples, n_rows, n_classes), float64.

        The variance is whole and the temperature 1. The same draws are used for every row, so that what a row gets does
        not depend on its neighbours.
        """
        means, variances = self.latent(features)
        normal = torch.from_numpy(random_state.standard_normal((n_samples, 1, means.shape[1])))
        return torch.softmax(means + variances.sqrt() * normal, dim=-1).numpy()

    def _batches(self, features: np.ndarray) -> Iterator[np.ndarray]:
        widest = max(len(self.weights), len(self.solve.class_of_column))
        size = max(1, _MAX_ELEMENTS // widest)
        return (features[start : start + size] for start in range(0, max(1, len(features)), size))


def tempered_logits(means: Tensor, variances: Tensor, factor: float, temperature: float) -> Tensor:
    """Return logits whose softmax approximates its average over Gaussian latent values: (n_rows, n_classes).

    MacKay (1992): the means are divided by sqrt(1 + pi/8 v), here with v = `factor` times the mean variance over the
    classes, and by the temperature. On digits, averages over 128 draws change the log loss by at most 0.005.
    """
    scale = temperature * torch.sqrt(1 + pi / 8 * factor * variances.mean(dim=1, keepdim=True))
    return means / scale

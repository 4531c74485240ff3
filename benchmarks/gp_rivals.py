"""Other ways to compute what `gp.evidence` computes: the evidence of a Dirichlet GP and its gradient."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log, pi

import numpy as np
import torch
from scipy.linalg import cho_factor, cho_solve
from torch import Tensor

from repurpose.meta_model.gp.evidence import condition
from repurpose.meta_model.gp.kernel import LayerKernels, Products
from repurpose.meta_model.gp.targets import DirichletTargets

__all__ = ["Problem", "problem", "sides"]

ALPHA_EPS = 1e-3
MEAN = -5.0  # for those who take it as given; ours finds it


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows sorted by class, what they have in common, and where the kernel's numbers stand."""

    x: Tensor
    codes: Tensor
    products: Products
    kernel: LayerKernels
    targets: DirichletTargets

    @property
    def class_sizes(self) -> list[int]:
        return torch.bincount(self.codes).tolist()

    @property
    def own(self) -> Tensor:
        return torch.nn.functional.one_hot(self.codes).double()


def problem(n_samples: int, n_classes: int, n_features: int = 64) -> Problem:
    """Unit rows about a centre for each class: only sizes matter to the time."""
    generator = torch.Generator().manual_seed(0)
    codes = (torch.arange(n_samples) * n_classes) // n_samples
    centers = torch.randn(n_classes, n_features, generator=generator, dtype=torch.float64)
    x = centers[codes] + 2 * torch.randn(n_samples, n_features, generator=generator, dtype=torch.float64)
    x /= x.norm(dim=1, keepdim=True)
    kernel = LayerKernels(np.array([5.0]), np.array([1.2]), np.array([5.0]))
    return Problem(x, codes, Products.between([x], [x]), kernel, DirichletTargets.of(ALPHA_EPS))


def sides(given: Problem) -> Mapping[str, Callable[[], object]]:
    """One evaluation of the evidence and its gradient by three numbers, in each way."""
    return {
        "ours": lambda: ours(given),
        "batched torch": lambda: batched(given),
        "LAPACK, class by class": lambda: by_class(given),
        "gpytorch": gpytorch_model(given),
    }


def ours(given: Problem) -> tuple[float, np.ndarray]:
    posterior = condition(given.kernel.matrix(given.products), given.class_sizes, given.targets)
    return posterior.log_evidence, given.kernel.gradient(given.products, posterior.kernel_gradient())


def batched(given: Problem) -> tuple[float, np.ndarray]:
    """All classes as a batch of matrices, the gradient by automatic differentiation."""
    theta = torch.tensor(given.kernel.logarithms, requires_grad=True)
    a, s, b = theta.exp()
    kernel = a * torch.exp(given.products.squares[0] * (-0.5 / s**2)) + b * given.products.inner[0]
    targets, noise = _written_out(given)
    factor = torch.linalg.cholesky(kernel + torch.diag_embed(noise.T))
    residuals = (targets.T - MEAN)[..., None]
    fit = (torch.linalg.solve_triangular(factor, residuals, upper=False) ** 2).sum()
    log_determinants = 2 * factor.diagonal(dim1=1, dim2=2).log().sum()
    total = -0.5 * (fit + log_determinants + noise.numel() * log(2 * pi))
    (gradient,) = torch.autograd.grad(total, theta)
    return total.item(), gradient.numpy()


def by_class(given: Problem) -> tuple[float, np.ndarray]:
    """One factorisation and inverse a class, one after the other, with the analytic gradient."""
    kernel = given.kernel.matrix(given.products).numpy()
    targets, noise = (part.numpy() for part in _written_out(given))
    total, by_entry = -0.5 * noise.size * log(2 * pi), np.zeros_like(kernel)
    for c in range(noise.shape[1]):
        factor = cho_factor(kernel + np.diag(noise[:, c]), lower=True)
        residuals = targets[:, c] - MEAN
        weights = cho_solve(factor, residuals)
        total -= 0.5 * residuals @ weights + np.log(np.diag(factor[0])).sum()
        by_entry += 0.5 * (np.outer(weights, weights) - cho_solve(factor, np.eye(len(kernel))))
    return total, given.kernel.gradient(given.products, torch.from_numpy(by_entry))


def gpytorch_model(given: Problem) -> Callable[[], object]:
    """gpytorch's exact model with its own likelihood for Dirichlet targets, in float64."""
    import gpytorch

    n_classes = len(given.class_sizes)
    likelihood = gpytorch.likelihoods.DirichletClassificationLikelihood(given.codes, ALPHA_EPS, dtype=torch.float64)
    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel()) + gpytorch.kernels.LinearKernel()

    class Exact(gpytorch.models.ExactGP):
        def __init__(self) -> None:
            super().__init__(given.x, likelihood.transformed_targets, likelihood)
            self.mean_module = gpytorch.means.ConstantMean(batch_shape=torch.Size([n_classes]))
            self.covar_module = kernel

        def forward(self, x: Tensor) -> object:
            covariance = self.covar_module(x).to_dense().expand(n_classes, -1, -1)
            return gpytorch.distributions.MultivariateNormal(self.mean_module(x), covariance)

    model = Exact().double().train()
    evidence = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)

    def evaluate() -> object:
        model.zero_grad()
        total = evidence(model(given.x), likelihood.transformed_targets).sum()
        total.backward()
        return total

    return evaluate


def _written_out(given: Problem) -> tuple[Tensor, Tensor]:
    own, targets = given.own, given.targets
    means = targets.other + own * (targets.own - targets.other)
    return means, targets.other_noise + own * (targets.own_noise - targets.other_noise)

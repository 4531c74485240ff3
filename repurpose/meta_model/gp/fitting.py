"""Hyper-parameters are learned by L-BFGS-B on the evidence, over the logarithms of a kernel's numbers.

Their prior is normal about the start with a deviation of 1, that is one e-fold. With two examples a class the evidence
alone runs far and the prior lowers the log loss; with ten or more it makes no difference. A kernel of gpytorch starts
where it stands, and has the priors that were registered on it.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from repurpose.meta_model.gp.evidence import Posterior, condition
from repurpose.meta_model.gp.gpytorch_kernel import GpytorchKernel
from repurpose.meta_model.gp.kernel import LayerKernels, Products
from repurpose.meta_model.gp.targets import DirichletTargets

if TYPE_CHECKING:
    from gpytorch.kernels import Kernel

__all__ = ["LearnedKernel", "learn_gpytorch_kernel", "learn_kernel"]

logger = logging.getLogger(__name__)

_FURTHEST = 7.0  # no number leaves its start by more than a factor of e^7, some 1,100
_SHARE = 0.1  # of the squared step between the two targets: where the variance of the latent function starts


@dataclass(frozen=True, eq=False)
class LearnedKernel:
    """The kernel, the posterior of the examples under it, and how often the evidence was computed."""

    kernel: LayerKernels | GpytorchKernel
    posterior: Posterior
    n_evaluations: int


def learn_kernel(
    products: Products,
    class_sizes: Sequence[int],
    targets: DirichletTargets,
    repeats: Tensor | None = None,
    *,
    max_function_evaluations: int,
) -> LearnedKernel:
    """Learn the kernel of the largest evidence times prior for examples sorted by class, from a cold start.

    Each example counts `repeats` (n_samples,) times.
    """
    start = LayerKernels.start(products, _SHARE * (targets.own - targets.other) ** 2, repeats).logarithms

    def negative(theta: np.ndarray) -> tuple[float, np.ndarray]:
        kernel = LayerKernels.from_logarithms(theta)
        posterior = condition(kernel.matrix(products), class_sizes, targets, repeats)
        away = theta - start
        gradient = kernel.gradient(products, posterior.kernel_gradient())
        return 0.5 * away @ away - posterior.log_evidence, away - gradient

    bounds = [(value - _FURTHEST, value + _FURTHEST) for value in start]
    theta, n_evaluations = _minimize(negative, start, max_function_evaluations, bounds=bounds)
    kernel = LayerKernels.from_logarithms(theta)
    return LearnedKernel(kernel, condition(kernel.matrix(products), class_sizes, targets, repeats), n_evaluations)


def learn_gpytorch_kernel(
    module: "Kernel",
    rows: Sequence[Tensor],
    class_sizes: Sequence[int],
    targets: DirichletTargets,
    repeats: Tensor | None = None,
    *,
    max_function_evaluations: int,
) -> LearnedKernel:
    """Learn the parameters of a copy of `module` by the same rule; those that need no gradient stay as they are.

    `rows` are given layer by layer, sorted by class. Raises ValueError as `cholesky` does, and for a kernel that cannot
    be computed on these rows, or not by a copy of it.
    """
    kernel, n_evaluations = GpytorchKernel.of(module), 0
    learned, known = kernel.learned, set(module.state_dict())

    def negative(theta: np.ndarray) -> tuple[float, np.ndarray]:
        vector_to_parameters(torch.from_numpy(theta), learned)
        # The evidence is differentiated by hand as far as the matrix, and by autograd from there.
        matrix, prior = kernel.matrix(rows), kernel.log_prior()
        posterior = condition(matrix.detach(), class_sizes, targets, repeats)
        rising = (matrix * posterior.kernel_gradient()).sum() + prior  # has the gradient of evidence times prior
        gradient = torch.autograd.grad(rising, learned, materialize_grads=True)
        return -posterior.log_evidence - prior.item(), -parameters_to_vector(gradient).numpy()

    if learned:
        start = parameters_to_vector(learned).detach().numpy().copy()
        theta, n_evaluations = _minimize(negative, start, max_function_evaluations)
        vector_to_parameters(torch.from_numpy(theta), learned)
    matrix = kernel.matrix(rows).detach()
    if made := sorted(set(kernel.module.state_dict()) - known):
        raise ValueError(
            f"kernel makes {', '.join(made)} when it is first computed, which a copy of it would not have; give it its "
            "sizes at once, as in RFFKernel(num_samples, num_dims)"
        )
    return LearnedKernel(kernel, condition(matrix, class_sizes, targets, repeats), n_evaluations)


def _minimize(
    function: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray, at_most: int, **options: Any
) -> tuple[np.ndarray, int]:
    """Minimise a function that is given with its gradient: the minimum found, and the number of evaluations."""
    from scipy.optimize import minimize

    result = minimize(function, start, jac=True, method="L-BFGS-B", options={"maxfun": at_most}, **options)
    logger.info("log evidence times prior %.2f after %d evaluations: %s", -result.fun, result.nfev, result.message)
    return result.x, result.nfev

"""Learning the hyper-parameters: L-BFGS-B on the evidence, over the logarithms of a kernel's numbers.

Their prior is normal about the start with a deviation of 1, that is one e-fold. With two examples a class the evidence
alone runs far and the prior lowers the log loss; with ten or more it makes no difference.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from repurpose.meta_model.gp.evidence import Posterior, condition
from repurpose.meta_model.gp.kernel import LayerKernels, Products
from repurpose.meta_model.gp.targets import DirichletTargets

__all__ = ["LearnedKernel", "learn_kernel"]

logger = logging.getLogger(__name__)

_FURTHEST = 7.0  # no number leaves its start by more than a factor of e^7, some 1,100
_SHARE = 0.1  # of the squared step between the two targets: where the variance of the latent function starts


@dataclass(frozen=True, eq=False)
class LearnedKernel:
    """The kernel, the posterior of the examples under it, and how often the evidence was computed."""

    kernel: LayerKernels
    posterior: Posterior
    n_evaluations: int


def learn_kernel(
    products: Products, class_sizes: Sequence[int], targets: DirichletTargets, *, max_function_evaluations: int
) -> LearnedKernel:
    """The kernel of the largest evidence times prior for examples sorted by class, from a cold start."""
    from scipy.optimize import minimize

    start = LayerKernels.start(products, _SHARE * (targets.own - targets.other) ** 2).logarithms
    n_evaluations = 0

    def negative(theta: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal n_evaluations
        n_evaluations += 1
        kernel = LayerKernels.from_logarithms(theta)
        posterior = condition(kernel.matrix(products), class_sizes, targets)
        away = theta - start
        gradient = kernel.gradient(products, posterior.kernel_gradient())
        return 0.5 * away @ away - posterior.log_evidence, away - gradient

    bounds = [(value - _FURTHEST, value + _FURTHEST) for value in start]
    result = minimize(
        negative, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxfun": max_function_evaluations}
    )
    kernel = LayerKernels.from_logarithms(result.x)
    posterior = condition(kernel.matrix(products), class_sizes, targets)
    logger.info("log evidence %.2f after %d evaluations: %s", posterior.log_evidence, n_evaluations, result.message)
    return LearnedKernel(kernel, posterior, n_evaluations)

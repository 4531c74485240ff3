"""gpytorch's stochastic variational GP learns kernel and inducing points from all examples in batches, on any device.

Hensman et al. (2013), arXiv:1309.6835, on the Dirichlet targets, with natural gradients for the variational
distribution of each class. For a kernel and points, its optimum is what `inducing` computes in closed form (Titsias
2009): so kernel and points are all that is taken from here.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from repurpose.meta_model.gp.gpytorch_kernel import GpytorchKernel
from repurpose.meta_model.gp.kernel import LayerKernels
from repurpose.meta_model.gp.targets import DirichletTargets

if TYPE_CHECKING:
    from gpytorch.kernels import Kernel

__all__ = ["LearnedPoints", "learn_by_svgp"]

logger = logging.getLogger(__name__)

_BATCH = 512
_STEPS = 300
_RATE, _NATURAL_RATE = 0.01, 0.1


@dataclass(frozen=True, eq=False)
class LearnedPoints:
    """A kernel and the inducing points that go with it, (n_points, width) for each layer, on the CPU."""

    kernel: LayerKernels | GpytorchKernel
    points: list[Tensor]


def learn_by_svgp(
    kernel: LayerKernels | GpytorchKernel,
    points: Sequence[Tensor],
    rows: Sequence[Tensor],
    codes: np.ndarray,
    targets: DirichletTargets,
    *,
    mean: float,
    device: torch.device,
    random_state: np.random.RandomState,
    repeats: Tensor | None = None,
) -> LearnedPoints:
    """Learn kernel and points, from where they and the prior `mean` stand, by steps over batches of `rows` (n, width).

    Each of them counts `repeats` (n,) times.
    """
    from gpytorch.optim import NGD

    widths = [layer.shape[1] for layer in rows]
    module = (
        _in_gpytorch(kernel, widths) if isinstance(kernel, LayerKernels) else GpytorchKernel.of(kernel.module).module
    )
    n_samples, n_classes = len(codes), int(codes.max()) + 1
    device = torch.device("cpu") if device.type == "mps" else device  # which has no float64
    model = _model(module, torch.cat(list(points), dim=1), n_classes, mean).to(device)
    beside, classes = torch.cat(list(rows), dim=1).to(device), torch.from_numpy(codes).to(device)
    ordinary = torch.optim.Adam(model.hyperparameters(), lr=_RATE)
    counts = None if repeats is None else repeats.to(device)
    n_counted = n_samples if counts is None else float(counts.sum())
    # Natural gradients take the optimum of the variational distribution in few steps; Adam would need many.
    natural = NGD(model.variational_parameters(), num_data=n_counted, lr=_NATURAL_RATE)
    loss = torch.zeros(())
    for _ in range(_STEPS):
        batch = torch.from_numpy(random_state.permutation(n_samples)[:_BATCH]).to(device)
        ordinary.zero_grad()
        natural.zero_grad()
        shares = None if counts is None else counts[batch] * (n_samples / n_counted)
        loss = _loss(model, beside[batch], classes[batch], n_classes, targets, n_counted, shares)
        loss.backward()
        natural.step()
        ordinary.step()
    logger.info("variational bound %.2f after %d steps", -n_counted * loss.item(), _STEPS)
    moved = model.variational_strategy.inducing_points.detach().cpu()
    module = model.covar_module.cpu()
    found = _out_of_gpytorch(module, len(widths)) if isinstance(kernel, LayerKernels) else GpytorchKernel(module)
    return LearnedPoints(found, [part.contiguous() for part in moved.split(widths, dim=1)])


def _model(module: "Kernel", points: Tensor, n_classes: int, mean: float) -> Any:
    from gpytorch.distributions import MultivariateNormal
    from gpytorch.means import ConstantMean
    from gpytorch.models import ApproximateGP
    from gpytorch.variational import NaturalVariationalDistribution, VariationalStrategy

    class Svgp(ApproximateGP):
        def __init__(self) -> None:
            shape = torch.Size([n_classes])
            distribution = NaturalVariationalDistribution(len(points), batch_shape=shape, mean_init_std=0.0)
            super().__init__(VariationalStrategy(self, points, distribution, learn_inducing_locations=True))
            # It begins at the prior, as it is made; to be set there again, it would draw from torch's generator.
            self.variational_strategy.variational_params_initialized.fill_(1)
            self.mean_module, self.covar_module = ConstantMean().double(), module
            self.mean_module.initialize(constant=_exact(mean))

        def forward(self, x: Tensor) -> MultivariateNormal:
            return MultivariateNormal(self.mean_module(x), self.covar_module(x))

    return Svgp().double().train()


def _loss(
    model: Any,
    rows: Tensor,
    codes: Tensor,
    n_classes: int,
    targets: DirichletTargets,
    n_samples: float,
    shares: Tensor | None = None,
) -> Tensor:
    """Compute the negative bound (ELBO) an example, summed over classes; `shares` (n_rows,), of mean 1, weigh rows."""
    own = torch.nn.functional.one_hot(codes, n_classes).T.to(rows.dtype)
    wanted = targets.other + own * (targets.own - targets.other)
    noise = targets.other_noise + own * (targets.own_noise - targets.other_noise)
    # Known noise: the expected log density of a Gaussian target is closed in mean and variance.
    latent = model(rows)
    squares = (wanted - latent.mean).square() + latent.variance
    losses = 0.5 * squares / noise
    losses = losses if shares is None else losses * shares
    # minus the bound of Hensman et al. (2013) over N: a batch's mean stands for all terms, the divergence counts once
    return losses.sum() / len(rows) + model.variational_strategy.kl_divergence().sum() / n_samples


def _in_gpytorch(kernel: LayerKernels, widths: Sequence[int]) -> "Kernel":
    """Build the same kernel of gpytorch's, on layers side by side: for each a radial part, then a linear one."""
    from gpytorch.kernels import AdditiveKernel, LinearKernel, RBFKernel, ScaleKernel

    parts: list[Kernel] = []
    ends = np.cumsum(widths).tolist()
    for end, width, a, s, b in zip(ends, widths, kernel.radial, kernel.lengthscale, kernel.linear):
        columns = tuple(range(end - width, end))
        radial = ScaleKernel(RBFKernel(active_dims=columns)).double()
        radial.initialize(outputscale=_exact(a))
        radial.base_kernel.initialize(lengthscale=_exact(s))
        parts += [radial, LinearKernel(active_dims=columns).double().initialize(variance=_exact(b))]
    return AdditiveKernel(*parts)


def _exact(number: float) -> Tensor:
    """Return a number as gpytorch takes it without rounding it to torch's default dtype."""
    return torch.tensor(number, dtype=torch.float64)


def _out_of_gpytorch(module: "Kernel", n_layers: int) -> LayerKernels:
    """Read back what `_in_gpytorch` was given, as it is now."""
    parts = list(module.kernels)
    radial = [parts[2 * layer].outputscale.item() for layer in range(n_layers)]
    lengthscale = [parts[2 * layer].base_kernel.lengthscale.item() for layer in range(n_layers)]
    linear = [parts[2 * layer + 1].variance.item() for layer in range(n_layers)]
    return LayerKernels(np.array(radial), np.array(lengthscale), np.array(linear))

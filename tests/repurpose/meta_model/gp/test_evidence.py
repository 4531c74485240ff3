import gpytorch
import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from repurpose.meta_model.gp.evidence import condition
from repurpose.meta_model.gp.kernel import LayerKernels, Products
from repurpose.meta_model.gp.targets import DirichletTargets
from tests.repurpose.meta_model.gp.examples import KERNEL, SIZES, TARGETS, codes, kernel_matrix, naive_targets, rows


def log_evidence_at(theta: np.ndarray) -> float:
    x = rows()
    return condition(LayerKernels.from_logarithms(theta).matrix(Products.between(x, x)), SIZES, TARGETS).log_evidence


def test_the_evidence_is_the_density_of_the_targets_of_every_class() -> None:
    posterior = condition(kernel_matrix(), SIZES, TARGETS)
    targets, noise = naive_targets()
    mean = torch.full((sum(SIZES),), posterior.mean, dtype=torch.float64)
    densities = [
        MultivariateNormal(mean, kernel_matrix() + torch.diag(noise[:, c])).log_prob(targets[:, c])
        for c in range(len(SIZES))
    ]
    assert posterior.log_evidence == pytest.approx(float(sum(densities)), rel=1e-10)


def test_no_other_prior_mean_has_more_evidence() -> None:
    posterior = condition(kernel_matrix(), SIZES, TARGETS)
    targets, noise = naive_targets()

    def density(mean: float) -> float:
        place = torch.full((len(SIZES), sum(SIZES)), mean, dtype=torch.float64)
        return float(MultivariateNormal(place, kernel_matrix() + torch.diag_embed(noise.T)).log_prob(targets.T).sum())

    best = density(posterior.mean)
    assert all(density(posterior.mean + step) < best for step in (-1e-3, 1e-3))


def test_the_gradient_is_that_of_finite_differences() -> None:
    theta, x = KERNEL.logarithms, rows()
    products = Products.between(x, x)
    ours = KERNEL.gradient(products, condition(KERNEL.matrix(products), SIZES, TARGETS).kernel_gradient())
    steps = 1e-5 * np.eye(len(theta))
    differences = [(log_evidence_at(theta + step) - log_evidence_at(theta - step)) / 2e-5 for step in steps]
    assert np.allclose(ours, differences, rtol=1e-6, atol=1e-6)


def test_evidence_and_gradient_are_those_of_gpytorchs_exact_dirichlet_model() -> None:
    x, alpha_eps = rows()[0], 1e-2
    radial, lengthscale, linear = 2.0, 1.3, 0.6
    labels = torch.from_numpy(codes())
    kernel = LayerKernels(np.array([radial]), np.array([lengthscale]), np.array([linear]))
    products = Products.between([x], [x])
    posterior = condition(kernel.matrix(products), SIZES, DirichletTargets.of(alpha_eps))
    gradient = kernel.gradient(products, posterior.kernel_gradient())

    likelihood = gpytorch.likelihoods.DirichletClassificationLikelihood(labels, alpha_eps, dtype=torch.float64)
    bell = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())
    line = gpytorch.kernels.LinearKernel()
    model = _Exact(x, likelihood, bell + line).double()
    bell.outputscale, bell.base_kernel.lengthscale, line.variance = radial, lengthscale, linear
    model.mean_module.constant = posterior.mean
    model.train()
    with gpytorch.settings.fast_computations(False, False, False), gpytorch.settings.cholesky_jitter(double_value=0.0):
        densities = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)(
            model(x), likelihood.transformed_targets
        )
        total = densities.sum() * len(x)
        total.backward()
    assert posterior.log_evidence == pytest.approx(total.item(), rel=1e-6)
    numbers = ((bell, "outputscale"), (bell.base_kernel, "lengthscale"), (line, "variance"))
    theirs = [_by_logarithm(module, name) for module, name in numbers]
    assert np.allclose(gradient, theirs, rtol=1e-6, atol=1e-6)


def test_what_is_left_out_equals_a_new_posterior_without_it() -> None:
    kernel, (targets, noise) = kernel_matrix(), naive_targets()
    posterior = condition(kernel, SIZES, TARGETS)
    everyone = np.arange(sum(SIZES))
    for groups in ([torch.tensor([i]) for i in everyone], [torch.tensor([0, 9, 22]), torch.tensor([8, 20, 21, 29])]):
        means, variances = posterior.leave_out(groups)
        for group in groups:
            rest = np.setdiff1d(everyone, group.numpy())
            for c in range(len(SIZES)):
                inner = kernel[rest][:, rest] + torch.diag(noise[rest, c])
                taken = torch.linalg.solve(inner, kernel[rest][:, group])
                mean = posterior.mean + taken.T @ (targets[rest, c] - posterior.mean)
                variance = kernel.diagonal()[group] - (kernel[rest][:, group] * taken).sum(0)
                torch.testing.assert_close(means[group, c], mean, rtol=1e-8, atol=1e-8)
                torch.testing.assert_close(variances[group, c], variance, rtol=1e-8, atol=1e-8)
    left = np.setdiff1d(everyone, torch.cat(groups).numpy())
    assert torch.isnan(means[left]).all()


class _Exact(gpytorch.models.ExactGP):
    def __init__(self, x, likelihood, kernel):  # type: ignore[no-untyped-def]
        super().__init__(x, likelihood.transformed_targets, likelihood)
        n_classes = likelihood.num_classes
        self.mean_module = gpytorch.means.ConstantMean(batch_shape=torch.Size([n_classes]))
        self.covar_module = kernel

    def forward(self, x):  # type: ignore[no-untyped-def]
        mean = self.mean_module(x)
        return gpytorch.distributions.MultivariateNormal(
            mean, self.covar_module(x).to_dense().expand(len(mean), -1, -1)
        )


def _by_logarithm(module: gpytorch.kernels.Kernel, name: str) -> float:
    """The derivative by the logarithm of a positive number, from the one by gpytorch's raw parameter."""
    raw = getattr(module, f"raw_{name}")
    with torch.enable_grad():
        value = module.constraint_for_parameter_name(f"raw_{name}").transform(raw)
        (slope,) = torch.autograd.grad(value.sum(), raw)
    return float(raw.grad.sum() / slope.sum() * value.sum())


REPEATS = torch.arange(sum(SIZES)) % 3 + 1


def again() -> tuple[torch.Tensor, list[int]]:
    """The kernel matrix and the sizes of classes with every example repeated."""
    where = torch.arange(sum(SIZES)).repeat_interleave(REPEATS)
    sizes = [int(part.sum()) for part in REPEATS.split(SIZES)]
    return kernel_matrix()[where][:, where], sizes


def test_examples_that_count_several_times_are_as_good_as_repeated() -> None:
    kernel, sizes = again()
    weighted, repeated = condition(kernel_matrix(), SIZES, TARGETS, REPEATS.double()), condition(kernel, sizes, TARGETS)
    assert weighted.mean == pytest.approx(repeated.mean, rel=1e-9)
    assert weighted.log_evidence == pytest.approx(repeated.log_evidence, rel=1e-9)
    cross = KERNEL.matrix(Products.between(rows(7, seed=1), rows()))
    wide = cross.repeat_interleave(REPEATS, dim=1)
    torch.testing.assert_close(cross @ weighted.weights, wide @ repeated.weights, rtol=1e-8, atol=1e-8)
    of_weighted, of_repeated = weighted.solve.quadratic_forms(cross), repeated.solve.quadratic_forms(wide)
    torch.testing.assert_close(of_weighted, of_repeated, rtol=1e-8, atol=1e-8)


def test_fractions_divide_the_noise_and_add_a_constant_of_their_own() -> None:
    repeats = torch.from_numpy(np.random.default_rng(0).uniform(0.1, 4, sum(SIZES)))
    posterior = condition(kernel_matrix(), SIZES, TARGETS, repeats)
    targets, noise = naive_targets()
    total = 0.0
    for c in range(len(SIZES)):
        mean = torch.full((sum(SIZES),), posterior.mean, dtype=torch.float64)
        of_class = MultivariateNormal(mean, kernel_matrix() + torch.diag(noise[:, c] / repeats))
        powers = (2 * np.pi * noise[:, c]) ** (-(repeats - 1) / 2) * repeats**-0.5
        total += float(of_class.log_prob(targets[:, c]) + powers.log().sum())
    assert posterior.log_evidence == pytest.approx(total, rel=1e-9)


def test_the_gradient_with_repeats_is_that_of_finite_differences() -> None:
    theta, x, repeats = KERNEL.logarithms, rows(), 0.7 * REPEATS.double()
    products = Products.between(x, x)

    def at(theta: np.ndarray) -> float:
        return condition(LayerKernels.from_logarithms(theta).matrix(products), SIZES, TARGETS, repeats).log_evidence

    ours = KERNEL.gradient(products, condition(KERNEL.matrix(products), SIZES, TARGETS, repeats).kernel_gradient())
    steps = 1e-5 * np.eye(len(theta))
    differences = [(at(theta + step) - at(theta - step)) / 2e-5 for step in steps]
    assert np.allclose(ours, differences, rtol=1e-6, atol=1e-6)


def test_an_example_is_left_out_with_all_its_repeats() -> None:
    kernel, sizes = again()
    starts = REPEATS.cumsum(0) - REPEATS
    weighted, repeated = condition(kernel_matrix(), SIZES, TARGETS, REPEATS.double()), condition(kernel, sizes, TARGETS)
    means, variances = weighted.leave_out([torch.tensor([i]) for i in range(sum(SIZES))])
    together = [start + torch.arange(n) for start, n in zip(starts, REPEATS)]
    expected_means, expected_variances = repeated.leave_out(together)
    torch.testing.assert_close(means, expected_means[starts], rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(variances, expected_variances[starts], rtol=1e-7, atol=1e-7)

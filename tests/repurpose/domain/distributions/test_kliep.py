import numpy as np
from scipy.optimize import minimize
from scipy.stats import spearmanr

from repurpose.domain.distributions.kernels import gaussian_kernel
from repurpose.domain.distributions.kliep import fit_kernel_ratio, fit_mixture

rng = np.random.default_rng(0)


def test_ratios_are_1_on_average_and_rise_with_the_true_ratio() -> None:
    source, target = rng.normal(size=(150, 2)), rng.normal(size=(120, 2)) + [1.0, 0.0]
    weights = rng.uniform(0.5, 1.5, 150)
    ratio = fit_kernel_ratio(source, target, weights, np.random.RandomState(0))
    ratios = ratio.at(source)
    assert np.isclose(np.average(ratios, weights=weights), 1)
    assert (ratios >= 0).all()
    assert ratio.at(source + 1e3).max() == 0
    assert spearmanr(ratios, source[:, 0]).statistic > 0.9  # the true ratio is exp(x - 1/2)


def test_the_mixture_has_the_likelihood_that_another_solver_finds() -> None:
    source, target = rng.normal(size=(30, 1)), rng.normal(size=(20, 1)) + 0.5
    of_target, means = gaussian_kernel(target, target[:4], 0.5), gaussian_kernel(source, target[:4], 0.5).mean(axis=0)
    found = fit_mixture(of_target, means)
    assert np.isclose(means @ found, 1)
    condition = {"type": "eq", "fun": lambda a: means @ a - 1}
    start = np.full(4, 1 / means.sum())
    other = minimize(
        lambda a: -np.log(of_target @ a + 1e-12).mean(), start, bounds=[(0, None)] * 4, constraints=[condition]
    )
    assert np.log(of_target @ found).mean() > -other.fun - 1e-3

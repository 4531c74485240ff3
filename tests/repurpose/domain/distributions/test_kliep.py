import numpy as np
import pytest
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


@pytest.mark.parametrize("shift", [50, 1000])
def test_domains_too_far_apart_for_its_kernels_are_told(shift: float) -> None:
    source, target = rng.normal(size=(30, 3)), rng.normal(size=(200, 3)) + shift
    with pytest.raises(ValueError, match=r"KLIEP finds no ratio of domains so far apart.*CoralRepurposer"):
        fit_kernel_ratio(source, target, np.ones(30), np.random.RandomState(0))


def test_one_row_of_the_target_far_from_all_others_has_a_large_ratio_and_stops_nothing() -> None:
    source, target = rng.normal(size=(60, 2)), np.concatenate([rng.normal(size=(60, 2)) + 0.5, [[500.0, 500.0]]])
    ratio = fit_kernel_ratio(source, target, np.ones(60), np.random.RandomState(0))
    assert np.isclose(ratio.at(source).mean(), 1, atol=0.05)
    assert ratio.at(target[-1:]) > 10 * ratio.at(target[:-1]).max()


def test_copies_in_one_group_do_not_make_kernels_narrow() -> None:
    source, groups = rng.normal(size=(100, 6)), np.repeat(np.arange(20), 6)
    target = rng.normal(size=(20, 6))[groups] + 0.01 * rng.normal(size=(120, 6))
    alone, together = (
        fit_kernel_ratio(source, target, np.ones(100), np.random.RandomState(0), given).width
        for given in (None, groups)
    )
    assert together > alone

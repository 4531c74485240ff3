import numpy as np
import pytest
from scipy.optimize import minimize

from repurpose.domain.distributions.kernel_mean_matching import match_kernel_means, solve_weights
from repurpose.domain.distributions.kernels import gaussian_kernel, mean_kernel, squared_mmd

rng = np.random.default_rng(0)


@pytest.mark.parametrize("largest", [1000.0, 1.5])
@pytest.mark.parametrize("shift", [0.0, 1.0, 4.0])
def test_ten_weights_are_those_of_another_solver_and_keep_their_bounds(largest: float, shift: float) -> None:
    source, target = rng.normal(size=(10, 2)), rng.normal(size=(8, 2)) + shift
    K, kappa = gaussian_kernel(source, source, 1.0), 10 * gaussian_kernel(source, target, 1.0).mean(axis=1)
    slack = 10 * (np.sqrt(10) - 1) / np.sqrt(10)
    found = solve_weights(K, kappa, np.ones(10), largest, (10 - slack, 10 + slack))
    by_sums = [{"type": "ineq", "fun": lambda w, sign=sign: slack + sign * (w.sum() - 10)} for sign in (1, -1)]
    options = {"ftol": 1e-15, "maxiter": 1000}
    other = minimize(
        lambda w: w @ K @ w / 2 - kappa @ w,
        np.ones(10),
        jac=lambda w: K @ w - kappa,
        bounds=[(0, largest)] * 10,
        constraints=by_sums,
        options=options,
    )
    assert np.allclose(found, other.x, atol=1e-3)
    assert found @ K @ found / 2 - kappa @ found < other.fun + 1e-9
    assert (found >= 0).all()
    assert (found <= largest).all()
    assert abs(found.sum() - 10) <= slack + 1e-6


def test_weighted_the_source_is_nearly_the_target() -> None:
    source, target = rng.normal(size=(120, 3)), rng.normal(size=(80, 3)) + 0.5
    kernels = gaussian_kernel(source, source, 2.0), mean_kernel(source, target, 2.0)
    weights = match_kernel_means(*kernels, np.ones(120))
    assert squared_mmd(source, target, 2.0, weights) < 0.1 * squared_mmd(source, target, 2.0)


def test_regularization_pulls_the_weights_to_1_and_0_is_the_paper() -> None:
    source, target = rng.normal(size=(60, 3)), rng.normal(size=(50, 3)) + 0.5
    kernels = gaussian_kernel(source, source, 2.0), mean_kernel(source, target, 2.0)
    exact, pulled, held = (match_kernel_means(*kernels, np.ones(60), r) for r in (0.0, 1.0, 1e6))
    assert np.allclose(held, 1, atol=1e-3)
    assert (exact < 1e-6).mean() > 0.5 > (pulled < 1e-6).mean()
    K, kappa = kernels[0], 60 * gaussian_kernel(source, target, 2.0).mean(axis=1)
    inside = pulled > 1e-3  # there the gradient of the whole is that of the constraint on the sum, which is not met
    assert np.allclose((K @ pulled - kappa + (pulled - 1))[inside], 0, atol=1e-6)


@pytest.mark.parametrize("shift", [0.5, 4.0])
def test_a_row_that_counts_twice_is_the_row_twice(shift: float) -> None:
    source, target = rng.normal(size=(15, 2)), rng.normal(size=(12, 2)) + shift
    counts = 1 + np.arange(15) % 3
    repeated = np.repeat(source, counts, axis=0)
    by_counts, by_rows = (
        match_kernel_means(gaussian_kernel(rows, rows, 1.0), mean_kernel(rows, target, 1.0), each, 0.1)
        for rows, each in ((source, counts.astype(float)), (repeated, np.ones(30)))
    )
    assert np.allclose(np.repeat(by_counts, counts), by_rows, atol=1e-4)


def test_no_solution_is_told_with_what_the_solver_says() -> None:
    with pytest.raises(ValueError, match="10 source rows found no weights: clarabel ended with PrimalInfeasible; give"):
        solve_weights(np.eye(10), np.ones(10), np.ones(10), 1.0, (11.0, 12.0))

import numpy as np
import pytest

from repurpose.domain import TcaRepurposer, tca_repurposer
from repurpose.domain.distributions import kernels
from repurpose.domain.distributions.kernels import gaussian_kernel, median_width, squared_mmd
from repurpose.domain.tca_repurposer import transfer_components
from tests.repurpose.domain.examples import MethodContract, domains_of, quick, two_domains

rng = np.random.default_rng(0)


class TestMethod(MethodContract):
    make = TcaRepurposer


def matrices(kernel: np.ndarray, n_source: int, mu: float) -> tuple[np.ndarray, np.ndarray]:
    """K H K and K L K + mu I, written out as in the paper."""
    n, n_target = len(kernel), len(kernel) - n_source
    L = np.full((n, n), -1 / (n_source * n_target))
    L[:n_source, :n_source], L[n_source:, n_source:] = 1 / n_source**2, 1 / n_target**2
    H = np.eye(n) - np.ones((n, n)) / n
    return kernel @ H @ kernel, kernel @ L @ kernel + mu * np.eye(n)


@pytest.mark.parametrize("few", [1000, 10])  # above it, a solver that finds the leading solutions alone
def test_components_solve_the_generalised_problem_as_a_dense_solver_does(
    few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tca_repurposer, "_FEW_ROWS", few)
    rows = rng.normal(size=(30, 3))
    kernel = gaussian_kernel(rows, rows, 1.5)
    difference = np.r_[np.full(18, 1 / 18), np.full(12, -1 / 12)]
    values, components = transfer_components(kernel, difference, 0.5, 4)
    left, right = matrices(kernel, 18, 0.5)
    assert np.allclose(left @ components, right @ components * values, atol=1e-9)
    dense = np.sort(np.linalg.eigvals(np.linalg.solve(right, left)).real)[::-1]
    assert np.allclose(values, dense[:4])
    assert np.allclose(components.T @ right @ components, np.eye(4), atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_the_domains_differ_less_along_the_components_than_by_a_symmetric_solver(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source = rng.normal(size=(60, 5))
    target = rng.normal(size=(50, 5)) + [1.5, 0, 0, 0, 0]
    repurposer = quick(TcaRepurposer, n_components=4)
    domains = domains_of(source, target)
    moved, _ = repurposer._adapt_source(domains)
    adapted = repurposer._adapt_rows(domains.target)

    def relative(first: np.ndarray, second: np.ndarray) -> float:
        both = np.concatenate([first, second])
        return ((first.mean(0) - second.mean(0)) ** 2).sum() / both.var(0).sum()

    rows = (np.concatenate([source, target]) - repurposer.pooled_means_) / repurposer.pooled_deviations_
    left, right = matrices(gaussian_kernel(rows, rows, repurposer.kernel_width_), 60, 1.0)
    wrong = (
        gaussian_kernel(rows, rows, repurposer.kernel_width_) @ np.linalg.eigh(np.linalg.solve(right, left))[1][:, -4:]
    )
    assert relative(moved, adapted) < 0.4 * relative(source, target)
    assert relative(moved, adapted) < relative(wrong[:60], wrong[60:])
    before = squared_mmd(rows[:60], rows[60:], median_width(rows))
    after = squared_mmd(moved, adapted, median_width(np.concatenate([moved, adapted])))
    assert after < 0.5 * before


def test_a_row_that_comes_later_is_where_it_would_have_been() -> None:
    source, (X, _) = two_domains()
    repurposer = quick(TcaRepurposer).repurpose(X, source_data=source)
    at_once = repurposer._adapt_rows(X)
    assert np.allclose(np.concatenate([repurposer._adapt_rows(X[[row]]) for row in range(40)]), at_once, atol=1e-6)
    assert np.allclose(repurposer.training_features_, repurposer._adapt_rows(source[0]), atol=1e-5)


def test_many_rows_are_compared_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    source, (X, _) = two_domains()
    repurposer = quick(TcaRepurposer).repurpose(X, source_data=source)
    at_once = repurposer._adapt_rows(X)
    monkeypatch.setattr(kernels, "_MOST_ENTRIES", 560)  # 7 rows by the 80 of training
    assert np.allclose(repurposer._adapt_rows(X), at_once, atol=1e-6)
    assert repurposer._adapt_rows(X[:0]).shape == (0, at_once.shape[1])


def test_the_dimension_keeps_99_hundredths_of_the_sum() -> None:
    source, (X, _) = two_domains()
    repurposer = quick(TcaRepurposer).repurpose(X, source_data=source)
    rows = (repurposer.kernel_rows_ - repurposer.pooled_means_) / repurposer.pooled_deviations_
    left, right = matrices(gaussian_kernel(rows, rows, repurposer.kernel_width_), 40, 1.0)
    values = np.sort(np.linalg.eigvals(np.linalg.solve(right, left)).real)[::-1]
    shares = np.cumsum(values) / values.sum()
    k = repurposer.components_.shape[1]
    assert shares[k - 1] > 0.989
    assert shares[k - 2] < 0.991


@pytest.mark.parametrize("options", [{"mu": -1.0}, {"mu": float("nan")}, {"n_components": 0}])
def test_parameters_that_cannot_be_are_refused(options: dict[str, float]) -> None:
    source, (X, _) = two_domains()
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        quick(TcaRepurposer, **options).repurpose(X, source_data=source)  # type: ignore[arg-type]


def test_more_components_than_rows_are_refused_and_all_there_are_can_be_had() -> None:
    source, (X, _) = two_domains()
    with pytest.raises(ValueError, match="n_components=80 is more than these rows and features have; give at most 79"):
        quick(TcaRepurposer, n_components=80).repurpose(X, source_data=source)
    assert quick(TcaRepurposer, n_components=79).repurpose(X, source_data=source).components_.shape == (80, 79)

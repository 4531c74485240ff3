import numpy as np
import pytest
from sklearn.metrics.pairwise import rbf_kernel

from repurpose.domain.distributions import kernels
from repurpose.domain.distributions.kernels import (
    check_n_rows,
    gaussian_kernel,
    mean_kernel,
    median_width,
    squared_mmd,
)

rng = np.random.default_rng(0)


def test_the_kernel_is_that_of_scikit_learn() -> None:
    rows, others = rng.normal(size=(5, 3)), rng.normal(size=(7, 3))
    assert np.allclose(gaussian_kernel(rows, others, 2.0), rbf_kernel(rows, others, gamma=1 / 8))


def test_blocks_of_few_rows_have_the_same_means(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, others = rng.normal(size=(5, 3)), rng.normal(size=(7, 3))
    expected = rbf_kernel(rows, others, gamma=1 / 8).mean(axis=1)
    for most in (1, 14, 1000):
        monkeypatch.setattr(kernels, "_MOST_ENTRIES", most)
        assert np.allclose(mean_kernel(rows, others, 2.0), expected)


def test_the_width_is_the_median_of_distances_between_rows_that_differ() -> None:
    assert median_width(np.array([[0.0], [0.0], [3.0], [4.0]])) == 3.0  # of 3, 3, 4, 4, 1
    assert median_width(np.zeros((4, 2))) == 1.0


def test_the_discrepancy_is_0_for_the_same_rows_and_follows_weights() -> None:
    rows = rng.normal(size=(40, 2))
    assert abs(squared_mmd(rows, rows, 1.0)) < 1e-12
    weights = np.arange(40) % 3
    repeated = np.repeat(rows, weights, axis=0)
    assert np.isclose(squared_mmd(rows, rows + 1, 1.0, weights), squared_mmd(repeated, rows + 1, 1.0))


def test_too_many_rows_are_refused_with_the_memory_they_would_take() -> None:
    check_n_rows(5000, 5, "TcaRepurposer")
    with pytest.raises(ValueError, match=r"TcaRepurposer .* 10,000 rows would take 5 matrices of 0.8 GB each.*5,000"):
        check_n_rows(10_000, 5, "TcaRepurposer")

import numpy as np

from repurpose.uncertainty.conformal import Comparison, p_values


def test_p_values_count_the_reference_rows_that_are_at_least_as_strange() -> None:
    rng = np.random.default_rng(0)
    reference, scores = rng.integers(0, 20, 30), rng.integers(0, 20, (5, 4))  # with ties
    expected = [[(1 + sum(r >= s for r in reference)) / 31 for s in row] for row in scores]
    assert np.allclose(p_values([Comparison(reference, scores)]), expected)


def test_folds_are_counted_together_each_by_its_own_head() -> None:
    first = Comparison(np.array([1.0, 2.0, 3.0]), np.array([2.5]))
    second = Comparison(np.array([10.0, 20.0]), np.array([25.0]))
    assert p_values([first, second]).tolist() == [(1 + 1 + 0) / 6]


def test_p_values_of_fresh_rows_are_uniform() -> None:
    rng = np.random.default_rng(0)
    levels = np.arange(0.05, 1, 0.05)  # of which 1 / (n + 1) is a part, so that the promise is exact
    shares = np.mean(
        [
            (p_values([Comparison(rng.normal(size=99), rng.normal(size=100))])[:, None] <= levels + 1e-12).mean(axis=0)
            for _ in range(400)
        ],
        axis=0,
    )
    assert np.abs(shares - levels).max() < 0.01  # four standard errors of 400 reference sets of 99


def test_a_reference_row_counts_as_often_as_its_weight_says() -> None:
    rng = np.random.default_rng(0)
    reference, scores, weights = rng.integers(0, 8, 30).astype(float), rng.normal(4, 3, (5, 3)), rng.integers(1, 4, 30)
    repeated = Comparison(reference.repeat(weights), scores)
    assert np.allclose(p_values([Comparison(reference, scores, weights)]), p_values([repeated]))
    halves = Comparison(reference, scores, np.full(30, 0.5))
    at_least = (reference >= scores[..., None]).sum(axis=-1)
    assert np.allclose(p_values([halves]), (1 + at_least / 2) / 16)

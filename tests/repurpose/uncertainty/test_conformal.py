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


def test_rows_of_another_distribution_are_judged_by_the_ratio_of_the_densities() -> None:
    rng = np.random.default_rng(0)
    levels, shift = np.arange(0.1, 1, 0.1), 0.7

    def ratio(x: np.ndarray) -> np.ndarray:
        return np.exp(shift * x - shift**2 / 2)  # of a normal density around `shift` and one around 0

    plain, weighted = [], []
    for _ in range(400):
        known, new = rng.normal(size=99), shift + rng.normal(size=100)
        plain.append((p_values([Comparison(known, new)])[:, None] <= levels).mean(axis=0))
        by_ratio = p_values([Comparison(known, new, ratio(known))], ratio(new))
        everything = ratio(known).sum() + ratio(new)
        by_hand = [(ratio(x) + ratio(known[known >= x]).sum()) / total for x, total in zip(new, everything)]
        assert np.allclose(by_ratio, by_hand)
        weighted.append((by_ratio[:, None] <= levels).mean(axis=0))
    assert (np.mean(plain, axis=0) > levels + 0.05).all()
    assert (np.mean(weighted, axis=0) < levels + 0.015).all()  # the promise; four standard errors
    assert (np.mean(weighted, axis=0) > levels - 0.06).all()

import numpy as np
import pytest
from scipy.stats import entropy as scipy_entropy

from repurpose.uncertainty.decomposition import decompose, entropy


def some_draws(n_draws: int = 50, n_samples: int = 40, n_classes: int = 4) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.full(n_classes, 0.3), size=(n_draws, n_samples))


def test_total_is_aleatoric_and_epistemic_and_each_equals_its_definition() -> None:
    draws = some_draws()
    total, aleatoric, epistemic = decompose(draws)
    mean = draws.mean(axis=0)
    assert np.allclose(total, scipy_entropy(mean, axis=1), rtol=0, atol=1e-12)
    assert np.allclose(aleatoric, scipy_entropy(draws, axis=2).mean(axis=0), rtol=0, atol=1e-12)
    divergences = [scipy_entropy(draw, mean, axis=1) for draw in draws]  # the information that a draw gives
    assert np.allclose(epistemic, np.mean(divergences, axis=0), rtol=0, atol=1e-9)
    assert np.abs(total - aleatoric - epistemic).max() < 1e-9


def test_two_certain_draws_that_disagree_are_one_bit_of_epistemic_uncertainty() -> None:
    total, aleatoric, epistemic = decompose(np.array([[[1.0, 0.0]], [[0.0, 1.0]]]))
    assert (total[0], aleatoric[0], epistemic[0]) == (pytest.approx(np.log(2)), 0, pytest.approx(np.log(2)))


def test_equal_draws_have_no_epistemic_uncertainty_and_none_is_ever_negative() -> None:
    draws = np.repeat(some_draws(1), 7, axis=0)
    total, aleatoric, epistemic = decompose(draws)
    assert np.allclose(total, aleatoric)
    assert (epistemic >= 0).all()
    assert np.allclose(epistemic, 0, rtol=0, atol=1e-12)


def test_zeros_have_no_entropy_and_even_probabilities_the_most() -> None:
    assert np.allclose(entropy(np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]])), [0, np.log(3)])

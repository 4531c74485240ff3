import numpy as np
import pytest

from repurpose.domain import unlabelled_scores
from repurpose.domain.unlabelled_scores import negative_entropy, soft_neighbourhood_density, weighted_accuracy

rng = np.random.default_rng(0)


def test_accuracy_counts_rows_by_their_weights() -> None:
    assert weighted_accuracy(np.array([True, False, True]), np.array([1.0, 2.0, 1.0])) == 0.5


def test_entropy_is_0_where_a_model_is_sure_and_else_below() -> None:
    assert negative_entropy(np.eye(3)) == 0
    assert np.isclose(negative_entropy(np.full((5, 4), 0.25)), -np.log(4))


def test_density_is_the_entropy_of_similarities_without_the_row_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities = rng.dirichlet(np.ones(3), size=9)
    expected = []
    for i in range(9):
        others = [j for j in range(9) if j != i]
        cosines = [
            probabilities[i] @ probabilities[j] / np.linalg.norm(probabilities[i]) / np.linalg.norm(probabilities[j])
            for j in others
        ]
        shares = np.exp(np.array(cosines) / 0.05)
        shares /= shares.sum()
        expected.append(-(shares * np.log(shares)).sum())
    assert np.isclose(soft_neighbourhood_density(probabilities), np.mean(expected))
    monkeypatch.setattr(unlabelled_scores, "_ROWS_AT_ONCE", 4)
    assert np.isclose(soft_neighbourhood_density(probabilities), np.mean(expected))


def test_answers_that_are_alike_are_dense() -> None:
    groups = np.repeat(np.eye(2) * 0.98 + 0.01, 10, axis=0)
    assert np.isclose(soft_neighbourhood_density(groups), np.log(9), atol=1e-3)  # nine others of the same answer
    assert soft_neighbourhood_density(rng.dirichlet(np.full(20, 0.1), size=20)) < np.log(9)

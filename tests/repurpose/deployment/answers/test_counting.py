import numpy as np
import pytest
import torch

from repurpose.deployment.answers.counting import CountsAtLeast, ReferenceScores
from repurpose.uncertainty.conformal import Comparison, p_values

RNG = np.random.default_rng(0)


def counted(references: list[ReferenceScores], scores: np.ndarray) -> np.ndarray:
    return CountsAtLeast(references)(torch.from_numpy(scores)).numpy()


@pytest.mark.parametrize("n_reference", [1, 2, 3, 4, 7, 8, 100])
def test_counts_are_those_of_the_comparison(n_reference: int) -> None:
    reference, scores = RNG.normal(size=n_reference), RNG.normal(size=(9, 4))
    scores[0] = reference[0], reference.max() + 1, reference.min() - 1, np.inf
    weights = RNG.random(n_reference)
    for of_rows in (None, weights):
        wanted = Comparison(reference, scores, of_rows).n_at_least
        assert np.allclose(counted([ReferenceScores(reference, of_rows)], scores[None])[0], wanted)


def test_one_table_serves_judges_with_other_numbers_of_rows() -> None:
    references = [RNG.normal(size=n) for n in (5, 17, 1)]
    scores = RNG.normal(size=(3, 50))
    found = counted([ReferenceScores(each) for each in references], scores)
    for reference, of_judge, counts in zip(references, scores, found):
        assert (counts == Comparison(reference, of_judge).n_at_least).all()


def test_a_score_that_rounding_made_larger_still_counts_as_equal() -> None:
    reference = np.array([1.0, 2.0, 2.0, 3.0])
    scores = np.array([[2.0, 2.0 + 1e-12, 2.0 - 1e-12, 2.001]])
    assert counted([ReferenceScores(reference, rounding=1e-9)], scores).tolist() == [[3, 3, 3, 1]]
    rough = ReferenceScores(reference.astype(np.float32), rounding=1e-6)
    assert counted([rough], scores + 2e-7).tolist() == [[3, 3, 3, 1]]


def test_the_largest_score_inside_parts_sets_as_p_values_do() -> None:
    reference, scores = RNG.normal(size=37), RNG.normal(size=500)
    weights = RNG.random(37) + 0.5
    for of_rows in (None, weights):
        for share in (0.05, 0.1, 0.5, 0.9):
            wanted = p_values([Comparison(reference, scores, of_rows)]) > share
            assert ((scores <= ReferenceScores(reference, of_rows).largest_inside(share)) == wanted).all()
    assert ReferenceScores(np.array([1.0])).largest_inside(1.0) == -np.inf


def test_bounds_reach_as_far_as_the_size_of_the_scores_says() -> None:
    counts = CountsAtLeast([ReferenceScores(np.array([0.0, 10.0])), ReferenceScores(np.array([0.5]))])
    scores = torch.tensor([[-0.5, 4.0, 10.5], [0.55, 0.3, 1.0]], dtype=torch.float64)
    fewest, most = counts.bounds(scores, 0.1)  # one of 10 units, and one of 1
    assert fewest.tolist() == [[1, 1, 0], [0, 1, 0]]
    assert most.tolist() == [[2, 1, 1], [1, 1, 0]]


def test_many_reference_rows_take_little_memory() -> None:
    counts = CountsAtLeast([ReferenceScores(RNG.normal(size=4000))])
    assert counts.n_steps == 12
    assert counts(torch.randn(1, 1000, 100, dtype=torch.float64)).shape == (1, 1000, 100)

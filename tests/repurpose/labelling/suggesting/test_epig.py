"""Mutual information beside sums that are written out, and what a chosen row does beside dense conditioning."""

import itertools
from math import log

import numpy as np
import pytest
import torch

from repurpose.labelling.suggesting.epig import N_DRAWS, Epig, information
from repurpose.labelling.suggesting.latent import JointLatent
from tests.repurpose.labelling.suggesting.examples import N_LABELLED, POOL, X, Y, posterior, targets, trained

AT = POOL[:12]
N_CANDIDATES = 7


def epig() -> Epig:
    return Epig(JointLatent.of(trained().target_model_, AT), targets(), np.random.RandomState(0))


def brute_force(draws: np.ndarray, row: int, other: int) -> float:
    """Sum p(y, y*) log p(y, y*) / p(y) p(y*) over both labels, each an average over the draws."""
    n_draws, _, n_classes = draws.shape
    total = 0.0
    for y, z in itertools.product(range(n_classes), repeat=2):
        joint = sum(draws[s, row, y] * draws[s, other, z] for s in range(n_draws)) / n_draws
        total += joint * log(joint / (draws[:, row, y].mean() * draws[:, other, z].mean()))
    return total


def test_information_is_the_mutual_information_of_the_draws() -> None:
    draws = epig().probabilities()
    found = information(draws[:, :N_CANDIDATES], draws[:, N_CANDIDATES:])
    assert found.shape == (N_CANDIDATES, len(AT) - N_CANDIDATES)
    expected = [
        [brute_force(draws.numpy(), row, other) for other in range(N_CANDIDATES, len(AT))]
        for row in range(N_CANDIDATES)
    ]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-8, atol=1e-12)


def test_of_many_classes_the_least_likely_count_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = epig().choose(N_CANDIDATES, 1)
    monkeypatch.setattr("repurpose.labelling.suggesting.epig._MOST_LABELS", 2)
    merged = epig().choose(N_CANDIDATES, 1)
    assert 0 < merged.scores[0] < whole.scores[0]


def test_the_first_row_is_the_one_of_most_information_and_later_ones_are_chosen_given_it() -> None:
    chosen = epig().choose(N_CANDIDATES, 3)
    stepwise = epig()
    for number, row in enumerate(chosen.rows):
        draws = stepwise.probabilities()
        scores = information(draws[:, :N_CANDIDATES], draws[:, N_CANDIDATES:]).mean(dim=1)
        scores[chosen.rows[:number]] = -torch.inf
        assert row == int(scores.argmax())
        assert chosen.scores[number] == pytest.approx(float(scores[row]), rel=1e-9)
        stepwise._average_over_label(row, draws[:, row].mean(dim=0))


def test_a_chosen_row_enters_by_the_average_over_its_label() -> None:
    draws, row, probabilities = epig(), 2, torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    latent = draws._latent
    # In place of draws, a root of each covariance, so that what the update makes of it can be seen whole.
    roots = [torch.linalg.cholesky(latent.covariance(c) + 1e-9 * torch.eye(len(AT))) for c in range(3)]
    draws._deviations = torch.stack(roots, dim=2).transpose(0, 1)
    draws._average_over_label(row, probabilities)
    rows = np.concatenate([X[:N_LABELLED], AT[[row]]])
    for c in range(3):
        by_label = [posterior(rows, np.append(Y[:N_LABELLED], k), AT, c) for k in range(3)]
        mean = sum(p * mean for p, (mean, _) in zip(probabilities, by_label))
        covariance = sum(p * covariance for p, (_, covariance) in zip(probabilities, by_label))
        torch.testing.assert_close(draws._means[:, c], mean)
        root = draws._deviations[:, :, c].T
        torch.testing.assert_close(root @ root.T, covariance, rtol=1e-5, atol=1e-6)


def test_by_themselves_rows_have_the_draws_of_predict_samples() -> None:
    latent = JointLatent.of(trained().target_model_, AT)
    draws = torch.cat([Epig(latent, targets(), np.random.RandomState(s)).probabilities() for s in range(40)]).numpy()
    expected = trained().predict_samples(AT, 4000)
    assert np.abs(draws.mean(axis=0) - expected.mean(axis=0)).max() < 0.03
    assert np.abs(draws.std(axis=0) - expected.std(axis=0)).max() < 0.03


def test_the_expected_drop_is_the_sum_of_the_scores_less_what_few_draws_find_by_chance() -> None:
    chosen = epig().choose(N_CANDIDATES, 4)
    assert 0 < chosen.error < sum(chosen.scores)
    assert abs(chosen.drop - sum(chosen.scores)) < 3 * chosen.error
    assert N_DRAWS == 64


def test_where_draws_say_nothing_of_each_other_the_expected_drop_is_nothing() -> None:
    draws = epig()
    # Every row by itself, and of no influence: what the scores are above 0 comes from the number of draws.
    apart = draws._latent
    alone = JointLatent(apart.means, torch.diag(apart.shared.diagonal()), apart.columns * 0, apart.class_of_column, 0.0)
    chosen = Epig(alone, targets(), np.random.RandomState(1)).choose(N_CANDIDATES, 3)
    assert sum(chosen.scores) > 0
    assert abs(chosen.drop) < max(3 * chosen.error, 0.5 * sum(chosen.scores))

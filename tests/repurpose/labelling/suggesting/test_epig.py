"""Mutual information beside sums that are written out, and what a chosen row does beside dense conditioning."""

import itertools
from math import log

import numpy as np
import pytest
import torch

from repurpose.labelling.suggesting.epig import Epig, _best, information
from repurpose.labelling.suggesting.latent import JointLatent
from tests.repurpose.labelling.suggesting.examples import N_LABELLED, POOL, X, Y, posterior, targets, trained

AT = POOL[:12]
N_CANDIDATES = 7


def epig() -> Epig:
    model = trained().target_model_
    return Epig(model, JointLatent.of(model, AT), targets(), np.random.RandomState(0))


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
    _, whole = epig().choose(N_CANDIDATES, 1)
    monkeypatch.setattr("repurpose.labelling.suggesting.epig._MOST_LABELS", 2)
    _, merged = epig().choose(N_CANDIDATES, 1)
    assert 0 < merged[0] < whole[0]


def test_each_row_is_the_one_of_most_information_given_those_before() -> None:
    rows, scores = epig().choose(N_CANDIDATES, 3)
    stepwise = epig()
    for number, row in enumerate(rows):
        draws = stepwise.probabilities()
        expected = information(draws[:, :N_CANDIDATES], draws[:, N_CANDIDATES:]).mean(dim=1)
        expected[rows[:number]] = -torch.inf
        assert row == int(expected.argmax())
        assert scores[number] == pytest.approx(float(expected[row]), abs=1e-6)  # found in float32
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


def test_the_average_of_the_draws_is_what_the_head_says() -> None:
    model = trained().target_model_
    latent = JointLatent.of(model, AT)
    draws = [Epig(model, latent, targets(), np.random.RandomState(seed)) for seed in range(40)]
    average = torch.cat([each.probabilities() for each in draws]).mean(dim=0).numpy()
    # The head's approximation of the average by MacKay leaves a few hundredths.
    assert np.abs(average - trained().predict_probability(AT)).max() < 0.04


def test_rows_that_had_less_to_tell_than_the_best_has_now_are_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repurpose.labelling.suggesting.epig._AT_A_TIME", 2)
    draws = epig().probabilities()
    candidates, others = draws[:, :N_CANDIDATES], draws[:, N_CANDIDATES:]
    scores = information(candidates, others).mean(dim=1)
    last_known = 1.5 * scores
    assert _best(candidates, others, last_known) == int(scores.argmax())
    asked = last_known < 1.4 * scores
    assert 2 <= int(asked.sum()) < N_CANDIDATES
    assert (last_known[~asked] <= scores.max()).all()

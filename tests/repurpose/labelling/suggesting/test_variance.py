"""Rows chosen by variance beside dense conditioning on all rows, each time with the one that was added."""

import numpy as np
import torch

from repurpose.labelling.suggesting.latent import JointLatent
from repurpose.labelling.suggesting.variance import by_variance
from tests.repurpose.labelling.suggesting.examples import N_LABELLED, POOL, X, posterior, targets, trained

CANDIDATES, TARGETS = POOL[:9], POOL[9:20]
NO_LABEL = -1


def mean_variance(added: list[int]) -> float:
    """The mean variance at the targets, given the training rows and some candidates, all with the others' noise."""
    rows = np.concatenate([X[:N_LABELLED], CANDIDATES[added]])
    return float(posterior(rows, np.full(len(rows), NO_LABEL), TARGETS, None)[1].diagonal().mean())


def test_each_row_lowers_the_variance_most_and_by_its_score() -> None:
    shared = JointLatent.of(trained().target_model_, np.concatenate([CANDIDATES, TARGETS])).shared
    before = shared.clone()
    chosen, scores = by_variance(shared, len(CANDIDATES), targets().other_noise, 4)
    taken: list[int] = []
    for row, score in zip(chosen, scores):
        falls = [
            -np.inf if row in taken else mean_variance(taken) - mean_variance([*taken, row])
            for row in range(len(CANDIDATES))
        ]
        assert row == int(np.argmax(falls))
        np.testing.assert_allclose(score, falls[row], rtol=1e-6)
        taken.append(row)
    assert torch.equal(shared, before)


def test_with_weights_the_fall_counts_as_much_as_they_say() -> None:
    shared = JointLatent.of(trained().target_model_, np.concatenate([CANDIDATES, TARGETS])).shared
    weights = np.random.default_rng(0).random(len(TARGETS))
    chosen, scores = by_variance(shared, len(CANDIDATES), targets().other_noise, 2, torch.from_numpy(weights))
    rows, before = X[:N_LABELLED], 0.0
    for number in range(2):
        falls = []
        for row in range(len(CANDIDATES)):
            known = np.concatenate([rows, CANDIDATES[[*chosen[:number], row]]])
            left = posterior(known, np.full(len(known), NO_LABEL), TARGETS, None)[1].diagonal().numpy()
            of_none = posterior(rows, np.full(len(rows), NO_LABEL), TARGETS, None)[1].diagonal().numpy()
            falls.append(float((weights * (of_none - left)).mean()) - before)
        falls = [-np.inf if row in chosen[:number] else fall for row, fall in enumerate(falls)]
        assert chosen[number] == int(np.argmax(falls))
        np.testing.assert_allclose(scores[number], max(falls), rtol=1e-6)
        before += max(falls)


def test_all_rows_can_be_chosen_each_once() -> None:
    shared = JointLatent.of(trained().target_model_, POOL[:6]).shared
    chosen, _ = by_variance(shared, 3, targets().other_noise, 3)
    assert sorted(chosen) == [0, 1, 2]

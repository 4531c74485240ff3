"""The expected drop beside dense conditioning on the labels that were drawn."""

import numpy as np
import pytest
import torch
from torch import Tensor

from repurpose.labelling.suggesting import expected_drop as module
from repurpose.labelling.suggesting.expected_drop import expected_drop
from repurpose.labelling.suggesting.latent import JointLatent
from repurpose.meta_model.gp.model import tempered_logits
from tests.repurpose.labelling.suggesting.examples import N_LABELLED, POOL, X, Y, posterior, targets, trained

CHOSEN, OTHERS = POOL[:3], POOL[3:12]


def probabilities(rows: np.ndarray, labels: np.ndarray, at: np.ndarray) -> Tensor:
    """What the head would say of some rows, given these rows and labels, at its kernel and temperature."""
    found = [posterior(rows, labels, at, c) for c in range(3)]
    means = torch.stack([mean for mean, _ in found], dim=1)
    variances = torch.stack([covariance.diagonal() for _, covariance in found], dim=1)
    logits = tempered_logits(means, variances, trained().variance_factor_, trained().temperature_)
    return torch.softmax(logits, dim=1)


def entropy(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    p = probabilities(rows, labels, OTHERS).numpy()
    return -(p * np.log(p)).sum(axis=1)


class Told(np.random.RandomState):
    """Draws the labels that it is told, and keeps with what probabilities it was asked."""

    def __init__(self, labels: list[int]) -> None:
        super().__init__(0)
        self.labels, self.asked = list(labels), []  # type: ignore[var-annotated]

    def choice(self, a: object, p: object = None) -> int:  # type: ignore[override]
        self.asked.append(p)
        return self.labels.pop(0)


def test_labels_are_drawn_each_given_those_before_and_condition_the_posterior(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = [[0, 1, 1], [2, 0, 2]]
    monkeypatch.setattr(module, "N_DRAWS", len(draws))
    told = Told([label for draw in draws for label in draw])
    latent = JointLatent.of(trained().target_model_, np.concatenate([CHOSEN, OTHERS]))
    found = expected_drop(trained().target_model_, latent, targets(), 3, told)
    rows, labels, drops = X[:N_LABELLED], Y[:N_LABELLED], []
    for number, draw in enumerate(draws):
        for row in range(3):
            known = np.concatenate([rows, CHOSEN[:row]]), np.append(labels, draw[:row])
            expected = probabilities(*known, CHOSEN[[row]])[0]
            np.testing.assert_allclose(told.asked[3 * number + row], expected.numpy(), atol=1e-8)
        drops.append(entropy(rows, labels) - entropy(np.concatenate([rows, CHOSEN]), np.append(labels, draw)))
    by_draw, by_row = np.mean(drops, axis=1), np.mean(drops, axis=0)
    assert found.mean == pytest.approx(np.mean(drops), abs=1e-8)
    assert found.error == pytest.approx((by_draw.var(ddof=1) / 2 + by_row.var(ddof=1) / 9) ** 0.5, abs=1e-8)


def test_one_row_that_is_left_serves_as_well() -> None:
    latent = JointLatent.of(trained().target_model_, POOL[:3])
    assert np.isfinite(expected_drop(trained().target_model_, latent, targets(), 2, np.random.RandomState(0)).error)

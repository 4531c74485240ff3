import numpy as np
import pytest
import torch

from repurpose.deployment.answers.nonconformity import Calibrated, Nonconformity
from repurpose.uncertainty.calibration import Calibration
from repurpose.uncertainty.prediction_sets import SCORES, nonconformity_of_labels
from tests.repurpose.in_onnxruntime import computed, in_onnxruntime

RANK_COST = (2, 0.01)


def probabilities(n_rows: int = 50, n_classes: int = 7) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(n_classes), n_rows)


@pytest.mark.parametrize("score", SCORES)
def test_scores_of_labels_are_those_of_the_sets(score: str) -> None:
    p = probabilities()
    found = computed(Nonconformity(score, RANK_COST, 7), p)
    assert np.abs(found - nonconformity_of_labels(p, score, RANK_COST)).max() < 1e-15


@pytest.mark.parametrize("score", ["aps", pytest.param("raps", marks=pytest.mark.slow)])
def test_onnxruntime_puts_equally_likely_labels_into_the_same_order(score: str) -> None:
    p = np.tile([0.2, 0.2, 0.1, 0.2, 0.3, 0.0, 0.0], (5, 1))
    (found,) = in_onnxruntime(Nonconformity(score, RANK_COST, 7), p)
    assert np.abs(found - nonconformity_of_labels(p, score, RANK_COST)).max() < 1e-15


def test_probabilities_of_float32_are_taken_from_1_in_float32() -> None:
    p = np.array([[1 - 1e-7, 1e-7]], np.float32)
    assert computed(Nonconformity("lac", RANK_COST, 2), p).tolist() == (1 - p).astype(np.float64).tolist()


def test_calibration_is_that_of_the_repurposer() -> None:
    calibration = Calibration(np.linspace(0.5, 2, 7), np.linspace(-1, 1, 7))
    p = probabilities()
    p[0] = np.eye(7)[2]
    assert np.abs(computed(Calibrated(calibration), p) - calibration.apply(p)).max() < 1e-15
    assert torch.from_numpy(p).dtype == torch.float64

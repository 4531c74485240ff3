from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import log_loss

from repurpose.uncertainty.calibration import Calibration, fit_calibration


def too_certain(n_samples: int = 4000, n_classes: int = 3, factor: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities whose logits are `factor` times those by which the codes were drawn."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(n_samples, n_classes)) * 2
    codes = (softmax(logits, axis=1).cumsum(axis=1) < rng.random((n_samples, 1))).sum(axis=1)
    return softmax(factor * logits, axis=1), codes


def test_the_temperature_is_the_one_of_least_penalised_loss() -> None:
    probabilities, codes = too_certain(200)

    def loss(log_temperature: float) -> float:
        scaled = probabilities ** np.exp(-log_temperature)
        scaled /= scaled.sum(axis=1, keepdims=True)
        return log_loss(codes, scaled, normalize=False) + log_temperature**2 / (2 * 0.2**2)

    by_hand = np.exp(minimize_scalar(loss, bounds=(-2, 2), method="bounded", options={"xatol": 1e-8}).x)
    assert fit_calibration(probabilities, codes, "temperature").temperature == pytest.approx(by_hand, rel=1e-4)


def test_many_rows_give_the_temperature_that_made_them() -> None:
    calibration = fit_calibration(*too_certain(), "temperature")
    assert calibration.temperature == pytest.approx(2, rel=0.05)
    assert calibration.keeps_order


def test_a_few_rows_that_are_all_right_leave_the_temperature_near_one() -> None:
    probabilities = np.tile([0.9, 0.05, 0.05], (5, 1))
    temperature = fit_calibration(probabilities, np.zeros(5, int), "temperature").temperature
    assert temperature is not None
    assert 0.8 < temperature < 1


def test_vector_scaling_mends_a_class_that_is_always_thought_too_likely() -> None:
    probabilities, codes = too_certain(factor=1.0)
    biased = probabilities * [4, 1, 1]
    biased /= biased.sum(axis=1, keepdims=True)
    calibration = fit_calibration(biased, codes, "vector")
    assert calibration.temperature is None
    assert not calibration.keeps_order
    before, after, best = (log_loss(codes, p) for p in (biased, calibration.apply(biased), probabilities))
    assert after < best + 0.005 < before
    assert calibration.offsets[0] < min(calibration.offsets[1:]) - 1


@pytest.mark.parametrize("method", ["temperature", "vector"])
def test_rows_sum_to_one_and_zeros_do_no_harm(method: str) -> None:
    probabilities = np.array([[1.0, 0, 0], [0.4, 0.6, 0], [0, 0, 1]], dtype=np.float32)
    calibration = fit_calibration(probabilities, np.array([1, 1, 2]), method)
    for shape in ((3, 3), (1, 3, 3)):
        calibrated = calibration.apply(probabilities.reshape(shape))
        assert calibrated.shape == shape
        assert np.isfinite(calibrated).all()
        assert np.allclose(calibrated.sum(axis=-1), 1, rtol=0, atol=1e-12)


def test_a_calibration_of_one_changes_nothing() -> None:
    probabilities: Any = np.random.default_rng(0).dirichlet(np.ones(4), size=10)
    assert np.allclose(Calibration(np.ones(4), np.zeros(4)).apply(probabilities), probabilities, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["temperature", "vector"])
def test_rows_that_count_several_times_are_as_good_as_repeated(method: str) -> None:
    rng = np.random.default_rng(0)
    probabilities, codes, weights = (
        softmax(rng.normal(0, 2, (40, 3)), axis=1),
        rng.integers(0, 3, 40),
        np.arange(40) % 4,
    )
    weighted = fit_calibration(probabilities, codes, method, weights=weights.astype(float))
    repeated = fit_calibration(probabilities.repeat(weights, axis=0), codes.repeat(weights), method)
    assert np.allclose(weighted.factors, repeated.factors, rtol=1e-4)
    assert np.allclose(weighted.offsets, repeated.offsets, atol=1e-4)
    assert not np.allclose(weighted.factors, fit_calibration(probabilities, codes, method).factors, rtol=1e-3)

import numpy as np
import pytest
import torch

from repurpose.deployment.answers.detectors import Energy, detector_module
from repurpose.uncertainty.unfamiliarity import DETECTORS, energy
from tests.repurpose.examples import blobs
from tests.repurpose.hard_rows import HARD, new_rows
from tests.repurpose.in_onnxruntime import computed


@pytest.mark.parametrize("method", DETECTORS)
@pytest.mark.parametrize("training", HARD)
def test_scores_are_those_of_the_detector(training, method) -> None:  # type: ignore[no-untyped-def]
    X, y = training()
    indices = {"0": np.arange(1), "1": np.arange(1, X.shape[1])}
    fitted, rows = DETECTORS[method].fit(X, y, indices), new_rows(X)
    wanted = fitted.score(rows)
    found = computed(detector_module(fitted), rows)
    assert np.abs(found - wanted).max() < (1e-6 if method == "knn" else 1e-9) * max(1, np.abs(wanted).max())


def test_a_layer_of_zeros_stays_zero_where_norms_are_1() -> None:
    X, y = blobs()
    rows = np.zeros((2, 4), np.float32)
    indices = {"0": np.arange(1), "1": np.arange(1, 4)}
    for kind in DETECTORS.values():
        fitted = kind.fit(X, y, indices)
        assert computed(detector_module(fitted), rows) == pytest.approx(fitted.score(rows))


def test_energy_bears_a_probability_of_zero() -> None:
    probabilities = np.array([[1.0, 0.0], [0.25, 0.75]])
    assert computed(Energy(), probabilities) == pytest.approx(energy(probabilities))


def test_a_detector_of_ones_own_is_refused() -> None:
    class Zero:
        def score(self, rows: np.ndarray) -> np.ndarray:
            return np.zeros(len(rows))

    with pytest.raises(NotImplementedError, match="a detector of the class Zero"):
        detector_module(Zero())


def test_features_of_float32_are_taken() -> None:
    X, y = blobs()
    fitted = DETECTORS["mahalanobis"].fit(X, y, {"0": np.arange(4)})
    assert detector_module(fitted)(torch.from_numpy(X)).dtype == torch.float64

"""Rows that are judged, and those that they are compared with, are both judged by calibrated probabilities."""

import numpy as np

from repurpose.uncertainty.calibration import Calibration
from tests.repurpose.examples import blobs, lr


def nonconformity(probabilities: np.ndarray) -> np.ndarray:
    """The probability of all labels that are more likely, plus half of its own ("aps"), written out."""
    more = (probabilities[:, None, :] > probabilities[:, :, None]) * probabilities[:, None, :]
    return more.sum(axis=2) + probabilities / 2


def test_sets_compare_calibrated_labels_with_calibrated_labels() -> None:
    (X, y), (known, codes), (new, _) = blobs(), blobs(50, seed=1), blobs(40, seed=2)
    repurposer = lr(random_state=0).repurpose(X, y).conformalize(known, codes)
    repurposer.calibration_ = Calibration(np.array([0.2, 0.5, 1.0]), np.array([0.0, 1.0, -1.0]))
    reference = nonconformity(repurposer.predict_probability(known))[np.arange(50), codes]
    scores = nonconformity(repurposer.predict_probability(new))
    p_values = (1 + (reference >= scores[..., None]).sum(axis=2)) / 51
    found = repurposer.predict_set(new, 0.7, "aps", allow_empty=True)
    assert np.array_equal(found.members, p_values > 0.3 + 1e-9)
    assert 0 < found.members.mean() < 1

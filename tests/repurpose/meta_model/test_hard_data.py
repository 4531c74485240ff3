"""Data that leave little to learn, or tempt arithmetic: every head gives probabilities or a clear error, never NaN.

A head joins by being listed in `HEADS`; what is right for one head alone is in its own tests.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from model_handler import Features
from repurpose import BnnRepurposer, GpRepurposer, LaplaceRepurposer, LrRepurposer, MetaModelRepurposer, SvmRepurposer
from tests.repurpose.examples import blobs, identity_network

HEADS: dict[str, Callable[..., MetaModelRepurposer]] = {
    "lr": LrRepurposer,
    "svm": SvmRepurposer,
    "svm-rbf": partial(SvmRepurposer, kernel="rbf"),
    "gp": GpRepurposer,
    "gp-raw": partial(GpRepurposer, apply_l2_norm=False),
    "gp-points": partial(GpRepurposer, n_inducing=10),
    "laplace": LaplaceRepurposer,
    "bnn": partial(BnnRepurposer, num_epochs=20),
}
METHODS = ("mahalanobis", "knn", "energy")
SCALES = (1e-30, 1e-8, 1e8, 1e30)


@pytest.fixture(params=HEADS)
def head(request: pytest.FixtureRequest) -> Callable[..., MetaModelRepurposer]:
    return partial(HEADS[request.param], identity_network(), ["0"], random_state=0)


def learned(repurposer: MetaModelRepurposer, X: np.ndarray, y: Any, *others: np.ndarray) -> list[np.ndarray]:
    """The probabilities of the training rows and of other rows, with every other answer judged; warnings are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "no class has two examples")  # LR says that it has nothing to choose C by
        repurposer.repurpose(Features({"0": X}, y))
        return [sound(repurposer, rows) for rows in (X, *others)]


def sound(repurposer: MetaModelRepurposer, X: np.ndarray) -> np.ndarray:
    """The probabilities, once they and all that goes with them are numbers that make sense."""
    features = Features({"0": X})
    probabilities = repurposer.predict_probability(features)
    assert np.isfinite(probabilities).all()
    assert (probabilities >= 0).all()
    assert np.abs(probabilities.sum(axis=1) - 1).max() <= 1e-6
    assert np.array_equal(repurposer.classes_[probabilities.argmax(axis=1)], repurposer.predict_label(features))
    for name, value in vars(repurposer.predict_uncertainty(features, 20)).items():
        assert value is None or np.isfinite(value).all(), name
    for method in METHODS:
        assert np.isfinite(repurposer.unfamiliarity(features, method)).all(), method
    return probabilities


@pytest.mark.filterwarnings("ignore:no class has two examples")
def test_two_examples_in_all_are_told_apart(head: Any) -> None:
    X, _ = blobs()
    (probabilities,) = learned(head(), X[:2], ["a", "b"])
    assert probabilities.argmax(axis=1).tolist() == [0, 1]
    alike = head().repurpose(Features({"0": X[[0, 0]]}, ["a", "b"]))
    error = 0.05 if isinstance(alike, BnnRepurposer) else 1e-6  # of a mean over 128 draws
    assert sound(alike, X) == pytest.approx(0.5, abs=error)


def test_one_example_of_a_class_beside_many_of_others_is_learned(head: Any) -> None:
    X, y = blobs()
    labels = y.copy()
    labels[0] = 7
    probabilities, fresh = learned(head(), X, labels, blobs(seed=1)[0])
    assert probabilities.shape == fresh.shape == (60, 4)


def test_as_many_classes_as_examples_and_more_than_features_are_told_apart(head: Any) -> None:
    X, _ = blobs(n_samples=12, n_features=30)
    probabilities, fresh = learned(head(), X, np.arange(12), blobs(n_features=30, seed=1)[0])
    assert probabilities.argmax(axis=1).tolist() == list(range(12))
    assert fresh.shape == (60, 12)
    learned(head(), X[:, :2], np.arange(12))


def test_a_class_without_an_example_is_no_class(head: Any) -> None:
    """More classes than examples: codes 0 to 1,000 of which four occur."""
    X, _ = blobs()
    repurposer = head()
    probabilities, _ = learned(repurposer, X[:4], [0, 10, 500, 1000], X)
    assert probabilities.shape == (4, 4)
    assert repurposer.classes_.tolist() == [0, 10, 500, 1000]


def test_constant_features_tell_nothing_and_the_classes_frequencies_remain(head: Any) -> None:
    labels = np.repeat([0, 1], [35, 15])
    probabilities, elsewhere = learned(head(), np.full((50, 3), 0.1), labels, np.full((4, 3), 5.0))
    assert np.ptp(probabilities, axis=0).max() < 1e-12
    assert 0.55 < probabilities[0, 0] < 0.9
    assert elsewhere.shape == (4, 2)
    X, y = blobs()
    learned(head(), np.hstack([X, np.full((60, 3), 0.1, np.float32), np.zeros((60, 2), np.float32)]), y)


def test_duplicated_features_and_rows_and_a_single_feature_do_no_harm(head: Any) -> None:
    X, y = blobs()
    learned(head(), np.hstack([X, X, X]), y, np.hstack([X, -X, 2 * X]))
    learned(head(), np.vstack([X, X, X]), np.concatenate([y, y, y]))
    learned(head(), X[:, :1], y)


@pytest.mark.parametrize("scale", SCALES)
def test_the_scale_of_features_does_not_matter(head: Any, scale: float) -> None:
    X, y = blobs()
    (expected,) = learned(head(), X, y)
    (found,) = learned(head(), X * np.float32(scale), y)
    assert np.allclose(found, expected, rtol=0, atol=5e-3)


def test_features_of_very_different_scale_and_far_from_zero_give_numbers(head: Any) -> None:
    X, y = blobs()
    scales = np.array([1e8, 1e-8, 1.0, 1e3], np.float32)
    learned(head(), X * scales, y, X)
    learned(head(), X + np.float32(1e8), y, X)  # float32 has steps of 8 there


@pytest.mark.parametrize("broken", [(0, 3), 0], ids=["cell", "row"])
def test_one_broken_row_hardly_changes_the_others_and_is_told(head: Any, broken: Any) -> None:
    """A scale from mean squares took all other rows for one point; what is learned without the row is right."""
    X, y = blobs()
    with_outlier = X.copy()
    with_outlier[broken] *= 1e8
    right = head().repurpose(X[1:], y[1:]).predict_probability(blobs(seed=1)[0])
    repurposer = head()
    with pytest.warns(UserWarning, match=r"outliers in layer '0', most rows .*e\+0\d in row 0\. Training"):
        repurposer.repurpose(Features({"0": with_outlier}, y))
    found = sound(repurposer, blobs(seed=1)[0])
    assert np.abs(found - right).mean() < 0.05
    assert sound(repurposer, with_outlier).shape == (60, 3)
    assert repurposer.unfamiliarity(with_outlier).argmax() == 0


def test_new_rows_far_from_everything_give_numbers(head: Any) -> None:
    X, y = blobs()
    far = np.vstack([X[:5] * 1e8, -X[:5] * 1e30, X[:5] * 1e-30, np.full((1, 4), 3e38), np.zeros((1, 4))])
    learned(head(), X, y, far.astype(np.float32))


def test_identical_rows_with_different_labels_are_doubtful(head: Any) -> None:
    X, y = blobs()
    (probabilities,) = learned(head(), np.vstack([X, X]), np.concatenate([y, (y + 1) % 3]))
    assert np.allclose(probabilities[:60], probabilities[60:], rtol=0, atol=1e-9)
    assert probabilities.max() < 0.95
    (same,) = learned(head(), np.repeat(X[:1], 60, axis=0), np.arange(60) % 3)
    assert np.allclose(same, 1 / 3, rtol=0, atol=0.01)


@pytest.mark.parametrize("coverage", [0, 1, -0.1, 1.5, 90, np.nan, np.inf, None, "most"])
def test_a_coverage_outside_of_zero_to_one_is_refused(head: Any, coverage: Any) -> None:
    X, y = blobs()
    repurposer = head().repurpose(X, y)
    with pytest.raises(ValueError, match=r"coverage must be above 0 and below 1, such as 0\.9, got"):
        repurposer.predict_set(X, coverage)


def test_a_calibration_set_without_a_class_serves_or_is_refused_by_name(head: Any) -> None:
    X, y = blobs(n_samples=90)
    names = np.array(["pear", "apple", "fig"])[y]
    repurposer = head().repurpose(X[:45], names[:45])
    rows = 45 + np.flatnonzero(names[45:] != "fig")
    repurposer.calibrate(X[rows], names[rows])
    assert sound(repurposer, X).shape == (90, 3)
    with pytest.raises(ValueError, match="needs rows of every class, and there are none of 'fig'"):
        repurposer.calibrate(X[rows], names[rows], method="vector")
    with pytest.warns(UserWarning, match="no row of 'fig' among"):
        repurposer.conformalize(X[rows], names[rows])
    assert repurposer.predict_set(X, 0.8).sizes.min() >= 1


@pytest.mark.parametrize("n_classes", [150, pytest.param(1000, marks=pytest.mark.slow)])
def test_two_examples_each_of_many_classes_are_learned(head: Any, n_classes: int) -> None:
    rng = np.random.default_rng(0)
    centers, y = rng.normal(size=(n_classes, 64)), np.repeat(np.arange(n_classes), 2)
    X = centers[y] + 0.3 * rng.normal(size=(2 * n_classes, 64))
    repurposer = head().repurpose(Features({"0": X}, y))
    probabilities = sound(repurposer, centers + 0.3 * rng.normal(size=centers.shape))
    assert np.mean(probabilities.argmax(axis=1) == np.arange(n_classes)) > 0.9

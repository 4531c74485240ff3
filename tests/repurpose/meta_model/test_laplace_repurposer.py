from typing import Any

import numpy as np
import pytest

from model_handler import Features
from repurpose import LaplaceRepurposer, LrRepurposer, load
from repurpose.data.scaling import BlockScaling
from repurpose.meta_model import laplace, laplace_repurposer
from tests.repurpose.contract import RepurposerContract
from tests.repurpose.examples import blob_features, blobs, identity_network, repeated


class TestContract(RepurposerContract):
    grid = {"c": [0.1, 1.0]}  # noqa: RUF012

    def make(self, source_model: Any, **options: Any) -> LaplaceRepurposer:
        return LaplaceRepurposer(source_model, ["2"], **{"c": 1.0, **options})


def lap(**options: Any) -> LaplaceRepurposer:
    return LaplaceRepurposer(identity_network(), ["0"], **{"random_state": 0, **options})


def test_probabilities_and_choices_are_those_of_logistic_regression() -> None:
    features = blob_features(n_features=80)
    plain = LrRepurposer(identity_network(), ["0"], random_state=0).repurpose(features)
    found = lap().repurpose(features)
    assert np.array_equal(found.predict_probability(features), plain.predict_probability(features))
    assert (found.c_, found.c_scores_) == (plain.c_, plain.c_scores_)
    assert found.prior_precision_ == 0.01 / plain.c_


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_posterior_stands_about_the_least_loss(n_classes: int) -> None:
    """The variance against the inverse Hessian of scikit-learn's own objective, from finite differences of it."""
    X, y = blobs(n_classes=n_classes)
    found = lap(c=0.5, prior_precision=2.0, tol=1e-10).repurpose(X, y)
    inputs = np.hstack([BlockScaling.fit(X, {"0": np.arange(4)}).transform(X), np.ones((60, 1))])
    probabilities = found.predict_probability(X)
    n_logits = 1 if n_classes == 2 else n_classes
    hessian = 2.0 * np.eye(n_logits * 5)
    for row, p in zip(inputs, probabilities):
        curvature = np.array([[p[0] * p[1]]]) if n_classes == 2 else np.diag(p) - np.outer(p, p)
        hessian += np.kron(curvature, np.outer(row, row))
    covariance = np.linalg.inv(hessian).reshape(n_logits, 5, n_logits, 5)
    of_logits = np.einsum("ni,cidj,nj->ncd", inputs, covariance, inputs)
    if n_classes == 2:
        expected = of_logits[:, 0, 0] / 4
    else:
        centring = np.eye(3) - 1 / 3
        expected = np.trace(centring @ of_logits @ centring, axis1=1, axis2=2) / 3
    assert np.allclose(found.unfamiliarity(X, "variance"), expected, rtol=1e-6)


def test_a_class_weight_counts_in_the_posterior_as_repeated_rows_do() -> None:
    X, y = blobs()
    scaling = BlockScaling.fit(X, {"0": np.arange(4)})
    rows = scaling.transform(X)
    found = lap(c=1.0, prior_precision=1.0, class_weight={1: 2.0}).repurpose(X, y)
    twice = np.concatenate([np.arange(60), np.flatnonzero(y == 1)])
    probabilities = found.predict_probability(X)
    by_hand = laplace.approximate_posterior(rows[twice], None, scaling, probabilities[twice], None, 1.0)
    assert np.allclose(found.unfamiliarity(X, "variance"), by_hand.variances(X), rtol=1e-6)


def test_draws_have_a_ten_thousandth_of_the_variance() -> None:
    X, y = blobs()
    found = lap(c=1.0).repurpose(X, y)
    assert found.variance_factor_ == 1e-4
    logits = np.log(found.predict_samples(X, 2000))
    centred = logits - logits.mean(axis=2, keepdims=True)
    assert np.allclose(centred.var(axis=0).mean(axis=1), 1e-4 * found.unfamiliarity(X, "variance"), rtol=0.1)


@pytest.mark.parametrize("most", [0, 2000])
def test_variance_grows_away_from_the_training_rows(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(laplace, "_MAX_PARAMETERS", most)
    X, y = blobs(n_features=100)
    found = lap(c=1.0).repurpose(X, y)
    strange = np.random.default_rng(0).permuted(X, axis=1)
    assert found.unfamiliarity(strange, "variance").min() > found.unfamiliarity(X, "variance").max()
    more_data = lap(c=1.0).repurpose(*blobs(n_samples=600, n_features=100))
    fresh = blobs(n_features=100, seed=0)[0]
    assert more_data.unfamiliarity(fresh, "variance").mean() < found.unfamiliarity(strange, "variance").mean()


def test_doubt_of_a_row_does_not_depend_on_its_batch() -> None:
    X, y = blobs(n_features=100)
    found = lap(c=1.0).repurpose(X, y)
    whole, alone = found.predict_uncertainty(X), found.predict_uncertainty(X[[7]])
    for name in ("total", "aleatoric", "epistemic", "variance"):
        assert np.allclose(getattr(whole, name)[[7]], getattr(alone, name), rtol=1e-9), name


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e8, 1e30])
def test_the_scale_of_features_does_not_matter(scale: float) -> None:
    X, y = blobs(n_features=80)
    expected = lap(c=1.0).repurpose(X, y).unfamiliarity(X, "variance")
    scaled = Features({"0": X * np.float32(scale)}, y)
    assert np.allclose(lap(c=1.0).repurpose(scaled).unfamiliarity(scaled, "variance"), expected, rtol=1e-3)


@pytest.mark.parametrize("value", [0, -1.0, np.inf, "penalty", True])
def test_an_unusable_prior_precision_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="prior_precision must be a positive finite number or None, got"):
        lap(prior_precision=value).repurpose(blob_features())


@pytest.mark.parametrize("most", [0, 2000])
def test_nothing_is_computed_anew_when_loading(most: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(laplace, "_MAX_PARAMETERS", most)
    X, y = blobs(n_features=100)
    found = lap(c=1.0).repurpose(X, y)
    found.save_repurposer(tmp_path / "saved")
    monkeypatch.setattr(laplace_repurposer, "approximate_posterior", None)
    loaded = load(tmp_path / "saved", source_model=identity_network())
    assert np.array_equal(loaded.unfamiliarity(X, "variance"), found.unfamiliarity(X, "variance"))
    assert np.array_equal(loaded.predict_samples(X, 5), found.predict_samples(X, 5))
    assert {file.name for file in (tmp_path / "saved").iterdir()} == {"repurposer.json", "arrays.safetensors"}


def test_rows_that_count_several_times_settle_the_coefficients_as_repeated_ones_do() -> None:
    X, y, weights, again = repeated()
    weighted, expected = (LaplaceRepurposer(identity_network(), ["0"], c=1.0, tol=1e-9) for _ in range(2))
    weighted.fit(X, y, sample_weight=weights)
    expected.fit(X[again], y[again])
    found = weighted.unfamiliarity(X, "variance")
    np.testing.assert_allclose(found, expected.unfamiliarity(X, "variance"), rtol=1e-5)
    assert not np.allclose(
        found, LaplaceRepurposer(identity_network(), ["0"], c=1.0).fit(X, y).unfamiliarity(X, "variance")
    )

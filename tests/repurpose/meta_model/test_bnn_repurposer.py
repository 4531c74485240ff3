import warnings
from typing import Any

import numpy as np
import pyro
import pytest
import torch

from model_handler import Features
from repurpose import BnnRepurposer, LrRepurposer, load
from repurpose.meta_model import bnn_repurposer
from repurpose.meta_model.bnn import training
from tests.repurpose.contract import RepurposerContract
from tests.repurpose.examples import blob_features, blobs, identity_network


class TestContract(RepurposerContract):
    grid = {"sigma": [None, 0.5]}  # noqa: RUF012
    quick = {"num_epochs": 2}  # noqa: RUF012

    def make(self, source_model: Any, **options: Any) -> BnnRepurposer:
        return BnnRepurposer(source_model, ["2"], **{"c": 1.0, "num_epochs": 30, "n_hidden": 8, **options})


def bnn(layers: tuple[str, ...] = ("0",), **options: Any) -> BnnRepurposer:
    return BnnRepurposer(identity_network(), list(layers), **{"random_state": 0, "c": 1.0, "num_epochs": 40, **options})


def half_moons(n_samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import make_moons

    X, y = make_moons(n_samples, noise=0.15, random_state=seed)
    return X.astype(np.float32), y


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("n_features", [4, 100])
def test_it_starts_at_the_logistic_solution(n_classes: int, n_features: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bnn_repurposer, "_FIRST_DEVIATION", 1e-9)
    features = blob_features(n_classes=n_classes, n_features=n_features)
    found = bnn(num_epochs=1, learning_rate=1e-12).repurpose(features).predict_probability(features)
    plain = LrRepurposer(identity_network(), ["0"], c=1.0).repurpose(features).predict_probability(features)
    assert np.allclose(found, plain, rtol=0, atol=1e-4)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_without_doubt_the_linear_map_stays_at_the_logistic_solution(
    n_classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prior that follows from c: the least bound of weights without variance is the logistic one."""
    monkeypatch.setattr(bnn_repurposer, "_SHARE_OF_HIDDEN", 1e-6)
    monkeypatch.setattr(bnn_repurposer, "_KL_WEIGHT", 1e-6)
    features = blob_features(n_samples=200, n_classes=n_classes)
    for c in (0.001, 1.0):
        found = bnn(num_epochs=200, learning_rate=0.02, c=c).repurpose(features).predict_probability(features)
        plain = LrRepurposer(identity_network(), ["0"], c=c).repurpose(features).predict_probability(features)
        assert np.allclose(found, plain, rtol=0, atol=0.02), c


def test_a_tiny_sigma_leaves_the_frequencies_of_the_classes() -> None:
    X, y = blobs()
    kept = np.concatenate([np.flatnonzero(y == 0)[:5], np.flatnonzero(y > 0)])
    probabilities = bnn(sigma=1e-3, num_epochs=300, learning_rate=0.05).repurpose(X[kept], y[kept]).predict_proba(X)
    assert np.allclose(probabilities, np.bincount(y[kept]) / len(kept), rtol=0, atol=0.05)


def test_a_wide_sigma_makes_it_less_sure() -> None:
    X, y = blobs(n_features=20)
    entropies = [bnn(sigma=sigma).repurpose(X, y).predict_uncertainty(X).total.mean() for sigma in (0.3, 3.0)]
    assert entropies[0] != pytest.approx(entropies[1], rel=0.05)


def test_hidden_layers_learn_what_no_line_can() -> None:
    (X, y), (new, truth) = half_moons(300, 0), half_moons(1000, 1)
    plain = LrRepurposer(identity_network(), ["0"], random_state=0).repurpose(X, y).score(new, truth)
    found = bnn(num_epochs=300, learning_rate=0.05).repurpose(X, y)
    assert found.score(new, truth) > plain + 0.05


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_there_are_as_many_and_as_wide_layers_as_asked(num_layers: int) -> None:
    found = bnn(num_layers=num_layers, n_hidden=7, num_epochs=2).repurpose(blob_features())
    shapes = [mean.shape for mean in found.target_model_.means]
    assert shapes == [(4, 3), (5, 7), *[(8, 7)] * (num_layers - 1), (7, 3)]


def test_given_values_replace_the_design(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"num_epochs": 12, "start_annealing": 3, "end_annealing": 5, "num_samples_mc_prediction": 11}
    found = bnn(**options, num_samples_mc=2, training_batch_size=20).repurpose(blob_features())
    assert found.target_model_.n_draws == 11
    assert all(values.shape == (12,) for values in found.history_.values())
    assert np.allclose(found.history_["kl_weight"] / found.kl_weight_, [0] * 3 + [0.5] + [1] * 8)
    assert (bnn_repurposer._N_STEPS, bnn_repurposer._MIN_EPOCHS) == (300, 20)
    monkeypatch.setattr(bnn_repurposer, "_N_STEPS", 30)
    monkeypatch.setattr(bnn_repurposer, "_MIN_EPOCHS", 2)
    for given, n_epochs in (({}, 30), ({"training_batch_size": 10}, 5), ({"end_annealing": 40}, 40)):
        assert len(bnn(num_epochs=None, **given).repurpose(blob_features()).history_["loss"]) == n_epochs


def test_the_rate_the_draws_and_the_weights_of_prior_and_divergence_are_handed_on() -> None:
    found = bnn(c=4.0, num_epochs=1, learning_rate=0.02, num_samples_mc=4).repurpose(blob_features())
    schedule = found._schedule(60)
    assert (schedule.learning_rate, schedule.n_particles, schedule.kl_weight) == (0.02, 4, 0.03)
    of_linear_map, *_ = found._our_deviations([4, 5], length=2.0)
    assert of_linear_map == pytest.approx((0.03 * 4.0) ** 0.5 / 2.0)


def test_networks_are_drawn_by_the_seed_and_as_many_as_asked() -> None:
    features = blob_features()
    first, again, other = (bnn(num_epochs=2, random_state=seed).repurpose(features) for seed in (0, 0, 1))
    assert first.target_model_.seed == again.target_model_.seed != other.target_model_.seed
    few = bnn(num_epochs=2, num_samples_mc_prediction=3).repurpose(features)
    draws = few.target_model_.draws(features.matrix, 3, np.random.RandomState(few.target_model_.seed))
    assert np.allclose(few.predict_probability(features), draws.mean(axis=0), atol=1e-9)
    samples = first.predict_samples(features, 4)
    assert not np.array_equal(samples, first.set_params(random_state=1).predict_samples(features, 4))


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        ({"sigma": 0}, ["sigma must be a number from 1e-15 to 1e+15, or None, got 0"]),
        ({"learning_rate": np.inf}, ["learning_rate must be a positive finite number or None, got inf"]),
        ({"n_hidden": 0, "num_layers": 1.5}, ["n_hidden must be a whole number", "num_layers must be a whole number"]),
        ({"num_samples_mc": True}, ["num_samples_mc must be a whole number of at least 1, or None, got True"]),
        ({"start_annealing": -1}, ["start_annealing must be an epoch, a whole number of at least 0, or None, got -1"]),
        (
            {"start_annealing": 9, "end_annealing": 5, "num_epochs": 4},
            [
                "start_annealing must not be after end_annealing, got 9 and 5",
                "end_annealing must not be after num_epoch",
            ],
        ),
        ({"start_annealing": 41}, ["start_annealing must not be after num_epochs, got 41 and 40"]),
        ({"end_annealing": "late", "c": 0}, ["end_annealing must be an epoch", "c must be"]),
    ],
)
def test_every_unusable_parameter_is_named(options: dict[str, Any], messages: list[str]) -> None:
    with pytest.raises(ValueError, match="must") as refusal:
        bnn(**options).repurpose(blob_features())
    assert all(message in str(refusal.value) for message in messages)


def test_class_weights_equal_repeated_rows_in_the_loss() -> None:
    X, y = blobs()
    names = np.array(["pear", "apple", "fig"])[y]
    weighted, plain = (bnn(class_weight=w).repurpose(X, names).predict_probability(X) for w in ({"apple": 8.0}, None))
    assert (weighted[:, 0] > plain[:, 0]).mean() > 0.9
    balanced = bnn(class_weight="balanced").repurpose(X, names).predict_probability(X)
    assert np.allclose(balanced, plain, rtol=0, atol=0.1)  # the classes are as frequent as each other


def test_strings_and_missing_labels_are_classes_as_elsewhere() -> None:
    X, y = blobs(n_classes=2)
    found = bnn().repurpose(X, np.array(["no", "yes"], dtype=object)[y])
    assert found.predict_probability(X).shape == (60, 2)
    assert set(found.predict_label(X)) == {"no", "yes"}
    with pytest.raises(ValueError, match=r"None|missing"):
        bnn().repurpose(X, np.array([None, "yes"], dtype=object)[y])


@pytest.mark.filterwarnings("ignore:Encountered NaN")
@pytest.mark.parametrize("wild", [{"learning_rate": 1e3}, {"sigma": 1e25}, {"sigma": 1e300}])
def test_training_that_runs_away_is_an_error_and_leaves_what_was_learned(wild: dict[str, float]) -> None:
    X, y = blobs()
    found = bnn(num_epochs=5).repurpose(X, y)
    before = found.predict_probability(X)
    with pytest.raises(ValueError, match=r"use a smaller one|sigma must be .* got 1e\+(25|300)"):
        found.set_params(**wild).repurpose(X, y)
    assert np.array_equal(found.predict_probability(X), before)


def test_epistemic_uncertainty_falls_as_examples_grow() -> None:
    X, y = blobs(n_samples=400, n_features=20)
    doubts = []
    for n_samples in (10, 50, 200):
        found = bnn(num_epochs=None).repurpose(X[200 : 200 + n_samples], y[200 : 200 + n_samples])
        doubts.append(found.predict_uncertainty(X[:200]).epistemic.mean())
    assert doubts[0] > doubts[1] > doubts[2]


def test_pyros_parameters_are_left_alone() -> None:
    store = pyro.get_param_store()
    store["of the user"] = torch.ones(2)
    found = bnn(num_epochs=2).repurpose(blob_features())
    found.predict_uncertainty(blob_features())
    assert list(store) == ["of the user"]
    del store["of the user"]


def no_harm(X: np.ndarray, y: Any, **options: Any) -> np.ndarray:
    """Fits without a warning; the probabilities of the training rows."""
    data = Features({"0": X}, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = bnn(**options).repurpose(data)
        probabilities, uncertainty = found.predict_probability(data), found.predict_uncertainty(data)
    assert np.isfinite(uncertainty.total).all()
    assert np.isfinite(probabilities).all()
    assert probabilities.min() > 0
    assert np.allclose(probabilities.sum(axis=1), 1, rtol=0, atol=1e-6)
    assert all(np.isfinite(values).all() for values in found.history_.values())
    return probabilities


def test_few_equal_and_constant_rows_work() -> None:
    X, y = blobs()
    assert no_harm(X[:2], ["a", "b"]).argmax(axis=1).tolist() == [0, 1]
    assert no_harm(X[:3], ["a", "b", "c"]).argmax(axis=1).tolist() == [0, 1, 2]
    alone = y.copy()
    alone[0] = 7
    assert no_harm(X, alone).shape == (60, 4)
    assert np.allclose(no_harm(np.full((10, 3), 0.1, np.float32), [0] * 7 + [1] * 3), [0.7, 0.3], rtol=0, atol=0.1)
    no_harm(np.vstack([X, X]), np.concatenate([y, (y + 1) % 3]))
    no_harm(np.hstack([X, X]), y)
    no_harm(X[:, :1], y)


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e8, 1e30])
def test_the_scale_of_features_does_not_matter(scale: float) -> None:
    X, y = blobs()
    assert np.allclose(no_harm(X * np.float32(scale), y), no_harm(X, y), rtol=0, atol=2e-3)


def test_layers_of_different_scale_count_alike() -> None:
    X, y = blobs(n_features=6)
    even, uneven = (Features({"0": X[:, :3] * k, "1": X[:, 3:] / k}, y) for k in (1, 1000))
    first, second = (bnn(("0", "1")).repurpose(data).predict_probability(data) for data in (even, uneven))
    assert np.allclose(first, second, rtol=0, atol=2e-3)


@pytest.mark.parametrize("n_classes", [120, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_classes_of_two_examples_work(n_classes: int) -> None:
    labels = np.repeat(np.arange(n_classes), 2)
    X = np.random.default_rng(0).normal(size=(n_classes, 20))[labels]
    X += 0.05 * np.random.default_rng(1).normal(size=X.shape)
    probabilities = no_harm(X, labels, num_epochs=10, num_samples_mc_prediction=20)
    assert np.mean(probabilities.argmax(axis=1) == labels) > 0.9


def test_nothing_is_fitted_when_loading(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = blobs(n_features=100)
    found = bnn(num_layers=2, n_hidden=5).repurpose(X, y)
    found.save_repurposer(tmp_path / "saved")
    assert {file.name for file in (tmp_path / "saved").iterdir()} == {"repurposer.json", "arrays.safetensors"}
    monkeypatch.setattr(training, "train", None)
    loaded = load(tmp_path / "saved", source_model=identity_network())
    assert np.array_equal(loaded.predict_probability(X), found.predict_probability(X))
    assert np.array_equal(loaded.predict_samples(X, 5), found.predict_samples(X, 5))
    assert np.array_equal(loaded.history_["loss"], found.history_["loss"])


def test_weights_of_rows_reach_the_start_the_components_and_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = blobs()
    weights = np.random.default_rng(0).uniform(0.1, 5, size=60)
    calls = []
    monkeypatch.setattr(training, "train", lambda *arguments: calls.append(arguments) or {})
    options = {"c": 1.0, "class_weight": {0: 2.0}, "random_state": 0}
    repurposer = BnnRepurposer(identity_network(), ["0"], **options).fit(X, y, sample_weight=weights)
    network, rows, _, row_weights, _, repeats = calls[0]
    assert np.allclose(repeats, weights)
    assert np.allclose(row_weights, weights * np.where(y == 0, 2.0, 1.0))
    counts = np.maximum(weights, 1)
    assert np.average(np.square(rows.numpy()).mean(axis=1), weights=counts) == pytest.approx(1, rel=1e-5)
    start = LrRepurposer(identity_network(), ["0"], c=1.0, class_weight={0: 2.0}).fit(X, y, sample_weight=weights)
    logits = rows.double() @ network.means[0].double() + network.intercepts.double()
    assert np.allclose(torch.softmax(logits, 1), start.predict_proba(X), atol=1e-4)
    assert repurposer.classes_.tolist() == [0, 1, 2]

import inspect
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from gpytorch.kernels import RBFKernel, ScaleKernel
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss, roc_auc_score

from model_handler import Features
from repurpose import GpRepurposer, load
from repurpose.meta_model import gp_repurposer
from repurpose.meta_model.gp import inducing
from repurpose.meta_model.gp.evidence import condition
from repurpose.meta_model.gp.rows import LayerRows
from repurpose.meta_model.gp.svgp import LearnedPoints
from repurpose.meta_model.gp.targets import DirichletTargets
from tests.repurpose.contract import RepurposerContract
from tests.repurpose.examples import blob_features, blobs, identity_network, repeated


class TestContract(RepurposerContract):
    grid = {"alpha_eps": [1e-2, 1e-3]}  # noqa: RUF012

    def make(self, source_model: Any, **options: Any) -> GpRepurposer:
        return GpRepurposer(source_model, ["2"], **options)


class TestContractWithInducingPoints(RepurposerContract):
    grid = {"n_inducing": [10, 20]}  # noqa: RUF012

    def make(self, source_model: Any, **options: Any) -> GpRepurposer:
        return GpRepurposer(source_model, ["2"], **{"n_inducing": 15, "random_state": 0, **options})


def gp(layers: tuple[str, ...] = ("0",), **options: Any) -> GpRepurposer:
    return GpRepurposer(identity_network(), list(layers), **{"random_state": 0, **options})


def digits(n_rows: int, start: int = 0) -> Features:
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))[start : start + n_rows]
    return Features({"0": X[order]}, y[order])


def test_what_was_learned_can_be_read() -> None:
    X, y = blobs()
    features = Features({"0": X, "1": X[:, :2] ** 2}, y)
    repurposer = gp(("0", "1")).repurpose(features)
    for numbers in (repurposer.lengthscale_, repurposer.radial_scale_, repurposer.linear_scale_):
        assert numbers.shape == (2,)
        assert (numbers > 0).all()
    assert repurposer.alpha_eps_ == pytest.approx(0.01 / 3)
    assert repurposer.variance_factor_ == 0.1
    assert 0.5 < repurposer.temperature_ < 2
    assert np.isfinite([repurposer.log_evidence_, repurposer.prior_mean_]).all()
    assert 1 < repurposer.n_function_evaluations_ < 100
    assert repurposer.n_inducing_ is None


def test_a_layer_that_tells_nothing_is_given_little_weight() -> None:
    X, y = digits(100).matrix, digits(100).labels
    noise = np.random.default_rng(0).normal(size=(100, 30))
    repurposer = gp(("0", "1")).repurpose(Features({"0": X, "1": noise}, y))
    told, untold = repurposer.radial_scale_ + repurposer.linear_scale_
    assert told > 3 * untold


def test_probabilities_are_good_and_doubt_finds_what_is_unfamiliar() -> None:
    train, test = digits(200), digits(800, start=200)
    repurposer = gp().repurpose(train)
    assert log_loss(test.labels, repurposer.predict_probability(test)) < 0.4
    strange = np.random.default_rng(0).permuted(test.matrix, axis=1)
    variances = [repurposer._predict_variance_from_features(rows) for rows in (test.matrix, strange)]
    assert variances[0].shape == (800,)
    assert roc_auc_score(np.repeat([0, 1], 800), np.concatenate(variances)) > 0.9


def test_samples_are_probabilities_whose_spread_is_the_raw_variance() -> None:
    train, test = digits(100), digits(50, start=200).matrix
    repurposer = gp().repurpose(train)
    samples = repurposer._predict_samples_from_features(test, 4000, 0)
    assert samples.shape == (4000, 50, 10)
    assert np.allclose(samples.sum(axis=2), 1, rtol=0, atol=1e-9)
    means, variances = repurposer.target_model_.latent(test)
    log_odds = np.log(samples[:, :, 0]) - np.log(samples[:, :, 1])
    assert np.allclose(log_odds.mean(axis=0), means[:, 0] - means[:, 1], rtol=0, atol=0.6)
    assert np.allclose(log_odds.var(axis=0), variances[:, 0] + variances[:, 1], rtol=0.15)
    assert np.array_equal(samples, repurposer._predict_samples_from_features(test, 4000, 0))
    assert not np.array_equal(samples, repurposer._predict_samples_from_features(test, 4000, 1))


def test_probabilities_take_a_tenth_of_the_variance_and_the_temperature() -> None:
    train, test = digits(60), digits(50, start=200)
    repurposer = gp().repurpose(train)
    means, variances = (part.numpy() for part in repurposer.target_model_.latent(test.matrix))
    shrunk = means / (repurposer.temperature_ * np.sqrt(1 + np.pi / 8 * 0.1 * variances.mean(axis=1, keepdims=True)))
    assert np.allclose(repurposer.predict_probability(test), softmax(shrunk, axis=1), rtol=1e-9)
    assert variances.mean() > 1
    assert abs(repurposer.temperature_ - 1) > 1e-3


@pytest.mark.parametrize("n_inducing", [None, 30])
def test_predictions_do_not_depend_on_the_batch(n_inducing: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    repurposer, test = gp(n_inducing=n_inducing).repurpose(digits(100)), digits(60, start=200).matrix
    whole = repurposer.predict_probability(Features({"0": test}))
    alone = [repurposer.predict_probability(Features({"0": row[None]}))[0] for row in test]
    assert np.allclose(whole, alone, rtol=0, atol=1e-12)
    samples = repurposer._predict_samples_from_features(test, 5, 0)
    assert np.allclose(
        samples[:, 20:30], repurposer._predict_samples_from_features(test[20:30], 5, 0), rtol=0, atol=1e-10
    )
    monkeypatch.setattr("repurpose.meta_model.gp.model._MAX_ELEMENTS", 700)  # rows go through in sevens
    assert np.allclose(whole, repurposer.predict_probability(Features({"0": test})), rtol=0, atol=1e-12)


def test_the_order_of_the_examples_does_not_matter() -> None:
    features = digits(80)
    turned = features[np.arange(80)[::-1]]
    first, second = (gp().repurpose(data).target_model_.latent(features.matrix)[0] for data in (features, turned))
    assert torch.allclose(first, second, rtol=0, atol=1e-3)


def test_fewer_evaluations_of_the_evidence_find_less_of_it() -> None:
    few, many = (gp(max_function_evaluations=n).repurpose(digits(100)) for n in (2, 100))
    assert few.n_function_evaluations_ <= 4 < many.n_function_evaluations_
    assert few.log_evidence_ < many.log_evidence_


def test_rows_of_norm_one_know_directions_only() -> None:
    train, test = digits(100), digits(50, start=200)
    center = train.matrix.mean(axis=0, dtype=np.float64)
    further = Features({"0": center + 2 * (test.matrix - center)})
    for apply_l2_norm in (True, False):
        repurposer = gp(apply_l2_norm=apply_l2_norm).repurpose(train)
        change = repurposer.predict_probability(further) - repurposer.predict_probability(test)
        assert (np.abs(change).max() < 1e-3) == apply_l2_norm


def test_more_examples_than_are_learned_from_still_all_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gp_repurposer, "_MAX_TO_LEARN_FROM", 60)
    train, test = digits(400), digits(800, start=400)
    repurposer = gp().repurpose(train)
    assert len(repurposer.target_model_.points[0]) == 400
    assert log_loss(test.labels, repurposer.predict_probability(test)) < 0.3


def test_inducing_points_take_over_where_examples_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gp_repurposer, "_MAX_EXACT", 300)
    monkeypatch.setattr(gp_repurposer, "_POINTS", 150)
    train, test = digits(400), digits(800, start=400)
    sparse, exact = gp().repurpose(train), gp(n_inducing=None).repurpose(train)
    assert 140 <= sparse.n_inducing_ <= 160
    assert exact.n_inducing_ is None
    losses = [log_loss(test.labels, model.predict_probability(test)) for model in (sparse, exact)]
    assert losses[0] < losses[1] + 0.05


def test_every_part_gets_its_factor_its_bound_and_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part does its work, and what it is given is noted on the way."""
    given: dict[str, dict[str, Any]] = {}

    def noting(name: str) -> Any:
        part = getattr(gp_repurposer, name)

        def noted(*arguments: Any, **options: Any) -> Any:
            given[name] = inspect.signature(part).bind(*arguments, **options).arguments
            given[name]["result"] = part(*arguments, **options)
            return given[name]["result"]

        return noted

    parts = ("learn_kernel", "stratified_subset", "choose_temperature", "choose_points", "learn_by_svgp")
    for name in parts:
        monkeypatch.setattr(gp_repurposer, name, noting(name))
    monkeypatch.setattr("repurpose.meta_model.gp.svgp._STEPS", 1)
    options = {"alpha_eps": 0.02, "max_function_evaluations": 7, "n_inducing": 12, "svgp": True, "device": "cpu:0"}
    found = gp(**options, random_state=np.random.RandomState(0)).repurpose(blob_features())
    assert all(given[name]["random_state"] is found.random_state for name in parts[1:])
    assert given["choose_temperature"]["variance_factor"] == 0.1
    assert given["choose_temperature"]["result"] == found.target_model_.temperature != 1
    assert given["learn_kernel"]["max_function_evaluations"] == 7
    assert given["learn_kernel"]["targets"].own == DirichletTargets.of(0.02).own
    assert given["choose_points"]["n_points"] == 12
    assert given["learn_by_svgp"]["mean"] == given["learn_kernel"]["result"].posterior.mean
    assert given["learn_by_svgp"]["device"] == torch.device("cpu", 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"apply_l2_norm": "yes"}, "apply_l2_norm must be True or False, got 'yes'"),
        ({"svgp": "always"}, "svgp must be True or False, got 'always'"),
        ({"max_function_evaluations": 0}, "max_function_evaluations must be a whole number of at least 1, got 0"),
        ({"max_function_evaluations": 2.5}, "max_function_evaluations must be"),
        ({"n_inducing": 0}, 'n_inducing must be a whole number of at least 1, "auto" or None, got 0'),
        ({"n_inducing": "all"}, "got 'all'"),
        ({"alpha_eps": 0}, 'alpha_eps must be "auto" or a number above 0 and at most 1, got 0'),
        ({"alpha_eps": np.nan}, "alpha_eps must be"),
        ({"alpha_eps": True}, "alpha_eps must be"),
        (
            {"alpha_eps": np.array([0.1, 0.2]), "n_inducing": np.array([5, 9])},
            r"n_inducing must .*\n.*alpha_eps must be",
        ),
    ],
)
def test_unusable_parameters_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gp(**options).repurpose(blob_features())


def no_harm(X: np.ndarray, y: Any, **options: Any) -> np.ndarray:
    """Fits without any warning; the probabilities of the training rows, which are finite and sum to 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probabilities = gp(**options).repurpose(Features({"0": X}, y)).predict_probability(Features({"0": X}))
    assert np.isfinite(probabilities).all()
    assert np.allclose(probabilities.sum(axis=1), 1, rtol=0, atol=1e-6)
    return probabilities


def test_identical_images_with_different_labels_are_doubtful() -> None:
    X, y = blobs()
    twice = no_harm(np.vstack([X, X]), np.concatenate([y, (y + 1) % 3]))
    both = np.take_along_axis(twice[:60], np.stack([y, (y + 1) % 3], axis=1), axis=1)
    assert (np.abs(both[:, 0] - both[:, 1]) < 0.35).mean() > 0.8


def test_nothing_is_fitted_when_loading(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    repurposer = gp().repurpose(digits(60))
    repurposer.save_repurposer(tmp_path / "saved")
    assert {file.name for file in (tmp_path / "saved").iterdir()} == {"repurposer.json", "arrays.safetensors"}
    for name in ("learn_kernel", "condition", "choose_temperature"):
        monkeypatch.setattr(gp_repurposer, name, None)
    loaded = load(tmp_path / "saved", source_model=identity_network())
    test = digits(30, start=100).matrix
    assert np.array_equal(loaded.predict_probability(test), repurposer.predict_probability(test))
    assert np.array_equal(loaded.lengthscale_, repurposer.lengthscale_)
    assert loaded.alpha_eps_ == repurposer.alpha_eps_


def test_gpytorch_is_not_imported_for_a_fit() -> None:
    code = (
        "import sys, numpy as np, torch; from repurpose import GpRepurposer\n"
        "repurposer, x = GpRepurposer(torch.nn.Sequential(torch.nn.Identity()), ['0']), np.eye(4, dtype=np.float32)\n"
        "repurposer.repurpose(x, [0, 0, 1, 1]).predict_label(x); print('gpytorch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("options", [{}, {"apply_l2_norm": False}, {"kernel": "gpytorch"}])
def test_rows_that_count_several_times_give_the_processes_of_repeated_ones(options: Any) -> None:
    if "kernel" in options:
        options = {"kernel": ScaleKernel(RBFKernel())}
    X, y, weights, again = repeated()
    weighted, expected, once = (GpRepurposer(identity_network(), ["0"], random_state=0, **options) for _ in range(3))
    weighted.fit(X, y, sample_weight=weights)
    expected.fit(X[again], y[again])
    once.fit(X, y)
    assert weighted.log_evidence_ == pytest.approx(expected.log_evidence_, rel=1e-6)
    assert weighted.prior_mean_ == pytest.approx(expected.prior_mean_, rel=1e-4)
    for found, other, without in zip(*(each._model.latent(X) for each in (weighted, expected, once))):
        np.testing.assert_allclose(found, other, rtol=1e-2, atol=2e-3)  # L-BFGS stops on its way
        assert (found - without).abs().max() > 0.1


def test_weights_go_with_the_rows_of_the_subset_that_the_kernel_is_learned_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gp_repurposer, "_MAX_TO_LEARN_FROM", 24)
    X, y, weights, _ = repeated()
    X, y, weights = X[weights > 0], y[weights > 0], weights[weights > 0]
    repurposer = GpRepurposer(identity_network(), ["0"], max_function_evaluations=1, random_state=0)
    repurposer.fit(X, y, sample_weight=weights)
    order = np.argsort(y, kind="stable")
    few = order[gp_repurposer.stratified_subset(y[order], 24, np.random.RandomState(0))]
    assert len(few) < len(y)
    scaling = LayerRows.fit(X, {"0": np.arange(4)}, weights, unit_norm=True)
    rows = scaling.transform(X[few])
    targets = DirichletTargets.of(repurposer.alpha_eps_)
    kernel, sizes = repurposer.kernel_.between(rows, rows), np.bincount(y[few]).tolist()
    evidence = condition(kernel, sizes, targets, torch.from_numpy(weights[few]).double()).log_evidence
    assert repurposer.log_evidence_ == pytest.approx(evidence, rel=1e-9)
    rows = scaling.transform(X[order])
    kernel, repeats = repurposer.kernel_.between(rows, rows), torch.from_numpy(weights[order]).double()
    whole = condition(kernel, np.bincount(y).tolist(), targets, repeats)
    assert repurposer.prior_mean_ == pytest.approx(whole.mean, rel=1e-9)


def test_weights_reach_the_inducing_points_and_what_stands_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y, weights, again = repeated()
    handed = []

    def choose_points(*arguments: Any) -> Any:
        handed.append(arguments[-1])
        return inducing.choose_points(*arguments)

    def learn_by_svgp(kernel: Any, points: Any, *arguments: Any, repeats: Any, **options: Any) -> Any:
        handed.append(repeats)
        return LearnedPoints(kernel, points)

    monkeypatch.setattr(gp_repurposer, "choose_points", choose_points)
    monkeypatch.setattr(gp_repurposer, "learn_by_svgp", learn_by_svgp)
    repurposer = GpRepurposer(identity_network(), ["0"], n_inducing=9, svgp=True, random_state=0)
    repurposer.fit(X, y, sample_weight=weights)
    order = np.argsort(y[weights > 0], kind="stable")
    assert [part.tolist() for part in handed] == [weights[weights > 0][order].tolist()] * 2
    model, again = repurposer.target_model_, again[np.argsort(y[again], kind="stable")]
    rows, sizes = model.rows.transform(X[again]), np.bincount(y[again])
    parts = torch.from_numpy(np.arange(len(again))).split(sizes.tolist())
    among, to_rows = model.kernel.between(model.points, model.points), model.kernel.between(model.points, rows)
    targets = DirichletTargets.of(repurposer.alpha_eps_)
    expected = inducing.condition_on_points(among, lambda c: to_rows[:, parts[c]], sizes.tolist(), targets)
    assert repurposer.prior_mean_ == pytest.approx(expected.mean, rel=1e-6)
    means = repurposer.prior_mean_ + to_rows.T @ model.weights
    torch.testing.assert_close(means, expected.mean + to_rows.T @ expected.weights, rtol=1e-5, atol=1e-5)

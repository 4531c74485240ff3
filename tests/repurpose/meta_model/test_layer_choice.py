import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from model_handler import Features
from repurpose.data.folds import order_by_content
from repurpose.meta_model import layer_choice
from repurpose.meta_model.gp.calibration import deal_groups
from repurpose.meta_model.gp.fitting import learn_kernel
from repurpose.meta_model.gp.kernel import Products
from repurpose.meta_model.gp.model import VARIANCE_FACTOR, tempered_logits
from repurpose.meta_model.gp.rows import LayerRows
from repurpose.meta_model.gp.targets import OTHERS, DirichletTargets
from repurpose.meta_model.layer_choice import choose_layers
from tests.repurpose.examples import blobs


def new_rng(seed: int = 0) -> np.random.RandomState:
    return np.random.RandomState(seed)


def layers_of(n_samples: int = 60, **signals: float) -> tuple[Features, np.ndarray]:
    """Layers in which the distance between three classes is so many standard deviations."""
    rng, codes = np.random.default_rng(0), np.arange(n_samples) % 3
    values = {
        name: signal * np.eye(3)[codes] @ np.eye(3, 8) + rng.normal(size=(n_samples, 8))
        for name, signal in signals.items()
    }
    return Features({name: array.astype(np.float32) for name, array in values.items()}), codes


def by_content(features: Features, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows sorted by class, whatever the order in which they come, and their classes, whatever they are called."""
    order, codes = order_by_content(features.matrix, codes)
    by_class = np.argsort(codes, kind="stable")
    return order[by_class], codes[by_class]


def test_a_layer_of_noise_gives_way_to_the_one_with_the_signal() -> None:
    features, codes = layers_of(early=0.0, middle=8.0, last=0.0)
    assert choose_layers(features, codes, new_rng()).names == ["middle"]


def test_the_last_layer_is_enough_where_the_others_add_nothing() -> None:
    features, codes = layers_of(early=0.0, middle=0.0, last=8.0)
    assert choose_layers(features, codes, new_rng()).names == ["last"]


def test_layers_that_know_different_classes_are_taken_together_in_order_of_depth() -> None:
    rng, codes = np.random.default_rng(0), np.arange(80) % 4
    halves = {"noise": 0 * codes, "a": codes % 2, "b": codes // 2}
    values = {name: 6 * half[:, None] + rng.normal(size=(80, 5)) for name, half in halves.items()}
    choice = choose_layers(Features(values), codes, new_rng())
    assert choice.names == ["a", "b"]
    assert choice.scores[("a", "b")] < 0.3 * choice.scores[("b",)]


def test_scores_are_the_log_loss_of_left_out_examples_by_conditioning_anew() -> None:
    X, codes = blobs(n_samples=24, n_features=6)
    features = Features({"first": X[:, :3], "last": X[:, 3:]})
    choice = choose_layers(features, codes, new_rng())
    order, truth = by_content(features, codes)
    sizes, targets = np.bincount(truth).tolist(), DirichletTargets.of(0.01 / 3)
    groups = deal_groups(sizes, new_rng())
    for layers, score in choice.scores.items():
        some = features.select(list(layers))
        rows = LayerRows.fit(some.matrix, some.indices_per_layer, unit_norm=True).transform(some.matrix[order])
        products = Products.between(rows, rows)
        learned = learn_kernel(products, sizes, targets, max_function_evaluations=30)
        losses = []
        for group in groups:
            kept = np.setdiff1d(np.arange(24), group)
            kernel, mean = learned.kernel.matrix(products), learned.posterior.mean
            for row in group.tolist():
                logits = _by_hand(kernel.numpy(), truth, kept, row, targets, mean)
                losses.append(np.log(np.exp(logits).sum()) - logits[truth[row]])
        assert score == pytest.approx(np.mean(losses), abs=1e-6)


def _by_hand(kernel: np.ndarray, codes: np.ndarray, kept: Any, row: int, targets: Any, mean: float) -> np.ndarray:
    means, variances = [], []
    for c in range(3):
        own = codes[kept] == c
        noise = np.where(own, targets.own_noise, targets.other_noise)
        weights = np.linalg.solve(kernel[np.ix_(kept, kept)] + np.diag(noise), kernel[kept, row])
        means.append(mean + weights @ (np.where(own, targets.own, targets.other) - mean))
        variances.append(kernel[row, row] - weights @ kernel[kept, row])
    return np.array(means) / np.sqrt(1 + np.pi / 8 * 0.1 * np.mean(variances))


def test_a_layer_with_the_features_of_a_later_one_is_no_candidate() -> None:
    features, codes = layers_of(early=1.0, last=1.0)
    doubled = Features({"early": features.values["early"], "map": features.values["last"], **features.values})
    choice = choose_layers(doubled, codes, new_rng())
    assert not any("map" in layers for layers in choice.scores)


def test_the_number_of_combinations_is_bounded_and_the_choice_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    features, codes = layers_of(**{f"layer{number}": 1.0 for number in range(8)})
    with caplog.at_level(logging.INFO, logger="repurpose.meta_model.layer_choice"):
        choice = choose_layers(features, codes, new_rng())
    assert len(choice.scores) <= 15
    assert len(choice.names) <= 3
    assert f"layers {choice.names} chosen by a left-out log loss of" in caplog.text
    assert f"of {len(choice.scores)} combinations" in caplog.text


def test_the_same_seed_chooses_the_same_by_the_same_scores() -> None:
    features, codes = layers_of(n_samples=300, early=0.5, middle=1.0, last=0.8)
    assert choose_layers(features, codes, new_rng(1)) == choose_layers(features, codes, new_rng(1))


def test_one_candidate_is_taken_as_it_is() -> None:
    features, codes = layers_of(only=1.0)
    choice = choose_layers(features, codes, new_rng())
    assert (choice.names, choice.scores) == (["only"], {})


def test_where_no_class_has_two_examples_the_last_layer_is_taken_with_a_warning() -> None:
    features, _ = layers_of(n_samples=3, early=5.0, last=0.0)
    with pytest.warns(UserWarning, match="no class has two examples.*takes 'last'"):
        assert choose_layers(features, np.arange(3), new_rng()).names == ["last"]


def test_constant_huge_and_tiny_layers_do_no_harm() -> None:
    features, codes = layers_of(early=6.0, last=0.5)
    values = {
        "constant": np.ones((60, 3)),
        "huge": 1e8 * features.values["early"],
        "tiny": 1e-8 * features.values["last"],
        "last": np.zeros((60, 2)),
    }
    choice = choose_layers(Features(values), codes, new_rng())
    assert np.isfinite(list(choice.scores.values())).all()
    assert "huge" in choice.names


def test_layers_are_judged_by_examples_as_often_as_they_count() -> None:
    """Two halves of the rows are told apart by one layer each: the half that counts decides."""
    rng, codes = np.random.default_rng(0), np.arange(80) % 2
    first = np.arange(80) < 40
    signal = np.where(codes == 1, 2.0, -2.0)[:, None]
    early, late = (rng.normal(size=(80, 3)) + signal * half[:, None] for half in (first, ~first))
    features = Features({"early": early, "late": late}, codes)
    scores = [choose_layers(features, codes, new_rng(), weights).scores for weights in (first + 0.01, ~first + 0.01)]
    assert scores[0]["late",] > 2 * scores[1]["late",]
    assert choose_layers(features, codes, new_rng(), first + 0.01).names != ["late"]
    assert choose_layers(features, codes, new_rng(), ~first + 0.01).names == ["late"]


def test_equal_weights_change_no_standard_error() -> None:
    codes = np.arange(40) % 2
    rng = np.random.default_rng(0)
    features = Features({name: rng.normal(size=(40, 3)) + codes[:, None] for name in ("a", "b")})
    judge = layer_choice._Judge.of(features, codes, new_rng(), None, None)
    weighted = replace(judge, repeats=torch.ones(40, dtype=torch.float64), verdicts={})
    assert weighted.gain(("a",), ("b",)) == pytest.approx(judge.gain(("a",), ("b",)), rel=1e-9)


def test_the_loss_of_layers_is_that_of_a_weighted_process_on_them() -> None:
    rng, codes, weights = np.random.default_rng(0), np.repeat([0, 1], 20), np.random.default_rng(1).uniform(0.1, 5, 40)
    features = Features({name: rng.normal(size=(40, 3)) + codes[:, None] for name in ("a", "b")})
    judge = layer_choice._Judge.of(features, codes, new_rng(), weights, None)
    order, codes = by_content(features, codes)
    matrix, weights = features.matrix[order], weights[order]
    rows = LayerRows.fit(matrix, features.indices_per_layer, weights, unit_norm=True).transform(matrix)
    products, repeats = Products.between(rows[:1], rows[:1]), torch.from_numpy(weights)
    targets = DirichletTargets.of(OTHERS / 2)
    posterior = learn_kernel(products, [20, 20], targets, repeats, max_function_evaluations=30).posterior
    kept = torch.cat(judge.left_out)
    means, variances = posterior.leave_out(judge.left_out)
    logits = tempered_logits(means[kept], variances[kept], VARIANCE_FACTOR, 1.0)
    losses = torch.nn.functional.cross_entropy(logits, torch.from_numpy(codes)[kept], reduction="none")
    expected = float(losses @ repeats[kept] / repeats[kept].sum())
    assert judge.score(("a",)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n_samples", [30, 300])
def test_neither_the_order_of_rows_nor_the_names_of_classes_matter(n_samples: int) -> None:
    features, codes = layers_of(n_samples, early=1.0, last=0.8)
    choice = choose_layers(features, codes, new_rng())
    order = np.random.default_rng(1).permutation(n_samples)
    again = choose_layers(features[order], np.array([2, 0, 1])[codes[order]], new_rng())
    assert again.names == choice.names
    assert again.scores == pytest.approx(choice.scores, abs=1e-6)


@pytest.mark.parametrize(("n_samples", "names"), [(12, ["middle", "last"]), (30, ["middle"])])
def test_the_last_layer_leaves_at_odds_of_twenty_to_one(n_samples: int, names: list[str]) -> None:
    """The odds of layers are the ratio of the densities of all targets, here summed up by scipy."""
    features, codes = layers_of(n_samples, early=0.0, middle=8.0, last=0.0)
    middle, both = (_log_density(features.select(layers), codes) for layers in (["middle"], ["middle", "last"]))
    assert (np.exp(middle - both) > 20) == ("last" not in names)
    assert choose_layers(features, codes, new_rng()).names == names


def test_a_layer_that_makes_the_labels_less_likely_does_not_join_though_left_out_examples_gain() -> None:
    rng, codes = np.random.default_rng(49), np.arange(8) % 4
    features = Features({name: (rng.normal(size=(8, 6)) + 2 * np.eye(4, 6)[codes]).astype(np.float32) for name in "ab"})
    judge = layer_choice._Judge.of(features, codes, new_rng(), None, None)
    assert judge.gain(("a", "b"), ("b",)) > 1
    assert _log_density(features, codes) < _log_density(features.select(["b"]), codes)
    assert choose_layers(features, codes, new_rng()).names == ["b"]


def _log_density(features: Features, codes: np.ndarray) -> float:
    """Of the Dirichlet targets under the learned kernel and the mean of all classes that makes it largest."""
    order, n_classes = np.argsort(codes, kind="stable"), codes.max() + 1
    codes, targets = codes[order], DirichletTargets.of(0.01 / n_classes)
    rows = LayerRows.fit(features.matrix, features.indices_per_layer, unit_norm=True).transform(features.matrix[order])
    products = Products.between(rows, rows)
    kernel = learn_kernel(products, np.bincount(codes).tolist(), targets, max_function_evaluations=30).kernel
    own = np.arange(n_classes)[:, None] == codes
    wanted = np.where(own, targets.own, targets.other)
    noises = np.where(own, targets.own_noise, targets.other_noise)
    covariances = [kernel.matrix(products).numpy() + np.diag(noise) for noise in noises]
    inverses = np.linalg.inv(covariances)
    mean = np.full(len(codes), np.einsum("cij,cj->", inverses, wanted) / inverses.sum())  # generalised least squares
    return float(
        sum(multivariate_normal.logpdf(targets, mean, covariance) for targets, covariance in zip(wanted, covariances))
    )


def test_a_layer_that_knows_groups_alone_is_not_taken_for_one_that_knows_classes() -> None:
    fooled = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(20), 5)
        identity = 3 * rng.normal(size=(20, 8))[groups] + 0.1 * rng.normal(size=(100, 8))
        signal = groups[:, None] % 2 + 0.5 * rng.normal(size=(100, 3))
        features, codes = Features({"identity": identity, "signal": signal}), groups % 2
        assert choose_layers(features, codes, new_rng(), groups=groups).names == ["signal"]
        fooled += "identity" in choose_layers(features, codes, new_rng()).names
    assert fooled


def test_the_loss_of_a_combination_is_that_of_groups_left_out_and_errors_are_over_groups() -> None:
    features, codes = layers_of(early=1.0, last=1.0)
    groups = np.random.default_rng(1).integers(0, 14, 60)
    choice = choose_layers(features, codes, new_rng(), groups=groups)
    order, by_class = by_content(features, codes)
    matrix, sizes = features.select(["last"]).matrix[order], np.bincount(by_class).tolist()
    rows = LayerRows.fit(features.matrix[order], features.indices_per_layer, None, unit_norm=True)
    of_last = [rows.transform(features.matrix[order])[1]]
    posterior = learn_kernel(
        Products.between(of_last, of_last), sizes, DirichletTargets.of(1e-2 / 3), None, max_function_evaluations=30
    ).posterior
    assert len(matrix) == 60
    sets = deal_groups(sizes, new_rng(), groups[order])
    assert all(not set(groups[order][s]) & set(np.delete(groups[order], s)) for s in map(np.asarray, sets))
    kept = torch.cat(sets)
    means, variances = posterior.leave_out(sets)
    scale = torch.sqrt(1 + torch.pi / 8 * 0.1 * variances.mean(dim=1, keepdim=True))
    losses = torch.nn.functional.cross_entropy((means / scale)[kept], torch.from_numpy(by_class)[kept])
    assert choice.scores[("last",)] == pytest.approx(float(losses), rel=1e-6)

import logging
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from model_handler import Features
from repurpose import LrRepurposer
from repurpose.data.folds import deal_balanced_folds, order_by_content
from repurpose.data.scaling import BlockScaling
from repurpose.meta_model import lr_repurposer
from repurpose.meta_model.choice_of_c import ChoiceOfC, choose_c
from tests.repurpose.contract import RepurposerContract
from tests.repurpose.examples import blob_features, blobs, identity_network, lr, repeated
from tests.repurpose.grouped_rows import grouped_features


class TestContract(RepurposerContract):
    grid = {"c": [0.1, 1.0]}  # noqa: RUF012

    def make(self, source_model: Any, **options: Any) -> LrRepurposer:
        return LrRepurposer(source_model, ["2"], **{"c": 1.0, **options})


class TestContractWithChosenC(RepurposerContract):
    grid = {"class_weight": [None, "balanced"]}  # noqa: RUF012

    def make(self, source_model: Any, **options: Any) -> LrRepurposer:
        return LrRepurposer(source_model, ["2"], **options)


def random_features(n_samples: int, n_features: int, n_classes: int = 3, seed: int = 0) -> Features:
    rng = np.random.default_rng(seed)
    X = rng.normal(1, 1, (n_samples, n_features))
    y = np.arange(n_samples) % n_classes
    X[np.arange(n_samples), y] += 2
    return Features({"0": X}, y)


@pytest.mark.parametrize(
    ("n_samples", "n_features", "n_classes"), [(40, 300, 3), (300, 20, 4), (40, 300, 2), (30, 30, 2)]
)
def test_the_fit_equals_logistic_regression_on_scaled_features(n_samples: int, n_features: int, n_classes: int) -> None:
    features = random_features(n_samples, n_features, n_classes)
    repurposer = lr(c=0.3, tol=1e-9).repurpose(features)
    scaled = BlockScaling.fit(features.matrix, features.indices_per_layer).transform(features.matrix)
    by_hand = LogisticRegression(C=0.3, tol=1e-10, max_iter=10_000).fit(scaled, features.labels)
    assert np.allclose(repurposer.predict_probability(features), by_hand.predict_proba(scaled), rtol=0, atol=1e-6)


def test_the_head_is_a_plain_logistic_regression_of_raw_features() -> None:
    features = random_features(40, 300)
    repurposer = lr().repurpose(features)
    head = repurposer.target_model_
    assert type(head) is LogisticRegression
    assert head.coef_.shape == (3, 300)
    assert np.allclose(
        head.predict_proba(features.matrix), repurposer.predict_probability(features), rtol=0, atol=1e-12
    )
    assert repurposer.predict_probability(features).dtype == np.float64


def test_no_warning_of_any_kind_is_emitted() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lr(c="auto", n_jobs=2, class_weight="balanced", random_state=0).repurpose(random_features(60, 10))


def test_the_chosen_c_has_the_least_cross_validated_loss() -> None:
    features = random_features(90, 200)
    repurposer = lr(c="auto", random_state=0).repurpose(features)
    assert repurposer.c_ == min(repurposer.c_scores_, key=repurposer.c_scores_.__getitem__)
    test = random_features(3000, 200, seed=1)
    losses = {
        c: log_loss(test.labels, lr(c=c).repurpose(features).predict_probability(test)) for c in repurposer.c_scores_
    }
    assert losses[repurposer.c_] <= 1.05 * min(losses.values())


def test_labels_without_meaning_choose_a_strong_penalty_and_separable_ones_that_of_the_prior() -> None:
    rng = np.random.default_rng(0)
    noise = Features({"0": rng.normal(size=(100, 50))}, rng.integers(0, 2, 100))
    assert lr(c="auto", random_state=0).repurpose(noise).c_ <= 1e-2
    labels = np.arange(100) % 2
    clear = Features({"0": rng.normal(size=(100, 2)) * 0.01 + labels[:, None]}, labels)
    assert lr(c="auto", random_state=0).repurpose(clear).c_ == 1.0


def test_threads_do_not_change_the_result() -> None:
    features = blob_features()
    one, two = (lr(c="auto", random_state=0, n_jobs=n_jobs).repurpose(features) for n_jobs in (None, 2))
    assert one.c_scores_ == two.c_scores_
    assert np.array_equal(one.target_model_.coef_, two.target_model_.coef_)


def test_one_example_a_class_falls_back_to_c_of_one_and_says_so() -> None:
    X, _ = blobs()
    with pytest.warns(UserWarning, match="no class has two examples.*falls back to c=1.0"):
        repurposer = lr(c="auto").repurpose(X[:3], ["a", "b", "c"])
    assert repurposer.c_ == 1.0
    assert repurposer.predict_label(X[:3]).tolist() == ["a", "b", "c"]


def test_classes_of_one_example_beside_larger_ones_are_learned() -> None:
    X, y = blobs()
    y = y.copy()
    y[0] = 7
    repurposer = lr(c="auto", random_state=0).repurpose(X, y)
    assert repurposer.classes_.tolist() == [0, 1, 2, 7]


def test_the_choice_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="repurpose"):
        lr(c="auto", random_state=0).repurpose(blob_features())
    assert "chosen by a cross-validated log loss" in caplog.text


def test_class_weights_equal_repeated_rows() -> None:
    X, y = blobs()
    weighted = lr(class_weight={1: 3.0}, tol=1e-9).repurpose(X, y)
    repeated = np.concatenate([np.arange(60), np.repeat(np.flatnonzero(y == 1), 2)])
    scaling = BlockScaling.fit(X, {"0": np.arange(4)})
    by_hand = LogisticRegression(tol=1e-10, max_iter=10_000).fit(scaling.transform(X[repeated]), y[repeated])
    expected = by_hand.predict_proba(scaling.transform(X))
    assert np.allclose(weighted.predict_probability(X), expected, rtol=0, atol=1e-5)


def test_the_choice_of_c_gets_the_weights_the_tolerance_the_threads_and_the_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: dict[str, Any] = {}

    def choice(rows: Any, codes: Any, weights: Any, model: Any, folds: Any, **options: Any) -> ChoiceOfC:
        given.update(options, weights=weights, tol=model.tol, folds=folds)
        return ChoiceOfC(0.25, {0.25: 1.0})

    monkeypatch.setattr(lr_repurposer, "choose_c", choice)
    X, y = blobs()
    found = lr(c="auto", class_weight={0: 4.0}, tol=1e-3, n_jobs=2, random_state=5).repurpose(X, y)
    scaling = BlockScaling.fit(X, {"0": np.arange(4)})
    order, codes = order_by_content(scaling.transform(X), y)
    assert np.array_equal(given["weights"], np.where(y == 0, 4.0, 1.0)[order])
    assert (given["tol"], given["n_jobs"]) == (1e-3, 2)
    assert np.array_equal(given["folds"], deal_balanced_folds(codes, np.random.RandomState(5)))
    assert found.target_model_.C == 0.25
    assert found.target_model_.tol == pytest.approx(1e-3 / (0.25 * (20 * 4 + 40)) ** 0.5)  # rows as they weigh


def test_neither_the_order_of_rows_nor_the_names_of_classes_change_the_choice_of_c() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(24, 40)).astype(np.float32), np.arange(24) % 4
    X[:, 0] += y
    expected = lr(c="auto", random_state=0).repurpose(X, y)
    for _ in range(3):
        order, names = rng.permutation(24), rng.permutation(4)
        found = lr(c="auto", random_state=0).repurpose(X[order], names[y[order]])
        assert found.c_ == expected.c_
        losses = list(expected.c_scores_.values())
        assert list(found.c_scores_.values()) == pytest.approx(losses, abs=1e-6)
        assert np.allclose(found.predict_probability(X)[:, names], expected.predict_probability(X), rtol=0, atol=1e-9)


def test_class_weights_are_keyed_by_the_users_labels() -> None:
    X, y = blobs()
    names = np.array(["pear", "apple", "fig"])[y]
    light = lr(class_weight={"pear": 0.01}).repurpose(X, names)
    assert np.mean(light.predict_label(X) == "pear") < np.mean(lr().repurpose(X, names).predict_label(X) == "pear")
    with pytest.raises(ValueError, match=r"class_weight names classes .* 'peer' \(nearest: \['pear'\]\)"):
        lr(class_weight={"peer": 2.0}).repurpose(X, names)
    with pytest.raises(ValueError, match="gives every class the weight 0"):
        lr(class_weight=dict.fromkeys(("pear", "apple", "fig"), 0)).repurpose(X, names)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"c": 0}, 'c must be "auto" or a positive finite number, got 0'),
        ({"c": -1.0}, "c must be"),
        ({"c": np.nan}, "c must be"),
        ({"c": np.inf}, "c must be"),
        ({"c": True}, "c must be"),
        ({"c": np.logspace(-2, 0, 3)}, "c must be .* got array"),
        ({"c": "atuo"}, "got 'atuo'"),
        ({"tol": 0.0}, "tol must be a positive finite number"),
        ({"tol": "small"}, "tol must be"),
        ({"n_jobs": 0}, "n_jobs must be"),
        ({"n_jobs": 1.5}, "n_jobs must be"),
        ({"class_weight": "even"}, "class_weight must be a dict of label to weight"),
        ({"class_weight": {0: -1}}, "a class weight must be a finite number"),
    ],
)
def test_unusable_parameters_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lr(**options).repurpose(blob_features())


def test_numbers_of_numpy_serve_as_parameters() -> None:
    assert lr(c=np.float32(0.5), tol=np.float64(1e-4), n_jobs=np.int64(1)).repurpose(blob_features()).c_ == 0.5


def test_failure_to_converge_is_said_as_scikit_learn_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lr_repurposer, "_MAX_ITER", 1)
    with pytest.warns(ConvergenceWarning):
        lr().repurpose(blob_features())


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1.0, 1e8, 1e30])
def test_the_scale_and_offset_of_features_do_not_matter(scale: float) -> None:
    X, y = blobs()
    expected = lr(c="auto", random_state=0).repurpose(X, y)
    scaled = lr(c="auto", random_state=0).repurpose(Features({"0": X * np.float32(scale)}, y))
    assert scaled.c_ == expected.c_
    probabilities = scaled.predict_probability(Features({"0": X * np.float32(scale)}))
    assert np.allclose(probabilities, expected.predict_probability(X), rtol=0, atol=1e-3)


def test_constant_features_give_the_frequencies_of_the_classes() -> None:
    features = Features({"0": np.full((10, 3), 0.1)}, [0] * 7 + [1] * 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        repurposer = lr(c="auto", random_state=0).repurpose(features)
    assert np.allclose(repurposer.predict_probability(features), [[0.7, 0.3]] * 10, rtol=0, atol=1e-3)
    assert repurposer.c_ == 1.0  # the most likely value, where nothing speaks against it


def test_a_constant_layer_beside_a_telling_one_does_no_harm() -> None:
    X, y = blobs()
    with_constant = Features({"0": X, "1": np.full((60, 2), 7.0)}, y)
    alone = LrRepurposer(identity_network(), ["0"], c=1.0).repurpose(with_constant)
    both = LrRepurposer(identity_network(), ["0", "1"], c=1.0).repurpose(with_constant)
    assert np.allclose(
        alone.predict_probability(with_constant), both.predict_probability(with_constant), rtol=0, atol=1e-4
    )


def test_layers_of_different_scale_count_alike() -> None:
    X, y = blobs(n_features=6)
    even = Features({"0": X[:, :3], "1": X[:, 3:]}, y)
    uneven = Features({"0": X[:, :3] * 1000, "1": X[:, 3:] / 1000}, y)
    first, second = (
        LrRepurposer(identity_network(), ["0", "1"], c=0.01, tol=1e-9).repurpose(features).predict_probability(features)
        for features in (even, uneven)
    )
    assert np.allclose(first, second, rtol=0, atol=1e-6)


def test_two_examples_of_many_classes_are_no_reason_to_warn() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(12), 2)
    features = Features({"0": rng.normal(size=(24, 8)) + labels[:, None]}, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lr(c="auto", random_state=0).repurpose(features[:23]).classes_.tolist() == list(range(12))


def test_scores_of_an_earlier_search_do_not_outlive_it() -> None:
    features = blob_features()
    repurposer = lr(c="auto", random_state=0).repurpose(features)
    assert repurposer.c_scores_
    assert not hasattr(repurposer.set_params(c=0.5).repurpose(features), "c_scores_")


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 3.0}])
def test_rows_that_count_several_times_are_as_good_as_repeated(class_weight: Any) -> None:
    X, y, weights, again = repeated()
    weighted, expected = (lr(class_weight=class_weight, tol=1e-9) for _ in range(2))
    weighted.fit(X, y, sample_weight=weights)
    expected.fit(X[again], y[again])
    np.testing.assert_allclose(weighted.predict_proba(X), expected.predict_proba(X), rtol=1e-6, atol=1e-9)
    once = lr(class_weight=class_weight, tol=1e-9).fit(X, y)
    assert not np.allclose(weighted.predict_proba(X), once.predict_proba(X), atol=1e-2)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_weights_of_any_size_are_those_of_scikit_learn_on_scaled_rows(n_classes: int) -> None:
    X, y = blobs(n_classes=n_classes)
    weights = np.random.default_rng(0).uniform(0.1, 5, size=60)
    counts = np.maximum(weights, 1)
    centred = X - np.average(X.astype(np.float64), axis=0, weights=counts)
    rows = 16 * centred / np.sqrt(np.average((centred**2).sum(axis=1), weights=counts))
    of_classes = {c: weights.sum() / (n_classes * weights[y == c].sum()) for c in range(n_classes)}
    for class_weight, of_rows in ((None, 1.0), ("balanced", np.array([of_classes[c] for c in y]))):
        theirs = LogisticRegression(C=0.01, solver="newton-cholesky", tol=1e-12)
        expected = theirs.fit(rows, y, sample_weight=weights * of_rows).predict_proba(rows)
        ours = lr(c=0.01, tol=1e-9, class_weight=class_weight).fit(X, y, sample_weight=weights)
        np.testing.assert_allclose(ours.predict_proba(X), expected, rtol=1e-5, atol=1e-8)


def test_the_choice_of_c_counts_rows_by_their_weights() -> None:
    X, y = blobs()
    weights = np.random.default_rng(0).uniform(0.1, 5, size=60)
    repurposer = LrRepurposer(identity_network(), ["0"], random_state=0).fit(X, y, sample_weight=weights)
    scaling = BlockScaling.fit(X, {"0": np.arange(4)}, weights)
    order, codes = order_by_content(scaling.transform(X), y, weights)
    model, folds = LogisticRegression(tol=1e-5, max_iter=5000), deal_balanced_folds(codes, np.random.RandomState(0))
    expected = choose_c(scaling.transform(X)[order], codes, weights[order], model, folds, n_jobs=None)
    assert repurposer.c_scores_ == expected.scores
    assert repurposer.c_scores_ != LrRepurposer(identity_network(), ["0"], random_state=0).fit(X, y).c_scores_


def test_c_is_chosen_by_folds_that_hold_out_whole_groups() -> None:
    features, groups = grouped_features()
    found = lr(c="auto", random_state=0).repurpose(features, groups=[f"patient {group}" for group in groups])
    scaling = BlockScaling.fit(features.matrix, {"0": np.arange(6)}, None)
    order, codes = order_by_content(scaling.transform(features.matrix), features.labels)
    rows, of_row = scaling.transform(features.matrix)[order].astype(np.float64), groups[order]
    folds = deal_balanced_folds(codes, np.random.RandomState(0), of_row)
    losses = {}
    for c in found.c_scores_:
        held_out = np.empty(len(rows))
        for fold in range(folds.max() + 1):
            out = np.isin(of_row, of_row[folds == fold])
            theirs = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-12).fit(rows[~out], codes[~out])
            held_out[out] = theirs.predict_log_proba(rows[out])[np.arange(out.sum()), codes[out]]
        losses[c] = -held_out.mean()
    np.testing.assert_allclose([*found.c_scores_.values()], [*losses.values()], rtol=1e-2)
    assert found.c_ == min(losses, key=lambda c: 96 * losses[c] + np.log(c) ** 2 / 2)


def test_without_groups_the_choice_of_c_promises_what_does_not_come() -> None:
    too_good = []  # by how much the promised log loss is below that of new groups: with groups, and without
    for seed in range(4):
        features, groups = grouped_features(seed, n_groups=10, per_group=4)
        new, _ = grouped_features(seed + 100, n_groups=40, per_group=1)
        found = [lr(c="auto", tol=1e-3, random_state=0).repurpose(features, groups=given) for given in (groups, None)]
        assert found[0].c_ <= found[1].c_
        too_good.append([log_loss(new.labels, each.predict_proba(new)) - each.c_scores_[each.c_] for each in found])
    less = np.diff(too_good)[:, 0]
    assert less.mean() > 2 * less.std(ddof=1) / 4**0.5


def test_groups_that_cannot_be_held_out_leave_c_at_one_and_are_named() -> None:
    X, _ = blobs()
    with (
        pytest.warns(UserWarning, match="every group has all examples of a class, so that C cannot be chosen"),
        pytest.warns(UserWarning, match="all rows of 'a', 'b', 'c' are of one group"),
    ):
        found = lr(c="auto").repurpose(X[:6], list("aabbcc"), groups=[1, 1, 2, 2, 3, 3])
    assert found.c_ == 1.0

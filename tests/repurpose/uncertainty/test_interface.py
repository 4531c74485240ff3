import re
import warnings
from typing import Any

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

from model_handler import Features, ModelHandler
from repurpose import load
from repurpose.uncertainty.calibration import fit_calibration
from repurpose.uncertainty.unfamiliarity import DETECTORS
from tests.repurpose.examples import (
    CentroidRepurposer,
    DrawingRepurposer,
    KnnRepurposer,
    blob_features,
    blobs,
    identity_network,
    lr,
    small_network,
)

METHODS = ["mixed_mahalanobis", "mahalanobis", "relative_mahalanobis", "knn", "energy"]


def knn(**options: Any) -> KnnRepurposer:
    return KnnRepurposer(identity_network(), ["0"], **{"random_state": 0, **options})


def drawing(**options: Any) -> DrawingRepurposer:
    return DrawingRepurposer(identity_network(), ["0"], **{"c": 1.0, "random_state": 0, **options})


def split(n_train: int, n_new: int, seed: int, n_features: int = 4, spread: float = 1.5) -> tuple[Features, Features]:
    """Training rows and fresh rows of three overlapping classes, whose means are the same for every seed."""
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(99).normal(size=(3, n_features)) * spread
    codes = rng.integers(0, 3, n_train + n_new)
    codes[:6] = [0, 1, 2] * 2
    rows = rng.normal(size=(len(codes), n_features)) + means[codes]
    features = Features({"0": rows}, codes)
    return features[:n_train], features[n_train:]


def found(sets: Any, labels: Any) -> float:
    return float(np.mean([label in set_ for set_, label in zip(sets, labels)]))


def test_abstention_gives_none_for_text_and_numbers_alike() -> None:
    X, y = blobs()
    for labels in (y, np.array(["pear", "apple", "fig"])[y], y == 0):
        repurposer = lr().repurpose(X, labels)
        certain = repurposer.predict_probability(X).max(axis=1) >= 0.8
        answers = repurposer.predict_label(X, abstain_below=0.8)
        assert answers.dtype == object
        assert 0 < certain.sum() < 60
        assert [answer is None for answer in answers] == (~certain).tolist()
        assert answers[certain].tolist() == repurposer.predict_label(X)[certain].tolist()
        assert None not in repurposer.predict_label(X, abstain_below=0)
    for wrong in (1.5, -0.1, "often", True, np.nan):
        with pytest.raises(ValueError, match="abstain_below is a probability"):
            repurposer.predict_label(X, abstain_below=wrong)


def test_uncertainty_of_a_head_with_draws_is_decomposed() -> None:
    repurposer = drawing().repurpose(blob_features())
    rows = blob_features(seed=1)
    uncertainty = repurposer.predict_uncertainty(rows, n_draws=150)
    draws = repurposer.predict_samples(rows, 150)
    assert draws.shape == (150, 60, 3)
    assert np.allclose(draws.sum(axis=2), 1, rtol=0, atol=1e-6)
    assert np.allclose(uncertainty.total, entropy(draws.mean(axis=0), axis=1), rtol=0, atol=1e-9)
    assert np.allclose(uncertainty.aleatoric, entropy(draws, axis=2).mean(axis=0), rtol=0, atol=1e-9)
    assert np.abs(uncertainty.total - uncertainty.aleatoric - uncertainty.epistemic).max() < 1e-9
    assert np.allclose(uncertainty.variance, repurposer.unfamiliarity(rows, "variance"))
    assert np.array_equal(uncertainty.unfamiliarity, repurposer.unfamiliarity(rows))


def test_draws_are_as_many_as_asked_and_come_from_the_seed() -> None:
    X, y = blobs()
    repurposer = drawing(width=1.0).repurpose(X, y)
    samples = repurposer.predict_samples(X, 5)
    assert np.allclose(repurposer.predict_uncertainty(X, n_draws=5).total, entropy(samples.mean(axis=0), axis=1))
    evaluated = repurposer.evaluate((X, y), coverage=None, n_bootstrap=20).intervals["log_loss"]
    repurposer.set_params(random_state=1)
    assert not np.array_equal(repurposer.predict_samples(X, 5), samples)
    assert repurposer.evaluate((X, y), coverage=None, n_bootstrap=20).intervals["log_loss"] != evaluated


def test_draws_do_not_depend_on_how_many_rows_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    repurposer = drawing().repurpose(blob_features())
    expected = repurposer.predict_samples(blob_features(), 20)
    monkeypatch.setattr("repurpose.uncertainty.head._MAX_ELEMENTS", 500)
    assert np.allclose(repurposer.predict_samples(blob_features(), 20), expected, rtol=0, atol=1e-12)
    assert np.allclose(repurposer.predict_samples(blob_features()[7:9], 20), expected[:, 7:9], rtol=0, atol=1e-12)


def test_what_a_head_cannot_know_is_none_or_an_error_that_names_the_hook() -> None:
    features = blob_features()
    of_knn = knn().repurpose(features).predict_uncertainty(features)
    assert np.allclose(of_knn.total, entropy(knn().repurpose(features).predict_probability(features), axis=1))
    assert (of_knn.aleatoric, of_knn.epistemic, of_knn.variance) == (None, None, None)
    centroids = CentroidRepurposer(identity_network(), ["0"]).repurpose(features)
    uncertainty = centroids.predict_uncertainty(features)
    assert uncertainty.total is None
    assert uncertainty.unfamiliarity is not None
    for call, hook in (
        (lambda: knn().repurpose(features).predict_samples(features, 3), "_predict_samples_from_features.*Bnn"),
        (lambda: knn().repurpose(features).unfamiliarity(features, "variance"), "_predict_variance_from_features"),
        (lambda: centroids.predict_set(features), "_predict_probability_from_features"),
        (lambda: centroids.calibrate(), "_predict_probability_from_features"),
        (lambda: centroids.predict_label(features, abstain_below=0.5), "_predict_probability_from_features"),
        (lambda: centroids.unfamiliarity_p_value(features, "energy"), "_predict_probability_from_features"),
    ):
        with pytest.raises(NotImplementedError, match=f"must define {hook}"):
            call()
    evaluation = centroids.evaluate(features, blob_features(seed=3), n_bootstrap=5)
    assert evaluation.log_loss is None
    assert evaluation.set_size is None
    assert evaluation.auroc is not None


def test_what_new_hooks_return_is_checked() -> None:
    class Wrong(DrawingRepurposer):
        def _predict_samples_from_features(self, features: Any, *args: Any) -> Any:
            return np.ones((len(features), 3))

        def _predict_variance_from_features(self, features: Any) -> Any:
            return np.full(len(features), -1.0)

    repurposer = Wrong(identity_network(), ["0"], c=1.0).repurpose(blob_features())
    with pytest.raises(ValueError, match=r"Wrong\._predict_samples_from_features must return .*\(5, 60, 3\), got"):
        repurposer.predict_samples(blob_features(), 5)
    with pytest.raises(ValueError, match=r"Wrong\._predict_variance_from_features must return a finite number"):
        repurposer.unfamiliarity(blob_features(), "variance")


@pytest.mark.parametrize("score", ["lac", "aps", "raps"])
def test_sets_from_training_rows_and_from_given_rows_keep_their_promise(score: str) -> None:
    crossed, judged = [], []
    for seed in range(12):
        train, new = split(60, 500, seed)
        repurposer = lr(random_state=seed).repurpose(train)
        crossed.append(found(repurposer.predict_set(new[:250], score=score, allow_empty=True), new.labels[:250]))
        repurposer.conformalize(new[250:])
        judged.append(found(repurposer.predict_set(new[:250], score=score, allow_empty=True), new.labels[:250]))
    # promised are .9 for rows given (and at most 1/251 more), and .8 at the least for training rows
    assert np.mean(judged) == pytest.approx(0.902, abs=4 * np.std(judged) / 12**0.5)
    assert np.mean(crossed) > 0.87
    assert min(crossed) > 0.8


def test_a_coverage_can_be_asked_for_each_time_and_sets_grow_with_it() -> None:
    train, new = split(90, 200, 0)
    repurposer = lr(random_state=0).repurpose(train)
    sizes = [repurposer.predict_set(new, coverage, allow_empty=True).sizes for coverage in (0.5, 0.8, 0.95)]
    assert (sizes[0] <= sizes[1]).all()
    assert (sizes[1] <= sizes[2]).all()
    assert sizes[0].min() == 0
    never_empty = repurposer.predict_set(new, 0.5)
    assert never_empty.sizes.min() == 1
    alone = [labels[0] for labels, size in zip(never_empty, sizes[0]) if size == 0]
    assert alone == repurposer.predict_label(new)[sizes[0] == 0].tolist()


def test_sets_hold_the_users_labels() -> None:
    X, y = blobs()
    names = np.array(["pear", "apple", "fig"])[y]
    sets = lr(random_state=0).repurpose(X, names).predict_set(X, 0.8)
    assert {label for labels in sets for label in labels} <= set(names)
    assert found(sets, names) > 0.7


def test_too_few_rows_for_a_coverage_give_every_class_and_say_so() -> None:
    repurposer = lr(random_state=0).repurpose(blob_features(n_samples=12))
    with pytest.warns(UserWarning, match="a coverage of 0.95 needs at least 19 rows to judge by, and there are 12"):
        assert (repurposer.predict_set(blob_features(), 0.95).sizes == 3).all()


@pytest.mark.parametrize("coverage", [0, 1, -0.5, 90, np.nan, "most", None, True])
def test_a_coverage_outside_zero_and_one_is_refused(coverage: Any) -> None:
    repurposer = lr().repurpose(blob_features())
    hint = "for 90 % write 0.9" if coverage == 90 else ""
    with pytest.raises(ValueError, match=f"coverage must be above 0 and below 1, such as 0.9.*{hint}"):
        repurposer.predict_set(blob_features(), coverage)


def test_unknown_choices_come_with_the_nearest() -> None:
    repurposer = lr(random_state=0).repurpose(blob_features())
    features = blob_features()
    for call, message in (
        (
            lambda: repurposer.predict_set(features, score="apps"),
            "score must be one of 'lac', 'aps', 'raps', got 'apps'",
        ),
        (lambda: repurposer.unfamiliarity(features, "mahalanobi"), "got 'mahalanobi' (nearest: ['mahalanobis'"),
        (lambda: repurposer.unfamiliarity_p_value(features, "kn"), "got 'kn' (nearest: ['knn'"),
        (lambda: repurposer.calibrate(method="temperatur"), "got 'temperatur' (nearest: ['temperature']"),
        (lambda: repurposer.evaluate(features, score="x"), "score must be one of"),
        (lambda: repurposer.evaluate(features, method="x"), "method must be one of"),
        (lambda: repurposer.unfamiliarity(features, np.array(["knn", "energy"])), "method must be one of"),
        (
            lambda: repurposer.evaluate(features, n_bootstrap=0),
            "n_bootstrap must be a whole number of at least 1, got 0",
        ),
        (lambda: drawing().repurpose(features).predict_samples(features, 0), "n must be a whole number"),
        (lambda: repurposer.predict_uncertainty(features, 1.5), "n_draws must be a whole number"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            call()


def test_before_repurposing_every_question_says_what_to_call() -> None:
    repurposer, features = drawing(), blob_features()
    for call in (
        lambda: repurposer.predict_uncertainty(features),
        lambda: repurposer.predict_samples(features, 3),
        lambda: repurposer.predict_set(features),
        lambda: repurposer.unfamiliarity(features),
        lambda: repurposer.unfamiliarity_p_value(features),
        lambda: repurposer.calibrate(),
        lambda: repurposer.conformalize(features),
        lambda: repurposer.evaluate(features),
        lambda: repurposer.predict_label(features, abstain_below=0.5),
    ):
        with pytest.raises(NotFittedError, match=r"call repurpose\(data\) first"):
            call()


@pytest.fixture(scope="module", params=[4, 200], ids=lambda n_features: f"{n_features} features")
def sixteen(request: pytest.FixtureRequest) -> list[tuple[Any, Features]]:
    """Repurposers of as many seeds, each with fresh rows."""
    splits = [split(299, 1199, seed, request.param, spread=0.5) for seed in range(16)]
    return [(lr(random_state=seed).repurpose(train), new) for seed, (train, new) in enumerate(splits)]


@pytest.mark.parametrize("method", METHODS)
def test_about_one_in_a_hundred_fresh_rows_has_a_p_value_of_at_most_one_percent(
    method: str, sixteen: list[tuple[Any, Features]]
) -> None:
    crossed, judged = [], []
    for repurposer, new in sixteen:
        crossed.append(repurposer.unfamiliarity_p_value(new[:600], method))
        judged.append(repurposer.conformalize(new[600:]).unfamiliarity_p_value(new[:600], method))
        repurposer.conformalize(None)
    # With 599 rows given, the share of a seed varies by .0041: four times that over the root of 16 seeds is the margin.
    # With 299 training rows the share of a seed varies by .0057, and 60 seeds gave means of .0045 to .0117.
    assert np.mean(np.array(judged) <= 0.01) == pytest.approx(0.01, abs=0.0041)
    assert 0.002 < np.mean(np.array(crossed) <= 0.01) < 0.018
    assert np.mean(crossed) == pytest.approx(0.5, abs=0.05)
    assert np.mean(judged) == pytest.approx(0.5, abs=0.05)


def test_in_sample_scores_would_find_most_fresh_rows_strange() -> None:
    train, new = split(60, 300, 0, n_features=200)
    repurposer = lr(random_state=0).repurpose(train)
    assert np.mean(repurposer.unfamiliarity(new) > repurposer.unfamiliarity(train).max()) > 2 / 3
    assert np.mean(repurposer.unfamiliarity_p_value(new) <= 0.05) < 0.15


def test_p_values_of_strange_rows_are_small_and_those_of_the_variance_exist_too() -> None:
    train, _ = split(150, 10, 0)
    strange = Features({"0": np.random.default_rng(0).normal(size=(20, 4)) * 30})
    repurposer = drawing().repurpose(train)
    for method in ("mixed_mahalanobis", "mahalanobis", "variance"):
        assert repurposer.unfamiliarity_p_value(strange, method).max() < 0.05


def test_calibration_changes_probabilities_everywhere_and_replaces_the_one_before() -> None:
    train, new = split(200, 400, 0)
    for make in (lr, knn, drawing):
        repurposer = make(random_state=0).repurpose(train)
        raw, labels = repurposer.predict_probability(new), repurposer.predict_label(new)
        assert repurposer.calibrate(new[:200]) is repurposer
        temperature = repurposer.calibration_.temperature
        expected = np.maximum(raw.astype(float), np.finfo(float).eps) ** (1 / temperature)
        expected /= expected.sum(axis=1, keepdims=True)
        assert np.allclose(repurposer.predict_probability(new), expected, rtol=0, atol=1e-9)
        assert np.array_equal(repurposer.predict_label(new), labels)
        evaluation = repurposer.evaluate(new, coverage=None, n_bootstrap=2)
        by_hand = -np.log(np.maximum(expected[np.arange(400), new.labels], np.finfo(float).eps)).mean()
        assert evaluation.log_loss == pytest.approx(by_hand)
        assert np.allclose(repurposer.predict_set(new).probabilities, expected, rtol=0, atol=1e-9)
        again = repurposer.calibrate(new[:200]).predict_probability(new)
        assert np.allclose(again, expected, rtol=0, atol=1e-9)
        assert np.array_equal(repurposer.repurpose(train).predict_probability(new), raw)


def test_draws_are_calibrated_with_the_probabilities() -> None:
    train, new = split(100, 200, 0)
    repurposer = drawing(width=1e-9, c=10.0).repurpose(train).calibrate(new)
    draws = repurposer.predict_samples(new, 3)
    assert np.allclose(draws, repurposer.predict_probability(new), rtol=0, atol=1e-6)


def test_vector_scaling_agrees_with_itself_where_it_changes_labels() -> None:
    train, new = split(60, 400, 0, spread=0.3)
    repurposer = lr(random_state=0).repurpose(train)
    labels = repurposer.predict_label(new)
    shifted = new[np.flatnonzero((new.labels != 0) | (np.arange(400) % 8 == 0))]  # few rows of class 0
    repurposer.calibrate(shifted, method="vector")
    now = repurposer.predict_label(new)
    assert not np.array_equal(now, labels)
    assert np.array_equal(now, repurposer.classes_[repurposer.predict_probability(new).argmax(axis=1)])
    assert repurposer.score(new) == np.mean(now == new.labels)


def test_calibration_without_data_uses_rows_out_of_their_folds() -> None:
    train, _ = split(120, 1, 0)
    repurposer = knn(n_neighbors=3).repurpose(train).calibrate()
    folds = repurposer.folds_
    raw = np.empty((120, 3))
    for fold in range(5):
        head = knn(n_neighbors=3).repurpose(train[np.flatnonzero(folds != fold)])
        raw[folds == fold] = head.predict_probability(train[np.flatnonzero(folds == fold)])
    loss_now, *others = (
        -np.log(repurposer.calibration_.__class__(np.full(3, 1 / t), np.zeros(3)).apply(raw))[
            np.arange(120), train.labels
        ].sum()
        + np.log(t) ** 2 / (2 * 0.2**2)
        for t in repurposer.calibration_.temperature * np.array([1, 0.95, 1.05])
    )
    assert repurposer.calibration_.temperature > 1.5
    assert loss_now < min(others)


def test_labels_never_seen_and_absent_classes_are_named() -> None:
    X, y = blobs()
    names = np.array(["pear", "apple", "fig"])[y]
    repurposer = lr(random_state=0).repurpose(X, names)
    strange = names.copy()
    strange[:2] = "pea"
    for call, purpose in (
        (repurposer.calibrate, "calibrate"),
        (repurposer.conformalize, "conformalize"),
        (lambda X, y: repurposer.evaluate(X, y=y), "evaluate"),
    ):
        with pytest.raises(ValueError, match=rf"{purpose} was given labels .* 'pea' \(2 rows; nearest: \['pear'"):
            call(X, strange)
        with pytest.raises(ValueError, match=f"{purpose} needs the true labels"):
            call(X, None)
    with pytest.raises(ValueError, match="or as unfamiliar="):
        repurposer.evaluate(X, y=strange)
    rows = names != "fig"
    with pytest.raises(ValueError, match="\"vector\" needs rows of every class, and there are none of 'fig'"):
        repurposer.calibrate(X[rows], names[rows], method="vector")
    with pytest.warns(UserWarning, match="no row of 'fig' among"):
        repurposer.conformalize(X[rows], names[rows])
    assert not hasattr(repurposer, "calibration_")
    assert repurposer.predict_set(X).sizes.min() >= 1


def test_labels_of_another_type_and_labels_in_the_place_of_inputs_are_told() -> None:
    X, y = blobs()
    repurposer = lr(random_state=0).repurpose(X, y)
    with pytest.raises(ValueError, match=r"'2' \(\d+ rows; nearest: \[2\]\)"):
        repurposer.conformalize(X, y.astype(str))
    with pytest.raises(ValueError, match="got one axis of 60 values; if these are the true labels, give them as y="):
        repurposer.evaluate(X, y)
    with pytest.raises(ValueError, match="evaluate needs the true labels: give data with labels, or y=labels"):
        repurposer.evaluate(X)


def test_rows_given_can_be_taken_back() -> None:
    train, new = split(60, 100, 0)
    repurposer = lr(random_state=0).repurpose(train)
    before = repurposer.predict_set(new).members
    repurposer.conformalize(new).conformalize(None)
    assert np.array_equal(repurposer.predict_set(new).members, before)


def test_one_example_of_each_class_can_be_judged_by_given_rows_only() -> None:
    train, new = split(60, 100, 0)
    repurposer = lr(random_state=0).repurpose(train[:3])
    assert np.isfinite(repurposer.unfamiliarity(new)).all()
    for call in (repurposer.predict_set, repurposer.unfamiliarity_p_value, lambda _: repurposer.calibrate()):
        with pytest.raises(ValueError, match=r"no class has two training examples.*give labelled rows"):
            call(new)
    assert repurposer.evaluate(new, n_bootstrap=3).set_size is None
    repurposer.conformalize(new[:50]).calibrate(new[:50])
    assert found(repurposer.predict_set(new[50:]), new.labels[50:]) > 0.7


def test_a_class_of_one_example_beside_larger_ones_is_never_held_out() -> None:
    train, new = split(60, 100, 0)
    labels = train.labels.copy()
    labels[0] = 7
    repurposer = lr(random_state=0).repurpose(Features(train.values, labels))
    assert repurposer.predict_set(new).members.shape == (100, 4)
    assert repurposer.folds_.tolist().index(-1) == 0
    assert np.isfinite(repurposer.unfamiliarity_p_value(new)).all()


@pytest.mark.filterwarnings("ignore:The number of unique classes")  # by the nearest neighbours of scikit-learn
def test_a_thousand_classes_of_two_examples_work() -> None:
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(1000), 2)
    means = rng.normal(size=(1000, 30))
    train = Features({"0": means[codes] + 0.3 * rng.normal(size=(2000, 30))}, codes)
    new = Features({"0": means + 0.3 * rng.normal(size=(1000, 30))}, np.arange(1000))
    repurposer = knn(n_neighbors=1).repurpose(train)
    for method in ("mixed_mahalanobis", "relative_mahalanobis", "knn"):
        p_values = repurposer.unfamiliarity_p_value(new, method)
        assert np.mean(p_values) > 0.3  # a class of two has one example left, so that out of fold is stranger
        assert np.isfinite(repurposer.unfamiliarity(new, method)).all()
    sets = repurposer.predict_set(new, 0.9)
    assert found(sets, new.labels) > 0.85
    evaluation = repurposer.calibrate().evaluate(new, n_bootstrap=3)
    assert np.isfinite(evaluation.log_loss)
    assert np.allclose(repurposer.predict_probability(new).sum(axis=1), 1, rtol=0, atol=1e-6)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_constant_duplicated_and_identical_rows_give_numbers(n_classes: int) -> None:
    X, y = blobs(n_classes=n_classes)
    for rows in (np.full_like(X, 0.1), np.hstack([X, X, X[:, :1] * 0]), np.repeat(X[:1], 60, axis=0), X[:, :1]):
        features = Features({"0": rows}, y)
        repurposer = lr(random_state=0).repurpose(features).calibrate()
        for method in METHODS:
            assert np.isfinite(repurposer.unfamiliarity(features, method)).all()
            assert (repurposer.unfamiliarity_p_value(features, method) > 0).all()
        evaluation = repurposer.evaluate(features, features, n_bootstrap=3)
        assert all(value is not None for value in vars(evaluation).values())
        assert np.allclose(repurposer.predict_probability(features).sum(axis=1), 1, rtol=0, atol=1e-6)


def test_nan_names_the_layer_and_the_rows() -> None:
    features = blob_features()
    bad = Features({"0": np.where(np.arange(60)[:, None] == 3, np.nan, features.matrix)}, features.labels)
    repurposer = lr().repurpose(features)
    for call in (
        repurposer.predict_uncertainty,
        repurposer.predict_set,
        repurposer.unfamiliarity,
        repurposer.unfamiliarity_p_value,
        repurposer.calibrate,
        repurposer.conformalize,
        repurposer.evaluate,
        lambda data: repurposer.evaluate(features, data),
    ):
        with pytest.raises(ValueError, match=r"layer '0' gives NaN in 1 of 60 rows \(row 3\)"):
            call(bad)


def test_each_question_runs_the_network_once(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = blobs()
    repurposer = DrawingRepurposer(small_network(), ["2"], c=1.0, random_state=0).repurpose(X, y)
    calls: list[int] = []
    extract = ModelHandler.extract
    monkeypatch.setattr(ModelHandler, "extract", lambda *args, **options: calls.append(1) or extract(*args, **options))
    for question in (
        lambda: repurposer.predict_uncertainty(X),
        lambda: repurposer.predict_samples(X, 3),
        lambda: repurposer.predict_set(X),
        lambda: repurposer.predict_label(X, abstain_below=0.5),
        lambda: repurposer.unfamiliarity_p_value(X),
        lambda: repurposer.calibrate(X, y),
        lambda: repurposer.conformalize(X, y),
        lambda: repurposer.evaluate((X, y), n_bootstrap=2),
    ):
        calls.clear()
        question()
        assert calls == [1]
    calls.clear()
    repurposer.calibrate()
    assert calls == []


def test_heads_of_the_folds_are_trained_once_and_never_again_after_loading(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, new = split(60, 100, 0)
    for make in (lr, knn, drawing):
        repurposer = make(random_state=0).repurpose(train)
        trained: list[int] = []
        train_head = type(repurposer)._train_model_from_features
        monkeypatch.setattr(
            type(repurposer),
            "_train_model_from_features",
            lambda *args, train_head=train_head, trained=trained: trained.append(1) or train_head(*args),
        )
        expected = repurposer.predict_set(new).members
        assert len(trained) == 5
        repurposer.calibrate().conformalize(new[:50])
        repurposer.save_repurposer(tmp_path / make.__name__)
        loaded = load(tmp_path / make.__name__, source_model=identity_network())
        for method in METHODS:
            assert np.array_equal(loaded.unfamiliarity(new, method), repurposer.unfamiliarity(new, method))
            p_values = loaded.unfamiliarity_p_value(new, method)
            assert np.array_equal(p_values, repurposer.unfamiliarity_p_value(new, method))
        assert np.array_equal(loaded.predict_probability(new), repurposer.predict_probability(new))
        assert np.array_equal(loaded.predict_set(new).members, repurposer.predict_set(new).members)
        assert loaded.evaluate(new, n_bootstrap=2).intervals == repurposer.evaluate(new, n_bootstrap=2).intervals
        loaded.conformalize(None)
        del loaded.calibration_
        assert np.array_equal(loaded.predict_set(new).members, expected)
        assert len(trained) == 5


def test_the_same_seed_gives_the_same_folds_and_a_generator_is_not_moved_on() -> None:
    train, new = split(60, 100, 0)
    first, second = (lr(random_state=3).repurpose(train).unfamiliarity_p_value(new) for _ in range(2))
    assert np.array_equal(first, second)
    rng = np.random.RandomState(0)
    repurposer = lr(random_state=rng).repurpose(train)
    before = rng.get_state()[1].copy()
    repurposer.predict_set(new)
    assert np.array_equal(rng.get_state()[1], before)


def test_training_features_may_be_deleted_and_what_needs_them_says_so() -> None:
    train, new = split(60, 100, 0)
    repurposer = lr(random_state=0).repurpose(train)
    del repurposer.training_features_
    assert repurposer.predict_uncertainty(new).unfamiliarity is None
    for call in (repurposer.unfamiliarity, repurposer.predict_set, repurposer.unfamiliarity_p_value):
        with pytest.raises(ValueError, match=r"has no training_features_, which this needs.*call repurpose again"):
            call(new)
    repurposer.conformalize(new)
    assert repurposer.predict_set(new).sizes.min() >= 1


def test_a_failed_question_about_folds_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    train, new = split(60, 100, 0)
    repurposer = lr(random_state=0).repurpose(train)

    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(repurposer), "_train_model_from_features", interrupted)
        with pytest.raises(KeyboardInterrupt):
            repurposer.predict_set(new)
    assert not hasattr(repurposer, "fold_heads_")
    assert found(repurposer.predict_set(new), new.labels) > 0.8


def test_detectors_are_made_anew_after_training_again() -> None:
    train, new = split(60, 100, 0)
    repurposer = lr(random_state=0).repurpose(train)
    first = repurposer.unfamiliarity(new)
    other = Features({"0": train.matrix + 3}, train.labels)
    assert not np.allclose(repurposer.repurpose(other).unfamiliarity(new), first)
    assert "_cached_detectors" not in repurposer.__getstate__()


def test_an_evaluation_measures_the_sets_and_the_unfamiliarity_that_were_asked_for() -> None:
    train, new = split(60, 100, 0)
    strange = Features({"0": np.random.default_rng(0).normal(size=(40, 4)) * 2})
    repurposer = lr(random_state=0).repurpose(train)
    found = repurposer.evaluate(new, strange, coverage=0.6, score="raps", method="knn", n_bootstrap=2)
    sets = repurposer.predict_set(new, 0.6, "raps", allow_empty=True)
    assert found.set_size == pytest.approx(sets.sizes.mean())
    assert found.set_coverage == pytest.approx(sets.members[np.arange(100), new.labels].mean())
    distances = [repurposer.unfamiliarity(rows, "knn") for rows in (new, strange)]
    assert found.auroc == pytest.approx(roc_auc_score(np.repeat([0, 1], [100, 40]), np.concatenate(distances)))


def test_evaluation_of_everything_at_once() -> None:
    train, new = split(100, 300, 0)
    strange = Features({"0": np.random.default_rng(0).normal(size=(50, 4)) * 20})
    repurposer = lr(random_state=0).repurpose(train)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluation = repurposer.evaluate(new, strange, n_bootstrap=50)
    assert evaluation.accuracy == repurposer.score(new)
    sets = repurposer.predict_set(new, allow_empty=True)
    assert evaluation.set_coverage == pytest.approx(found(sets, new.labels))
    assert evaluation.set_size == sets.sizes.mean()
    assert evaluation.auroc > 0.9
    assert (evaluation.n_samples, evaluation.n_unfamiliar, evaluation.wanted_coverage) == (300, 50, 0.9)


def test_sets_of_digits_keep_their_promise_over_200_splits() -> None:
    X, y = load_digits(return_X_y=True)
    features = Features({"0": X}, y)
    rows = np.random.default_rng(0).permutation(len(y))
    repurposer = lr(c=0.01).repurpose(features[rows[:100]])
    rng, shares = np.random.default_rng(1), []
    for _ in range(200):
        rest = rng.permutation(rows[100:])
        repurposer.conformalize(features[rest[:199]])
        new = features[rest[199:499]]
        members = repurposer.predict_set(new, 0.9, allow_empty=True).members
        shares.append(members[np.arange(300), new.labels].mean())
    # .9 to .905 is promised; 200 splits of one pool of 1,697 rows vary less than 200 pools would
    assert np.mean(shares) == pytest.approx(0.9025, abs=0.0025 + 4 * np.std(shares) / 200**0.5)
    assert np.std(shares) < 0.04


def test_questions_of_training_rows_count_them_as_training_did() -> None:
    X, y = blobs()
    weights = np.random.default_rng(0).uniform(0.2, 4, size=60)
    repurposer = lr(random_state=0).fit(X, y, sample_weight=weights)
    sets = repurposer.predict_set(X, 0.8, allow_empty=True)
    held_out, n_at_least = np.zeros((60, 3)), np.zeros((60, 3))
    for fold in range(5):
        out = repurposer.folds_ == fold
        head = lr(random_state=0).fit(X[~out], y[~out], sample_weight=weights[~out])
        held_out[out] = head.predict_proba(X[out])
        known = 1 - held_out[out, y[out]]
        n_at_least += np.einsum("r,nkr->nk", weights[out], known >= (1 - head.predict_proba(X))[..., None])
    assert np.array_equal(sets.members, (1 + n_at_least) / (1 + weights.sum()) > 0.2)
    expected = fit_calibration(held_out, y, "temperature", weights=weights)
    assert repurposer.calibrate().calibration_.temperature == pytest.approx(expected.temperature, rel=1e-4)
    for method in ("mixed_mahalanobis", "mahalanobis"):
        detector = DETECTORS[method].fit(X, y, {"0": np.arange(4)}, weights)
        assert np.allclose(repurposer.unfamiliarity(X, method), detector.score(X))


def test_unfamiliar_rows_are_compared_with_rows_as_often_as_they_count() -> None:
    X, y = blobs()
    weights = np.random.default_rng(0).uniform(0.2, 4, size=60)
    repurposer = DrawingRepurposer(identity_network(), ["0"], c=1.0, random_state=0).fit(X, y, sample_weight=weights)
    found = {method: repurposer.unfamiliarity_p_value(X, method) for method in ("knn", "energy", "variance")}
    n_at_least = {method: np.zeros(60) for method in found}
    for fold in range(5):
        out = repurposer.folds_ == fold
        head = DrawingRepurposer(identity_network(), ["0"], c=1.0, random_state=0)
        head.fit(X[~out], y[~out], sample_weight=weights[~out])
        for method, counts in n_at_least.items():
            scores = head.unfamiliarity(X, method)
            counts += (scores[out] >= scores[:, None]) @ weights[out]
    for method, counts in n_at_least.items():
        assert np.allclose(found[method], (1 + counts) / (1 + weights.sum())), method


def test_rows_that_count_for_little_leave_little_to_judge_by() -> None:
    X, y = blobs()
    repurposer = lr(random_state=0).fit(X, y, sample_weight=np.full(60, 0.1))
    with pytest.warns(
        UserWarning, match="needs at least 9 rows to judge by, and there are 6: every set holds every class"
    ):
        assert repurposer.predict_set(X, 0.9).members.all()

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.svm import SVC

from model_handler import Features
from repurpose import SvmRepurposer, load
from repurpose.data.folds import order_by_content
from repurpose.data.scaling import BlockScaling
from repurpose.meta_model import svm, svm_blend, svm_repurposer
from repurpose.meta_model.svm_blend import choose_blend
from tests.repurpose.contract import RepurposerContract
from tests.repurpose.examples import blob_features, blobs, identity_network, repeated
from tests.repurpose.grouped_rows import grouped_features
from tests.repurpose.saved_files import files_of


class TestContract(RepurposerContract):
    grid = {"c": [1.0, 10.0], "kernel": ["linear", "rbf"]}  # noqa: RUF012

    def make(self, source_model: Any, **options: Any) -> SvmRepurposer:
        return SvmRepurposer(source_model, ["2"], **options)


def svms(layers: tuple[str, ...] = ("0",), **options: Any) -> SvmRepurposer:
    return SvmRepurposer(identity_network(), list(layers), **{"random_state": 0, **options})


def scaled(X: np.ndarray) -> np.ndarray:
    """By hand: centred, of root-mean-square row norm 1."""
    centred = X.astype(np.float64) - X.mean(axis=0, dtype=np.float64)
    return centred / np.sqrt(np.square(centred).sum(axis=1).mean())


def blended(X: np.ndarray, y: np.ndarray, machine: SVC, share: float, kept: Any = slice(None)) -> np.ndarray:
    """The scores of all rows by scikit-learn's classes, trained on those kept."""
    rows = scaled(X)
    rest, pairs = (
        meta(machine).fit(rows[kept], y[kept]).decision_function(rows) for meta in (OneVsRestClassifier, SumOfPairs)
    )
    if rest.ndim == 1:
        rest = np.stack([-rest, rest], axis=1)
    return (1 - share) * rest + share * pairs


class SumOfPairs(OneVsOneClassifier):
    """The mean score of a class against each of the others, where the base class counts votes."""

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        scores = np.zeros((len(X), len(self.classes_)))
        for (first, second), machine in zip(combinations(range(len(self.classes_)), 2), self.estimators_):
            scores[:, first] -= machine.decision_function(X)
            scores[:, second] += machine.decision_function(X)
        return scores / (len(self.classes_) - 1)


@pytest.mark.parametrize("kernel", ["linear", "rbf", "poly", "sigmoid"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_scores_blend_those_of_scikit_learn_against_the_rest_and_of_pairs(kernel: str, n_classes: int) -> None:
    X, y = blobs(n_classes=n_classes)
    repurposer = svms(kernel=kernel, gamma=0.2, c=3.0).repurpose(X, y)
    by_hand = blended(X, y, SVC(C=3.0, kernel=kernel, gamma=0.2), repurposer.share_of_pairs_)
    assert np.allclose(repurposer.target_model_.scores(X), by_hand, rtol=0, atol=5e-3)  # the tolerance of libsvm
    assert np.array_equal(repurposer.predict_label(X), by_hand.argmax(axis=1))


def test_gamma_is_as_in_scikit_learn() -> None:
    X, y = blobs()
    assert svms(kernel="rbf").repurpose(X, y).gamma_ == pytest.approx(1 / (4 * scaled(X).var()))
    assert svms(kernel="rbf", gamma="auto").repurpose(X, y).gamma_ == 0.25


def test_probabilities_are_calibrated_on_rows_held_out() -> None:
    X, y = blobs(n_samples=1200)
    test, truth = X[300:], y[300:]
    repurposer = svms().repurpose(X[:300], y[:300])
    scores = repurposer.target_model_.scores(test)

    def loss(sharpness: float) -> float:
        weights = np.exp(sharpness * (scores - scores.max(axis=1, keepdims=True)))
        return float(-np.log(weights[np.arange(900), truth] / weights.sum(axis=1)).mean())

    assert loss(repurposer.sharpness_) < 1.02 * min(loss(sharpness) for sharpness in np.geomspace(0.1, 100, 200))


def test_rows_that_are_all_right_do_not_make_it_certain() -> None:
    labels = np.arange(20) % 2
    X = np.random.default_rng(0).normal(size=(20, 2)) * 0.01 + labels[:, None]
    largest = svms().repurpose(Features({"0": X}, labels)).predict_probability(Features({"0": X})).max()
    assert 0.9 < largest < 0.99999


def test_labels_without_meaning_give_even_probabilities() -> None:
    rng = np.random.default_rng(0)
    repurposer = svms().repurpose(Features({"0": rng.normal(size=(200, 20))}, rng.integers(0, 2, 200)))
    fresh = repurposer.predict_probability(Features({"0": rng.normal(size=(200, 20))}))
    assert np.abs(fresh - 0.5).mean() < 0.2


@pytest.mark.parametrize("n_classes", [2, 4])
def test_other_names_and_another_order_of_rows_exchange_columns_and_nothing_else(n_classes: int) -> None:
    X, y = blobs(n_classes=n_classes)
    X[:20] = X[20:40]  # the same rows, of other classes
    weights = np.random.default_rng(0).uniform(0.5, 3, size=60)
    new_code, order = np.roll(np.arange(n_classes), 1), np.random.default_rng(1).permutation(60)
    first, second = svms(random_state=0), svms(random_state=0)
    probabilities = first.fit(X, y, sample_weight=weights).predict_probability(X)
    renamed = second.fit(X[order], new_code[y[order]], sample_weight=weights[order]).predict_probability(X)
    np.testing.assert_allclose(renamed[:, new_code], probabilities, rtol=0, atol=1e-9)


def test_the_last_digit_of_a_feature_moves_probabilities_by_no_more_than_libsvm_stops_at() -> None:
    X, y = blobs()
    order = np.random.default_rng(1).permutation(60)
    moved = np.nextafter(X[order], np.float32(np.inf))
    first, second = (svms().repurpose(*each).predict_probability(X) for each in ((X, y), (moved, y[order])))
    np.testing.assert_allclose(second, first, rtol=0, atol=5e-3)


def test_class_weights_equal_repeated_rows() -> None:
    X, y = blobs()
    names = np.array(["pear", "apple", "fig"])[y]
    weighted = svms(class_weight={"apple": 2.0}).repurpose(X, names)
    twice = np.concatenate([np.arange(60), np.flatnonzero(y == 1)])
    by_hand = blended(X, names, SVC(C=5, kernel="linear"), weighted.share_of_pairs_, twice)
    assert np.allclose(weighted.target_model_.scores(X), by_hand, rtol=0, atol=5e-3)
    with pytest.raises(ValueError, match="gives a class the weight 0"):
        svms(class_weight={"apple": 0.0}).repurpose(X, names)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"c": 0}, "c must be a positive finite number, got 0"),
        ({"kernel": "rbg"}, r"kernel must be one of .* got 'rbg' \(nearest: \['rbf'"),
        ({"kernel": None}, "kernel must be one of"),
        ({"gamma": -1}, 'gamma must be "scale", "auto" or a positive finite number, got -1'),
        ({"gamma": np.array([0.1, 1.0])}, 'gamma must be "scale", "auto" or a positive finite number, got array'),
        ({"kernel": np.array(["rbf", "poly"])}, "kernel must be one of .* got array"),
        ({"class_weight": "even"}, "class_weight must be"),
    ],
)
def test_unusable_parameters_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        svms(**options).repurpose(blob_features())


def test_layers_of_different_scale_count_alike() -> None:
    X, y = blobs(n_features=6)
    even, uneven = (Features({"0": X[:, :3] * k, "1": X[:, 3:] / k}, y) for k in (1, 1000))
    first, second = (svms(("0", "1")).repurpose(data).predict_probability(data) for data in (even, uneven))
    assert np.allclose(first, second, rtol=0, atol=5e-3)


def test_a_batch_gives_what_its_rows_give_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = blobs()
    repurposer = svms(kernel="rbf").repurpose(X, y)
    expected = repurposer.predict_probability(X)
    monkeypatch.setattr(svm, "_MAX_ELEMENTS", 1)
    assert np.allclose(repurposer.predict_probability(X), expected, rtol=0, atol=1e-12)
    assert repurposer.target_model_.scores(X[:0]).shape == (0, 3)


def test_nothing_is_fitted_when_loading(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = blobs()
    repurposer = svms(kernel="rbf").repurpose(X, y)
    repurposer.save_repurposer(tmp_path / "saved")
    assert [*files_of(tmp_path / "saved")] == ["arrays.safetensors"]
    monkeypatch.setattr(svm_repurposer, "fit_blended", None)
    monkeypatch.setattr(BlockScaling, "fit", None)
    loaded = load(tmp_path / "saved", source_model=identity_network())
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))
    assert (loaded.sharpness_, loaded.share_of_pairs_) == (repurposer.sharpness_, repurposer.share_of_pairs_)


@pytest.mark.parametrize(("kernel", "class_weight"), [("linear", None), ("rbf", "balanced")])
def test_rows_that_count_several_times_give_the_machines_of_repeated_ones(
    kernel: str, class_weight: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(svm_blend, "choose_blend", lambda *scores: svm_blend.Blend(2.5, 1.0))  # folds deal with rows
    X, y, weights, again = repeated()
    options = {"kernel": kernel, "class_weight": class_weight, "random_state": 0, "c": 1.0}
    weighted, expected = (SvmRepurposer(identity_network(), ["0"], **options) for _ in range(2))
    weighted.fit(X, y, sample_weight=weights)
    expected.fit(X[again], y[again])
    scores = weighted.target_model_.scores(X)
    np.testing.assert_allclose(scores, expected.target_model_.scores(X), atol=1e-2)  # libsvm stops at 1e-3
    assert weighted.gamma_ == pytest.approx(expected.gamma_)
    once = SvmRepurposer(identity_network(), ["0"], **options).fit(X, y)
    assert np.abs(scores - once.target_model_.scores(X)).max() > 0.05


def test_weights_reach_the_machines_of_folds_and_the_choice_of_the_blend(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def kept(*scores: Any) -> svm_blend.Blend:
        seen.update(zip(("scores", "codes", "weights", "prior"), scores))
        return choose_blend(*scores)

    monkeypatch.setattr(svm_blend, "choose_blend", kept)
    monkeypatch.setattr(svm_blend, "deal_balanced_folds", lambda codes, rng, groups: np.arange(60) % 6 - 5)
    X, y = blobs()
    weights = np.random.default_rng(0).uniform(0.1, 5, size=60)
    repurposer = svms(class_weight={2: 3.0}).fit(X, y, sample_weight=weights)
    scaling = BlockScaling.fit(X, {"0": np.arange(4)}, weights)
    rows = svm.scaled_rows(scaling, X)
    order = order_by_content(scaling.transform(X), y, weights * np.where(y == 2, 3.0, 1.0))[0]
    out, there = order[5::6], order[np.arange(60) % 6 < 5]
    counts = weights * np.where(y == 2, 3.0, 1.0)
    assert np.allclose(seen["weights"], counts[out])
    for code in range(3):
        machine = SVC(C=5.0, kernel="linear").fit(rows[there], y[there] == code, sample_weight=counts[there])
        column = seen["codes"][y[out] == code][0]
        np.testing.assert_allclose(
            seen["scores"][0][:, column], machine.decision_function(rows[out]), rtol=0, atol=5e-3
        )
    assert repurposer.sharpness_ == choose_blend(*seen.values()).sharpness
    assert seen["prior"] == svm_blend.LINEAR


def test_copies_of_rows_do_not_make_it_surer_where_they_are_in_a_group() -> None:
    for seed in range(3):
        features, groups = grouped_features(seed)
        svm = SvmRepurposer(identity_network(), ["0"], random_state=0)
        assert svm.repurpose(features, groups=groups).sharpness_ < 0.7 * clone(svm).repurpose(features).sharpness_

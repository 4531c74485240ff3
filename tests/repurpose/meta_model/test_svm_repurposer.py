from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC

from model_handler import Features
from repurpose import SvmRepurposer, load
from repurpose.folds import deal_folds
from repurpose.meta_model import svm, svm_repurposer
from repurpose.meta_model.scaling import BlockScaling
from tests.repurpose.contract import RepurposerContract
from tests.repurpose.examples import blob_features, blobs, identity_network, repeated


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


@pytest.mark.parametrize("kernel", ["linear", "rbf", "poly", "sigmoid"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_scores_are_those_of_scikit_learn_one_class_against_the_rest(kernel: str, n_classes: int) -> None:
    X, y = blobs(n_classes=n_classes)
    repurposer = svms(kernel=kernel, gamma=0.7, c=3.0).repurpose(X, y)
    by_hand = OneVsRestClassifier(SVC(C=3.0, kernel=kernel, gamma=0.7)).fit(scaled(X), y).decision_function(scaled(X))
    if n_classes == 2:
        by_hand = np.stack([-by_hand, by_hand], axis=1)
    assert np.allclose(repurposer.target_model_.scores(X), by_hand, rtol=0, atol=2e-3)  # the tolerance of libsvm
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


def test_other_names_for_the_classes_exchange_the_columns_and_nothing_else() -> None:
    X, y = blobs()
    order = np.array([2, 0, 1])  # the new code of each class
    probabilities = svms(random_state=0).repurpose(X, y).predict_probability(X)
    renamed = svms(random_state=0).repurpose(X, order[y]).predict_probability(X)
    np.testing.assert_allclose(renamed[:, order], probabilities, rtol=0, atol=1e-9)


def test_class_weights_equal_repeated_rows() -> None:
    X, y = blobs()
    names = np.array(["pear", "apple", "fig"])[y]
    weighted = svms(class_weight={"apple": 2.0}).repurpose(X, names)
    rows = scaled(X)
    twice = np.concatenate([np.arange(60), np.flatnonzero(y == 1)])
    by_hand = OneVsRestClassifier(SVC(C=10, kernel="linear")).fit(rows[twice], names[twice])
    assert np.allclose(weighted.target_model_.scores(X), by_hand.decision_function(rows), rtol=0, atol=5e-3)
    with pytest.raises(ValueError, match="gives a class the weight 0"):
        svms(class_weight={"apple": 0.0}).repurpose(X, names)


def test_the_sharpness_is_chosen_by_weighted_machines_and_weighted_losses() -> None:
    X, y = blobs()
    rows, factors, ones = scaled(X), np.array([4.0, 1.0, 0.1])[y], np.ones(60)

    def sharpness(in_machines: np.ndarray, in_losses: np.ndarray, seed: int = 6) -> float:
        scores, folds = np.empty((60, 3)), deal_folds(y, np.random.RandomState(seed))
        for fold, code in product(range(5), range(3)):
            kept, out = folds != fold, folds == fold
            machine = SVC(C=0.1, kernel="linear").fit(rows[kept], y[kept] == code, sample_weight=in_machines[kept])
            scores[out, code] = machine.decision_function(rows[out])
        grid = np.geomspace(0.5, 10, 600)
        shares = [log_softmax(k * scores, axis=1)[np.arange(60), y] for k in grid]
        return grid[np.argmin(0.5 * (np.log(grid / 3) / 0.5) ** 2 - np.array(shares) @ in_losses)]

    best = sharpness(factors, factors)
    repurposer = svms(c=0.1, class_weight={0: 4.0, 2: 0.1}, random_state=6).repurpose(X, y)
    assert repurposer.sharpness_ == pytest.approx(best, rel=0.01)
    assert np.allclose(
        repurposer.predict_probability(X), softmax(best * repurposer.target_model_.scores(X), axis=1), atol=0.01
    )
    for other in (sharpness(ones, factors), sharpness(factors, ones), sharpness(factors, factors, seed=9)):
        assert abs(other / best - 1) > 0.02


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
    monkeypatch.setattr(svm, "_NUMBERS_AT_ONCE", 1)
    assert np.allclose(repurposer.predict_probability(X), expected, rtol=0, atol=1e-12)
    assert repurposer.target_model_.scores(X[:0]).shape == (0, 3)


def test_nothing_is_fitted_when_loading(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = blobs()
    repurposer = svms(kernel="rbf").repurpose(X, y)
    repurposer.save_repurposer(tmp_path / "saved")
    assert {file.name for file in (tmp_path / "saved").iterdir()} == {"repurposer.json", "arrays.safetensors"}
    monkeypatch.setattr(svm_repurposer, "fit_machines", None)
    monkeypatch.setattr(BlockScaling, "fit", None)
    loaded = load(tmp_path / "saved", source_model=identity_network())
    assert np.array_equal(loaded.predict_probability(X), repurposer.predict_probability(X))
    assert loaded.sharpness_ == repurposer.sharpness_


@pytest.mark.parametrize(("kernel", "class_weight"), [("linear", None), ("rbf", "balanced")])
def test_rows_that_count_several_times_give_the_machines_of_repeated_ones(kernel: str, class_weight: Any) -> None:
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


def test_weights_reach_the_machines_of_folds_and_the_choice_of_the_sharpness() -> None:
    X, y = blobs()
    weights = np.random.default_rng(0).uniform(0.1, 5, size=60)
    repurposer = SvmRepurposer(identity_network(), ["0"], random_state=1).fit(X, y, sample_weight=weights)
    rows = svm.scaled_rows(BlockScaling.fit(X, {"0": np.arange(4)}, weights), X)
    folds, scores = deal_folds(y, np.random.RandomState(1)), np.zeros((60, 3))
    for fold in range(5):
        out, kept = folds == fold, folds != fold
        for c in range(3):
            machine = SVC(C=10.0, kernel="linear").fit(rows[kept], y[kept] == c, sample_weight=weights[kept])
            scores[out, c] = machine.decision_function(rows[out])
    assert repurposer.sharpness_ == pytest.approx(svm.choose_sharpness(scores, y, weights), rel=1e-2)
    assert abs(repurposer.sharpness_ / svm.choose_sharpness(scores, y, None) - 1) > 0.02

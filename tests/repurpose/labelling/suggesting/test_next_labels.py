"""`suggest_labels` of several heads: what the table says, that it says the same again, and what cannot be asked."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import entr
from sklearn.exceptions import NotFittedError
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestCentroid
from torch import nn

from model_handler import Features
from repurpose import GpRepurposer, LrRepurposer, MetaModelRepurposer, NeuralNetworkFineTuneRepurposer
from repurpose.labelling.suggesting.next_labels import _candidates
from repurpose.labelling.suggesting.pool import Judged
from tests.repurpose.labelling.suggesting.examples import N_LABELLED, POOL, X, Y, posterior, targets, trained

LABELLED = (X[:N_LABELLED], Y[:N_LABELLED])
NETWORK = nn.Sequential(nn.Identity())


@pytest.mark.parametrize("method", ["doubt", "epig", "variance", "margin", "typicality"])
def test_the_table_says_the_same_each_time_in_the_order_of_choice(method: str) -> None:
    suggested = trained().suggest_labels(POOL, 5, method)
    assert list(suggested.columns) == ["position", "score", "label", "nearest"]
    assert suggested.attrs["method"] == method
    positions = list(suggested["position"])
    assert len(set(positions)) == 5
    assert list(suggested["label"]) == trained().predict_label(POOL[positions]).tolist()
    again = trained().suggest_labels(Features({"0": POOL}), 5, method)
    assert [list(suggested[name]) for name in suggested.columns] == [list(again[name]) for name in again.columns]


def test_the_nearest_row_is_that_of_the_kernel() -> None:
    suggested = trained().suggest_labels(POOL, 5)
    scaling = trained().target_model_.rows
    rows, training = (scaling.transform(some)[0] for some in (POOL[list(suggested["position"])], LABELLED[0]))
    assert list(suggested["nearest"]) == pairwise_distances(rows, training).argmin(axis=1).tolist()


def test_notes_say_what_is_expected_of_the_pool() -> None:
    notes = trained().suggest_labels(POOL, 5).attrs
    probabilities = trained().predict_probability(POOL)
    assert notes["expected_log_loss"] == pytest.approx(-(probabilities * np.log(probabilities)).sum() / len(POOL))
    assert notes["n_rows"] == len(POOL)
    assert notes["expected_drop_error"] > 0


@pytest.mark.parametrize("method", ["doubt", "margin"])
def test_what_is_expected_of_the_rows_that_are_left_can_be_compared_with_what_comes(method: str) -> None:
    suggested = trained().suggest_labels(POOL, 5, method)
    left = np.setdiff1d(np.arange(len(POOL)), suggested["position"])
    now = entr(trained().predict_probability(POOL[left])).sum(axis=1).mean()
    assert suggested.attrs["log_loss_then"] + suggested.attrs["expected_drop"] == pytest.approx(now)


def test_where_no_row_is_left_or_many_are_suggested_nothing_is_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "expected_drop" not in trained().suggest_labels(POOL, len(POOL)).attrs
    monkeypatch.setattr("repurpose.labelling.suggesting.next_labels._MOST_EXPECTED_OF", 4)
    assert "expected_drop" in trained().suggest_labels(POOL, 4).attrs
    assert "expected_drop" not in trained().suggest_labels(POOL, 5).attrs


def test_auto_is_doubt_for_a_gaussian_process_and_margin_for_other_heads() -> None:
    assert trained().suggest_labels(POOL, 2).attrs["method"] == "doubt"
    assert LrRepurposer(NETWORK, ["0"]).repurpose(LABELLED).suggest_labels(POOL, 2).attrs["method"] == "margin"


def test_doubt_lowers_the_variance_most_where_the_head_is_in_doubt() -> None:
    suggested = trained().suggest_labels(POOL, 1, "doubt")
    dense = torch.stack([posterior(*LABELLED, POOL, c)[1] for c in range(3)]).mean(dim=0).numpy()
    doubts = entr(trained().predict_probability(POOL)).sum(axis=1)
    falls = (dense**2 * doubts).mean(axis=1) / (dense.diagonal() + targets().own_noise)
    assert list(suggested["position"]) == [int(falls.argmax())]
    assert list(suggested["score"]) == pytest.approx([falls.max()])


def test_typicality_knows_the_rows_of_training() -> None:
    # A far group that training knows has nothing to give before one that it does not.
    groups = np.repeat(np.eye(3) * 50, 12, axis=0) + np.random.default_rng(0).normal(size=(36, 3))
    known = np.arange(0, 36, 2)[:12]  # of the first two groups
    head = LrRepurposer(NETWORK, ["0"], random_state=0).repurpose((groups[known].astype(np.float32), known // 12))
    pool = np.setdiff1d(np.arange(36), known)
    found = head.suggest_labels(groups[pool].astype(np.float32), 1, "typicality")
    assert pool[found["position"][0]] // 12 == 2


def test_rows_that_have_a_label_are_not_suggested() -> None:
    labels = np.where(np.arange(len(POOL)) % 3 == 0, np.nan, 1.0)
    for method in ("doubt", "epig", "variance", "margin", "typicality"):
        suggested = trained().suggest_labels(Features({"0": POOL}, labels), 4, method)
        assert [position % 3 for position in suggested["position"]] == [0] * 4
        # the same as of these rows alone
        alone = trained().suggest_labels(POOL[::3], 4, method)
        assert (np.array(suggested["position"]) // 3).tolist() == list(alone["position"])


def test_a_copy_of_a_chosen_row_tells_less_than_the_row() -> None:
    first = int(trained().suggest_labels(POOL, 1)["position"][0])
    twice = trained().suggest_labels(np.concatenate([POOL, POOL[[first]]]), 6)
    assert {first, len(POOL)} - set(list(twice["position"])[:2])


def test_a_network_that_was_trained_is_asked_by_margin() -> None:
    network = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2))
    repurposer = NeuralNetworkFineTuneRepurposer(network, "0", num_epochs=1, random_state=0).repurpose(LABELLED)
    suggested = repurposer.suggest_labels(POOL, 3)
    assert (list(suggested.columns), suggested.attrs["method"]) == (["position", "score", "label"], "margin")
    with pytest.raises(NotImplementedError, match="needs the Gaussian process of a GpRepurposer"):
        repurposer.suggest_labels(POOL, 3, "epig")
    with pytest.raises(NotImplementedError, match="needs the rows of training"):
        repurposer.suggest_labels(POOL, 3, "typicality")


def test_inducing_points_serve_as_well() -> None:
    repurposer = GpRepurposer(NETWORK, ["0"], n_inducing=6, random_state=0).repurpose(LABELLED)
    for method in ("doubt", "epig", "variance"):
        assert len(repurposer.suggest_labels(POOL, 3, method)) == 3


def test_a_head_without_probabilities_says_so() -> None:
    class NearestMean(MetaModelRepurposer):
        def _train_model_from_features(self, features, labels, feature_indices_per_layer):  # type: ignore[no-untyped-def]
            return NearestCentroid().fit(features, labels)

        def _predict_label_from_features(self, features: np.ndarray) -> np.ndarray:
            return self.target_model.predict(features)

    with pytest.raises(NotImplementedError, match="probabilities"):
        NearestMean(NETWORK, ["0"]).repurpose(LABELLED).suggest_labels(POOL)


@pytest.mark.parametrize(
    ("pool", "options", "message"),
    [
        (Features({"0": POOL[:0]}), {}, "the pool is empty"),
        (POOL, {"n": 46}, "n is 46, and the pool has only 45 rows; give an n of at most 45"),
        (Features({"0": POOL}, [None, "a"] * 22 + [None]), {"n": 24}, "only 23 rows without a label"),
        (Features({"0": POOL}, Y[N_LABELLED:]), {}, "all 45 rows of the pool have a label already"),
        (Features({"0": POOL[:, :3]}), {}, "3"),
        (np.where(np.arange(45)[:, None] == 7, np.nan, POOL), {}, "NaN in 1 of 45 rows .row 7"),
        (POOL, {"n": 0}, "n must be a whole number of at least 1, got 0"),
        (POOL, {"n": True}, "n must be a whole number"),
        (POOL, {"n": 2.5}, "n must be a whole number"),
        (POOL, {"method": "epigg"}, "nearest: .'epig'"),
    ],
)
def test_what_cannot_be_is_refused(pool: object, options: dict[str, object], message: str) -> None:
    before = dict(vars(trained()))
    with pytest.raises(ValueError, match=message):
        trained().suggest_labels(pool, **options)
    assert all(vars(trained())[name] is value for name, value in before.items())


def test_before_training_there_is_nothing_to_ask() -> None:
    with pytest.raises(NotFittedError):
        LrRepurposer(NETWORK, ["0"]).suggest_labels(POOL)


def test_candidates_are_doubtful_rows_and_rows_of_every_class() -> None:
    rng = np.random.RandomState(0)
    margin, likeliest = rng.rand(200), np.repeat([0, 1, 2], [150, 45, 5])
    chosen = _candidates(Judged(np.arange(200), margin, likeliest, margin), 40, rng)
    assert len(set(chosen)) == 40
    assert set(np.argsort(margin)[:20]) <= set(chosen)
    others = set(chosen) - set(np.argsort(margin)[:20])
    # a third each, but for the class that has fewer
    assert all(sum(likeliest[row] == c for row in others) >= 7 for c in (0, 1))
    assert {row for row in range(195, 200) if margin[row] > np.sort(margin)[19]} <= others


def test_a_pool_in_a_file_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Features({"0": POOL}).save(tmp_path / "pool")
    mapped = Features.load(tmp_path / "pool", mapped=True)
    expected = trained().suggest_labels(POOL, 4)
    sizes, whole = [], GpRepurposer._predict_probability_from_features

    def counted(self: GpRepurposer, features: np.ndarray) -> np.ndarray:
        sizes.append(len(features))
        return whole(self, features)

    monkeypatch.setattr("repurpose.labelling.suggesting.pool._ROWS_AT_A_TIME", 7)
    monkeypatch.setattr(GpRepurposer, "_predict_probability_from_features", counted)
    found = trained().suggest_labels(mapped, 4)
    assert list(found["position"]) == list(expected["position"])
    assert found.attrs["expected_log_loss"] == pytest.approx(expected.attrs["expected_log_loss"])
    assert max(sizes) == 7
    assert sum(sizes) == len(POOL) + 4  # and the labels of the rows that are suggested


def test_another_default_device_changes_nothing() -> None:
    expected = trained().suggest_labels(POOL, 4)
    with torch.device("meta"):
        found = trained().suggest_labels(POOL, 4)
    assert list(found["position"]) == list(expected["position"])
    assert list(found["score"]) == list(expected["score"])


def test_what_is_expected_is_that_of_calibrated_probabilities() -> None:
    calibrated, warmer = copy.copy(trained()), copy.copy(trained())
    calibrated.calibrate((POOL, Y[N_LABELLED:]))
    temperature = calibrated.calibration_.temperature
    assert abs(temperature - 1) > 0.1
    model = trained().target_model_
    warmer.target_model_ = replace(model, temperature=model.temperature * temperature)
    expected = warmer.suggest_labels(POOL, 3).attrs
    found = calibrated.suggest_labels(POOL, 3).attrs
    for name in ("expected_log_loss", "expected_drop", "expected_drop_error", "log_loss_then"):
        assert found[name] == pytest.approx(expected[name], rel=1e-6)
    assert expected["expected_drop"] != pytest.approx(
        trained().suggest_labels(POOL, 3).attrs["expected_drop"], rel=0.01
    )
    calibrated.calibrate((POOL, Y[N_LABELLED:]), method="vector")
    assert "expected_drop" not in calibrated.suggest_labels(POOL, 3).attrs

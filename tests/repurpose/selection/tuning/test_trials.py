import numpy as np
import pytest
from sklearn.metrics import log_loss
from sklearn.model_selection import PredefinedSplit, cross_val_score

from model_handler import Features
from repurpose import NeuralNetworkFineTuneRepurposer
from repurpose.data.labels import encode_labels
from repurpose.selection import tune
from repurpose.selection.results.paired import selection_folds
from tests.repurpose.selection.tuning.heads import N_ROWS, CentreRepurposer, blobs, small_network

SEED = 3
RATES = {"optimizer_params__learning_rate": (1e-4, 1.0, "log")}


def folds(groups: np.ndarray | None = None) -> np.ndarray:
    return selection_folds(encode_labels(blobs()[1]).codes, np.random.RandomState(SEED), groups)


def fine_tuned(**parameters: object) -> NeuralNetworkFineTuneRepurposer:
    return NeuralNetworkFineTuneRepurposer(small_network(), "1", **{"num_epochs": 3, "random_state": 0, **parameters})


@pytest.mark.parametrize("scoring", ["neg_log_loss", "accuracy"])
def test_a_head_scores_as_in_a_cross_validation_with_the_same_folds(scoring: str) -> None:
    space = {"sharpness": [0.001, 0.01, 0.1], "feature_layer_names": [["0"], ["1"]]}
    result = tune(CentreRepurposer(small_network()), blobs(), space=space, budget=8, scoring=scoring, random_state=SEED)
    for row in result.trials.to_dict("records"):
        layers = {"['0']": ["0"], "['1']": ["1"]}[row["feature_layer_names"]]
        alone = CentreRepurposer(small_network(), layers, row["sharpness"])
        scores = cross_val_score(alone, *blobs(), cv=PredefinedSplit(folds()), scoring=scoring)
        assert row["value"] == pytest.approx(scores.mean(), abs=1e-6)


def test_a_network_scores_as_one_trained_without_the_first_fold() -> None:
    X, y = blobs()
    held_out = folds() == 0
    result = tune(fine_tuned(), X, y, space=RATES, budget=2, random_state=SEED)
    for row in result.trials.to_dict("records"):
        alone = fine_tuned(optimizer_params={"learning_rate": row["optimizer_params__learning_rate"]})
        alone.repurpose((X[~held_out], y[~held_out]))
        expected = log_loss(y[held_out], alone.predict_proba(X[held_out]), labels=alone.classes_)
        assert row["value"] == pytest.approx(-expected, abs=1e-5)
        assert row["epochs"] == 3


def test_a_training_that_falls_behind_is_ended_early() -> None:
    result = tune(fine_tuned(num_epochs=6), *blobs(), space=RATES, budget=9, random_state=SEED)
    pruned = [row for row in result.trials.to_dict("records") if row["state"] == "pruned"]
    assert pruned
    assert all(2 <= row["epochs"] < 6 and np.isnan(row["value"]) for row in pruned)
    assert all(row["trial"] >= 4 for row in pruned)
    whole = tune(fine_tuned(), *blobs(), space=RATES, budget=6, random_state=SEED, pruner=None)
    assert set(whole.trials["epochs"]) == {3}


def test_callbacks_of_the_user_are_called_too_and_stay_theirs() -> None:
    called = []
    repurposer = fine_tuned(callbacks=[lambda state, record: called.append(record["epoch"])])
    result = tune(repurposer, *blobs(), space=RATES, budget=1, random_state=SEED)
    assert called == [0, 1, 2] * 2  # of the trial, and of the final training
    assert len(result.best_repurposer.callbacks) == 1


def test_of_an_ensemble_the_first_member_speaks_for_all() -> None:
    result = tune(fine_tuned(num_members=2), *blobs(), space=RATES, budget=1, random_state=SEED)
    assert result.trials["epochs"][0] == 3


def test_rows_of_a_group_are_learned_from_or_judged_and_never_both() -> None:
    X, y = blobs()
    groups = np.arange(N_ROWS) // 4
    judged: list[np.ndarray] = []

    def judge(repurposer: CentreRepurposer, rows: Features, labels: np.ndarray) -> float:
        judged.append(rows.matrix)
        return 0.0

    features = Features({"0": X}, y)
    options = {"scoring": judge, "groups": groups, "random_state": SEED, "budget": 1}
    tune(CentreRepurposer(small_network()), features, space={"sharpness": [0.01]}, **options)
    dealt = folds(groups)
    assert all(len(set(dealt[groups == group])) == 1 for group in range(10))
    for fold, rows in enumerate(judged):
        np.testing.assert_array_equal(rows, X[dealt == fold])


def test_two_groups_are_held_out_in_turn() -> None:
    groups = np.arange(N_ROWS) % 2
    options = {"groups": groups, "random_state": SEED, "budget": 1}
    result = tune(CentreRepurposer(small_network()), blobs(), space={"sharpness": [0.01]}, **options)
    scores = []
    for group in (0, 1):
        X, y = blobs()
        alone = CentreRepurposer(small_network(), sharpness=0.01).repurpose(X[groups != group], y[groups != group])
        scores.append(-log_loss(y[groups == group], alone.predict_proba(X[groups == group]), labels=alone.classes_))
    assert result.best_value == pytest.approx(np.mean(scores), abs=1e-6)

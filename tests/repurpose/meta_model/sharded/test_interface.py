"""Heads learn from shards: all that fit at once, of more by passes, with a sample kept for what asks for rows."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone

from model_handler import Features
from repurpose import (
    BnnRepurposer,
    GpRepurposer,
    LaplaceRepurposer,
    LrRepurposer,
    NeuralNetworkFineTuneRepurposer,
    SvmRepurposer,
    load,
)
from tests.repurpose.meta_model.sharded.examples import NETWORK, InShards, few_fit, log_loss, on_disk, simulated


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("further", [{}, {"class_weight": "balanced"}, {"class_weight": {1: 3.0}}])
def test_logistic_regression_from_shards_is_that_of_all_rows(
    monkeypatch: pytest.MonkeyPatch, n_classes: int, further: dict
) -> None:
    train, test = simulated(n_classes)
    weights = np.random.RandomState(0).randint(3, size=len(train))
    whole = LrRepurposer(NETWORK, c=0.1, **further).repurpose(train, sample_weight=weights)
    few_fit(monkeypatch)
    parts = LrRepurposer(NETWORK, c=0.1, **further).repurpose(InShards(train), sample_weight=weights)
    np.testing.assert_allclose(parts.predict_probability(test), whole.predict_probability(test), atol=1e-2)
    losses = [log_loss(head.predict_probability(test), test.labels) for head in (parts, whole)]
    assert abs(losses[0] - losses[1]) < 2e-4
    assert parts.target_model_.coef_.shape == whole.target_model_.coef_.shape


def test_c_is_chosen_from_the_sample_and_everything_that_asks_for_rows_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    few_fit(monkeypatch)
    train, test = simulated()
    repurposer = LrRepurposer(NETWORK, random_state=0).repurpose(InShards(train))
    assert repurposer.n_rows_seen_ == 600
    assert 100 < len(repurposer.training_features_) <= 150
    assert repurposer.c_ in repurposer.c_scores_
    assert repurposer.predict_set(test, 0.9).members[np.arange(300), test.labels].mean() > 0.85
    assert (repurposer.unfamiliarity_p_value(test) > 0).all()
    same = LrRepurposer(NETWORK, random_state=0).repurpose(InShards(train))
    np.testing.assert_array_equal(same.predict_probability(test), repurposer.predict_probability(test))
    for change in (lambda: repurposer.add(test), lambda: repurposer.remove([0]), repurposer.refresh):
        with pytest.raises(ValueError, match="learned from 600 rows, of which 1"):
            change()


def test_shards_on_a_disk_are_learned_from_saved_loaded_and_cloned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    train, test = simulated()
    shards = on_disk(train, tmp_path / "shards")
    at_once = LrRepurposer(NETWORK, ["0"], c=0.1).repurpose(train.select(["0"]))
    fits = LrRepurposer(NETWORK, ["0"], c=0.1).repurpose(shards)
    np.testing.assert_array_equal(at_once.target_model_.coef_, fits.target_model_.coef_)
    few_fit(monkeypatch)
    parts = LrRepurposer(NETWORK, ["0"], c=0.1).repurpose(shards)
    np.testing.assert_allclose(parts.predict_probability(test), fits.predict_probability(test), atol=1e-2)
    parts.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=NETWORK)
    np.testing.assert_array_equal(loaded.predict_probability(test), parts.predict_probability(test))
    assert loaded.n_rows_seen_ == 600
    assert clone(parts).repurpose(shards).n_rows_seen_ == 600


def test_layers_are_chosen_named_and_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    few_fit(monkeypatch)
    train, test = simulated()
    chosen = LrRepurposer(NETWORK, "auto", c=0.1, random_state=0).repurpose(InShards(train))
    assert set(chosen.feature_layer_names_) <= {"0", "1"}
    assert chosen.score(test) > 0.6
    named = LrRepurposer(NETWORK, ["1"], c=0.1).repurpose(InShards(train))
    assert named.n_features_per_layer_ == {"1": 3}
    with pytest.raises(ValueError, match="no layer 'conv'"):
        LrRepurposer(NETWORK, ["conv"], c=0.1).repurpose(InShards(train))


def test_labels_may_stand_beside_shards_and_classes_keep_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    few_fit(monkeypatch)
    train, _ = simulated()
    names = ["ant", "bee", "cat"]
    unlabelled = InShards(Features(train.values, None, names))
    repurposer = LrRepurposer(NETWORK, c=0.1)
    with pytest.raises(ValueError, match="requires y to be passed"):
        repurposer.repurpose(unlabelled)
    assert repurposer.repurpose(unlabelled, train.labels).class_names_.tolist() == names
    with pytest.raises(ValueError, match="600 rows and 599 labels"):
        repurposer.repurpose(unlabelled, train.labels[1:])
    with pytest.raises(ValueError, match="3 of 600 labels are missing"):
        repurposer.repurpose(unlabelled, np.where(np.arange(600) < 3, np.nan, train.labels))
    with pytest.raises(ValueError, match="hold 1 class"):
        repurposer.repurpose(unlabelled, np.zeros(600, int))
    assert repurposer.n_rows_seen_ == 600  # what was learned is still there


@pytest.mark.parametrize("make", [SvmRepurposer, LaplaceRepurposer, BnnRepurposer])
def test_heads_that_learn_from_all_rows_say_what_to_do(monkeypatch: pytest.MonkeyPatch, make: type) -> None:
    few_fit(monkeypatch)
    with pytest.raises(ValueError, match=r"features\[:\]; LrRepurposer and GpRepurposer read them in parts"):
        make(NETWORK).repurpose(InShards(simulated()[0]))


def test_what_fits_is_read_at_once_by_any_head(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = simulated()
    shards = InShards(train[:180])
    few_fit(monkeypatch)
    for make in (SvmRepurposer, GpRepurposer):
        found, expected = make(NETWORK, random_state=0).repurpose(shards), make(NETWORK, random_state=0)
        expected.repurpose(train[:180])
        np.testing.assert_array_equal(found.predict_probability(test), expected.predict_probability(test))
        assert not hasattr(found, "n_rows_seen_")


def test_predictions_and_networks_name_the_rows_to_give() -> None:
    train, test = simulated()
    repurposer = LrRepurposer(NETWORK, c=0.1).repurpose(train)
    with pytest.raises(TypeError, match=r"block by block"):
        repurposer.predict_probability(InShards(test))
    with pytest.raises(TypeError):
        NeuralNetworkFineTuneRepurposer(NETWORK).repurpose(InShards(train))


def test_groups_are_held_out_together(monkeypatch: pytest.MonkeyPatch) -> None:
    few_fit(monkeypatch)
    train, _ = simulated()
    groups = np.arange(600) // 4
    repurposer = LrRepurposer(NETWORK, random_state=0).repurpose(InShards(train), groups=groups)
    assert len(repurposer.training_groups_) == len(repurposer.training_codes_)
    with pytest.raises(ValueError, match="599"):
        LrRepurposer(NETWORK).repurpose(InShards(train), groups=groups[1:])

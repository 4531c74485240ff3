import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from repurpose import BnnRepurposer, GpRepurposer, NeuralNetworkFineTuneRepurposer, load
from repurpose.persistence.card import card
from repurpose.training.history import History
from tests.repurpose.examples import blob_features, blobs, identity_network, lr, small_network


def text_of(repurposer: Any, folder: Path) -> str:
    repurposer.save_repurposer(folder / "saved")
    return (folder / "saved" / "README.md").read_text()


def test_the_card_says_what_it_is_and_of_what_it_was_made(tmp_path: Path) -> None:
    text = text_of(lr().repurpose(blob_features()), tmp_path)
    for said in (
        "Made by: LrRepurposer of repurpose-torch",
        "Source network: Sequential, given as a module",
        "Layers: ['0']",
        "Features: 4",
        "Classes: 3: 0, 1, 2",
        "Rows in training: 60: 20 of 0, 20 of 1, 20 of 2",
        f"python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}",
    ):
        assert said in text
    assert "Measured" not in text  # nothing was


def test_labels_that_utf8_has_no_bytes_for_are_on_the_card(tmp_path: Path) -> None:
    features = blob_features()
    labels = np.array(["h\udcfcnd", "cat", "cow"], dtype=object)[features.labels]  # as a folder of Latin-1 is called
    text = text_of(lr(c=1.0).repurpose(features, labels), tmp_path)
    assert "20 of h\\udcfcnd" in text
    assert set(load(tmp_path / "saved", identity_network()).classes_) == set(labels)


def test_rows_count_as_often_as_their_weights_say(tmp_path: Path) -> None:
    weights = np.repeat([2.0, 0.0], 30)
    codes = blob_features().labels
    counts = np.bincount(codes, weights=weights)
    text = text_of(lr().repurpose(blob_features(), sample_weight=weights), tmp_path)
    assert f"Rows in training: 60: {counts[0]:g} of 0, {counts[1]:g} of 1, {counts[2]:g} of 2" in text


def test_what_was_measured_in_training_is_on_the_card(tmp_path: Path) -> None:
    chosen = lr(c="auto", random_state=0).repurpose(blob_features())
    assert f"log loss of left-out rows {chosen.c_scores_[chosen.c_]:.4g} (with C {chosen.c_:.4g})" in text_of(
        chosen, tmp_path
    )
    calibrated = chosen.calibrate()
    assert f"calibrated, by the temperature {calibrated.calibration_.temperature:.4g}" in text_of(calibrated, tmp_path)
    gp = GpRepurposer(identity_network(), ["0"]).repurpose(blob_features())
    assert f"log evidence {gp.log_evidence_:.4g}" in text_of(gp, tmp_path)


@pytest.mark.parametrize("validated", [True, False])
def test_the_epoch_that_was_kept_is_measured(tmp_path: Path, validated: bool) -> None:
    X, y = blobs()
    options: dict[str, Any] = {"validation_fraction": 0.2, "early_stopping": 1} if validated else {}
    tuned = NeuralNetworkFineTuneRepurposer(small_network(), "2", num_epochs=3, random_state=0, **options)
    text = text_of(tuned.repurpose(X, y), tmp_path)
    record = tuned.history_[tuned.history_.best_epoch if validated else -1]
    assert f"training accuracy {record['accuracy']:.4g}" in text
    assert ("validation accuracy" in text) == validated
    assert f"of {len(tuned.history_)} epochs)" in text
    assert "Rows in training: 60: 20 of 0, 20 of 1, 20 of 2" in text


def test_the_history_of_a_bayesian_network_is_measured_too(tmp_path: Path) -> None:
    bnn = BnnRepurposer(identity_network(), ["0"], num_epochs=2, num_samples_mc_prediction=2, n_hidden=2, c=1.0)
    bnn.repurpose(blob_features())
    said = f"training loss {bnn.history_['loss'][-1]:.4g}, training accuracy {bnn.history_['accuracy'][-1]:.4g}"
    assert said in text_of(bnn, tmp_path)


def test_what_a_class_of_a_users_keeps_under_these_names_breaks_no_card() -> None:
    plan = {"class": "a:B", "library": {"name": "x", "version": "1"}, "libraries": {}, "source": {"name": "mine"}}
    odd = [
        {
            "history_": "long",
            "c_": "auto",
            "c_scores_": {"auto": 1.0},
            "layer_scores_": {"a": "b"},
            "log_evidence_": [1],
        },
        {"history_": History([{"epoch": 0}]), "calibration_": 3, "class_names_": None, "training_codes_": [1]},
        {"history_": {"loss": np.zeros(0)}, "classes_": None},
    ]
    for learned in odd:
        assert "Measured" not in card(plan, learned)

"""Labels stay as they are given; where a dataset has names for them, the names are shown."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, random_split

from repurpose import LrRepurposer, NeuralNetworkFineTuneRepurposer, load
from repurpose.data.class_names import class_names, names_of_given, names_of_labels
from tests.model_handler.data.test_class_names import NAMES, Named

NETWORK = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))


def test_names_belong_to_the_labels_that_were_seen() -> None:
    assert class_names(Named(), np.array([0, 2])).tolist() == ["cat", "owl"]
    assert class_names(Named(["a", "b", "a"]), np.arange(3)).tolist() == ["a (0)", "b", "a (2)"]


@pytest.mark.parametrize("classes", [np.array([0, 3]), np.array([-1, 0]), np.array(["0", "1"]), np.array([0.0, 1.0])])
def test_labels_that_are_no_places_among_the_names_are_shown_themselves(classes: np.ndarray) -> None:
    assert class_names(Named(), classes).tolist() == [str(label) for label in classes.tolist()]


@pytest.mark.parametrize("method", ["head", "network", "features"])
def test_every_method_learns_the_names_and_predicts_the_labels(method: str, tmp_path: Path) -> None:
    data: Any = DataLoader(Subset(Named(), range(6)), batch_size=3)
    repurposer: Any = LrRepurposer(NETWORK, ["0"], c=1.0)
    if method == "network":
        repurposer = NeuralNetworkFineTuneRepurposer(NETWORK, "1", num_epochs=1, random_state=0)
    if method == "features":
        data = repurposer.get_features_from_source_model(data)
    repurposer.repurpose(data)
    repurposer.save_repurposer(tmp_path / "saved")
    for each in (repurposer, load(tmp_path / "saved", source_model=NETWORK)):
        assert each.class_names_.tolist() == list(NAMES)
        assert each.classes_.tolist() == [0, 1, 2]
        assert set(each.predict_label(Named()).tolist()) <= {0, 1, 2}


def test_sets_show_the_names_and_hold_the_labels() -> None:
    train, test = random_split(Named(n_rows=24), [18, 6], torch.Generator().manual_seed(0))
    repurposer = LrRepurposer(NETWORK, ["0"], c=100.0, random_state=0).repurpose(train)
    sets = repurposer.predict_set(test, 0.8)
    assert sets.names == [[NAMES[label] for label in labels] for labels in sets]
    assert repr(sets).splitlines()[1] == f"  0: {', '.join(sets.names[0])}"
    assert all(label in (0, 1, 2) for labels in sets for label in labels)


def test_without_names_labels_are_shown_as_text() -> None:
    X = np.random.RandomState(0).randn(6, 2).astype(np.float32)
    repurposer = LrRepurposer(NETWORK, ["0"], c=1.0).repurpose((X, [5, 7] * 3))
    assert repurposer.class_names_.tolist() == ["5", "7"]
    assert repurposer.repurpose((X, ["a", "b"] * 3)).class_names_.tolist() == ["a", "b"]


def test_a_directory_that_was_saved_before_there_were_names_loads(tmp_path: Path) -> None:
    X = np.random.RandomState(0).randn(6, 2).astype(np.float32)
    LrRepurposer(NETWORK, ["0"], c=1.0).repurpose((X, [5, 7] * 3)).save_repurposer(tmp_path / "saved")
    plan = json.loads((tmp_path / "saved" / "repurposer.json").read_text())
    del plan["fitted"]["class_names_"]
    (tmp_path / "saved" / "repurposer.json").write_text(json.dumps(plan))
    loaded = load(tmp_path / "saved", source_model=NETWORK)
    assert loaded.class_names_.tolist() == ["5", "7"]
    loaded.save_repurposer(tmp_path / "again")
    assert load(tmp_path / "again", source_model=NETWORK).class_names_.tolist() == ["5", "7"]


def test_labels_and_names_of_folders_are_brought_to_the_same_names() -> None:
    known = np.array([0, 1, 2]), np.array(["1", "cat", "owl"])
    assert names_of_labels(np.array([2, None, 0], dtype=object), *known).tolist() == ["owl", None, "1"]
    assert names_of_labels(np.array([2, 1]), *known).tolist() == ["owl", "cat"]
    assert names_of_given(["owl", "2", "1", "0", "dodo"], *known) == ["owl", "owl", "1", "1", "dodo"]

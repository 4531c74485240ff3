"""What a network Repurposer makes a training of: weights of classes, seeds, and how its data are read."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from repurpose import NeuralNetworkFineTuneRepurposer
from repurpose.neural_network import trained_network
from tests.repurpose.examples import blobs, small_network
from tests.repurpose.grouped_rows import grouped_rows


def fine_tuned(**options: Any) -> NeuralNetworkFineTuneRepurposer:
    return NeuralNetworkFineTuneRepurposer(small_network(), "2", **{"num_epochs": 1, "random_state": 0, **options})


def test_classes_weigh_in_validation_too_and_smoothing_does_not() -> None:
    X, y = blobs()
    repurposer = fine_tuned(class_weight={0: 9.0, 2: 0.1}, label_smoothing=0.3)
    found = repurposer.repurpose((X, y), validation_data=(X[:40], y[:40])).history_[-1]["validation_loss"]
    shares = torch.from_numpy(repurposer.predict_probability(X[:40])).double().log()
    weights = torch.tensor([9.0, 1.0, 0.1], dtype=torch.float64)
    assert found == pytest.approx(float(cross_entropy(shares, torch.from_numpy(y[:40]), weights)), rel=1e-5)
    assert abs(found / float(cross_entropy(shares, torch.from_numpy(y[:40]))) - 1) > 1e-3


def test_parts_of_a_step_weigh_as_their_classes_do() -> None:
    X, y = blobs()
    weighted = {"class_weight": {0: 9.0, 2: 0.1}, "optimizer": "SGD", "optimizer_params": {"learning_rate": 0.1}}
    whole = fine_tuned(batch_size=60, **weighted).repurpose(X, y).predict_probability(X)
    parts = fine_tuned(batch_size=15, accumulation=4, **weighted).repurpose(X, y).predict_probability(X)
    assert np.allclose(parts, whole, atol=1e-6)


def test_outputs_without_a_class_weigh_one() -> None:
    prepared = fine_tuned(target_class_count=5, class_weight={0: 9.0})._prepare_task(blobs())
    assert prepared.objective.class_weights.tolist() == [9, 1, 1, 1, 1]


def test_every_part_has_its_chance_from_the_seed() -> None:
    first, again, other = (
        fine_tuned(random_state=seed, validation_fraction=0.2)._prepare_task(blobs()) for seed in (0, 0, 1)
    )
    assert first.plan.seed == first.batches.seed == again.plan.seed
    assert other.plan.seed == other.batches.seed != first.plan.seed
    for new, is_same in ((again, True), (other, False)):
        assert torch.equal(new.module.head.weight, first.module.head.weight) == is_same
        assert np.array_equal(np.sort(new.evaluation.batches.rows), np.sort(first.evaluation.batches.rows)) == is_same
    assert sorted([*first.batches.rows, *first.evaluation.batches.rows]) == list(range(60))


def test_data_are_read_as_the_parameters_say() -> None:
    transform = torch.nn.Identity()
    options = {"batch_size": 5, "num_workers": 3, "transform": transform}
    assert fine_tuned(**options)._reading() == {**options, "pin_memory": False}


def test_predictions_are_computed_in_the_precision_of_the_parameter() -> None:
    X, y = blobs()
    repurposer = fine_tuned().repurpose(X, y)
    full = repurposer.predict_probability(X)
    assert 1e-5 < np.abs(repurposer.set_params(precision="bfloat16").predict_probability(X) - full).max() < 2**-4


def test_the_device_and_the_wish_to_see_progress_are_those_of_the_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, shown = [], []
    monkeypatch.setattr(
        trained_network, "resolve_device", lambda device, _: asked.append(device) or torch.device("cpu")
    )
    monkeypatch.setattr(trained_network, "track", lambda items, **options: shown.append(options["verbose"]) or items)
    repurposer = fine_tuned(device="cpu:0", verbose=False).repurpose(*blobs())
    repurposer.predict_label(blobs()[0])
    assert set(asked) == {"cpu:0"}
    assert shown == [False]


def test_the_rows_to_validate_by_are_whole_groups() -> None:
    X, y, groups = grouped_rows(n_groups=12, per_group=5)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5))
    tuned = NeuralNetworkFineTuneRepurposer(network, "1", num_epochs=1, validation_fraction=0.3, random_state=0)
    task = tuned._prepare_task((X, y), groups=groups)
    held, learned = task.evaluation.batches.rows, task.batches.rows
    assert sorted([*held, *learned]) == list(range(60))
    assert not set(groups[held]) & set(groups[learned])
    assert 10 <= len(held) <= 25
    named = [f"camera {group}" for group in groups]
    assert len(tuned.repurpose((X, y), groups=named).history_.values("validation_loss")) == 1
    with pytest.raises(ValueError, match="the data have 60 rows and groups has 59"):
        tuned.fit(X, y, groups=named[1:])

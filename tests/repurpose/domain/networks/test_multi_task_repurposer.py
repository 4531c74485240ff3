from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from repurpose import load
from repurpose.domain import MultiTaskRepurposer
from repurpose.training import train
from tests.repurpose.domain.networks.examples import quick, small_network, two_domains


def two_tasks() -> tuple[Any, Any]:
    """The source asks which row of pixels is bright, in words; the target whether it is the first, of few images."""
    (Xs, ys), (X, y) = two_domains(n_source=24, n_target=16)
    return (Xs, np.array(["a", "b", "c"])[ys]), (X, (y == 0).long())


def multi(**options: Any) -> MultiTaskRepurposer:
    return quick(MultiTaskRepurposer, **options)


@pytest.mark.parametrize("weights", ["learned", (0.5, 2.0)])
def test_both_tasks_are_learned_and_answered_the_same_once_loaded(weights: Any, tmp_path: Any) -> None:
    source, (X, y) = two_tasks()
    repurposer = multi(task_weights=weights, num_epochs=12, learning_rates={"*": 0.03}).repurpose(
        X, y, source_data=source
    )
    assert (repurposer.classes_.tolist(), repurposer.source_classes_.tolist()) == ([0, 1], ["a", "b", "c"])
    assert repurposer.score(X, y) > 0.9
    assert np.mean(repurposer.predict_label(source[0], task="source") == source[1]) > 0.9
    assert repurposer.predict_probability(X, task="source").shape == (16, 3)
    repurposer.save_repurposer(tmp_path / "saved")
    loaded = load(tmp_path / "saved", source_model=small_network())
    for task in ("target", "source"):
        answers = (each.predict_probability(X, task=task) for each in (repurposer, loaded))
        assert np.array_equal(*answers)
    assert loaded.task_weights_ == repurposer.task_weights_
    assert (repurposer.task_weights_ == (0.5, 2.0)) == (weights != "learned")


def by_hand(task: Any, weights: Any) -> tuple[nn.Module, torch.Tensor]:
    """Train by a plain loop over the same batches; the network, and the log variances of both tasks."""
    trunk = nn.Sequential(*list(small_network().children())[:7])
    module = nn.ModuleList([trunk, nn.Linear(8, 2), nn.Linear(8, 3)])
    heads = task.module.heads
    for own, given in zip(module[1:].parameters(), [*heads.target.parameters(), *heads.source.parameters()]):
        own.data.copy_(given)
    log_variances = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.SGD([*module.parameters(), log_variances], lr=0.1)
    for epoch in range(2):
        for batch in task.batches.epoch(epoch):
            of_source, codes = batch.targets["is_source"], batch.targets["codes"]
            rows = trunk(batch.inputs)
            source = cross_entropy(module[2](rows[of_source]), codes[of_source])
            target = cross_entropy(module[1](rows[~of_source]), codes[~of_source])
            loss = weights[0] * source + weights[1] * target if weights else 0
            if not weights:  # Kendall et al., equation 10, of s as it stands there
                deviations = torch.exp(log_variances / 2)
                loss = source / deviations[0] ** 2 + target / deviations[1] ** 2 + deviations.log().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return module, log_variances


@pytest.mark.parametrize("weights", [None, (0.5, 2.0)])
def test_its_weights_are_those_of_a_plain_loop(weights: Any) -> None:
    source, (X, y) = two_tasks()
    options = {"optimizer": "SGD", "scheduler": None, "norm_statistics": "batch", "learning_rates": {"*": 0.1}}
    repurposer = multi(task_weights=weights or "learned", **options)
    labels = np.array([int(label) if place % 4 else None for place, label in enumerate(y)], object)
    task = repurposer._prepare_task((X, np.arange(16)), source_data=source, labels=labels, seed=1)
    module, log_variances = by_hand(task, weights)
    train(task)
    trunk = [*module[0].parameters()]
    own = [parameter for name, parameter in task.module.named_parameters() if not name.startswith("heads")]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(trunk, own, strict=True))
    assert torch.allclose(task.module.heads.source.weight, module[2].weight, atol=1e-5)
    if not weights:
        assert torch.allclose(task.module.heads.log_variances, log_variances, atol=1e-5)
        assert (log_variances.abs() > 1e-3).all()


def test_rows_of_the_target_without_a_label_are_left_out() -> None:
    source, (X, y) = two_tasks()
    labels = [int(label) if place < 6 else None for place, label in enumerate(y)]
    repurposer = multi(validation_fraction=0.5).repurpose(X, labels, source_data=source)
    assert (repurposer.n_target_rows_, repurposer.n_target_labels_) == (16, 6)
    assert repurposer.history_[0]["validation_domain"] == "target"
    assert repurposer.class_counts_.tolist() == [4, 2]
    numbers = np.array(labels, object)
    task = multi()._prepare_task((X, np.arange(16)), source_data=source, labels=numbers, seed=1)
    assert task.batches.streams["target"].rows.tolist() == list(range(6))
    floats = torch.tensor([float("nan") if label is None else label for label in labels])
    loader = DataLoader(TensorDataset(X, floats), batch_size=4)
    assert multi().repurpose(loader, source_data=source).n_target_labels_ == 6


def test_a_frozen_trunk_is_computed_once_and_changes_nothing(caplog: Any) -> None:
    source, (X, y) = two_tasks()
    options = {"learning_rates": {"0": 0, "1": 0, "*": 0.05}, "num_epochs": 3}
    with caplog.at_level("INFO"):
        cached = multi(**options).repurpose(X, y, source_data=source)
    assert "is computed once: target: 16 rows" in caplog.text
    whole = multi(cache_frozen=False, **options).repurpose(X, y, source_data=source)
    assert np.abs(cached.predict_probability(X) - whole.predict_probability(X)).max() < 1e-5


def test_members_each_learn_both_tasks() -> None:
    source, (X, y) = two_tasks()
    repurposer = multi(num_members=2, class_weight={1: 2.0}).repurpose(X, y, source_data=source)
    assert repurposer.predict_probability(X, task="source").shape == (16, 3)
    assert repurposer.predict_uncertainty(X).epistemic is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": None}, "MultiTaskRepurposer requires y to be passed"),
        ({"y": [None] * 16}, "MultiTaskRepurposer requires y to be passed"),
        ({"y": [1] * 16}, "labels hold 1 class"),
        ({"source_data": None}, "MultiTaskRepurposer needs source_data"),
        ({"source_data": (torch.rand(4, 1, 5, 5), [0, 1] * 2)}, r"are float32 of shape \(1, 5, 5\)"),
        ({"source_data": {"a": (torch.rand(4, 1, 6, 6), [0, 1] * 2), "b": (torch.rand(4, 1, 6, 6), ["x", "y"] * 2)}}, "labels of the domains are of different kinds"),  # noqa: E501
    ],
)  # fmt: skip
def test_what_cannot_be_learned_from_is_refused(change: dict[str, Any], message: str) -> None:
    source, (X, y) = two_tasks()
    with pytest.raises(ValueError, match=message):
        multi().repurpose(**{"data": X, "y": y, "source_data": source, **change})


@pytest.mark.parametrize("weights", ["equal", (1,), (1, 0), (1, float("nan")), None, 2.0, (1, 2, 3), (True, 1)])
def test_wrong_task_weights_are_refused(weights: Any) -> None:
    source, (X, y) = two_tasks()
    with pytest.raises(ValueError, match='task_weights must be "learned" or two numbers above 0'):
        multi(task_weights=weights).repurpose(X, y, source_data=source)

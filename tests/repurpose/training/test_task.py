"""A method supplies its batches, its loss, its evaluation and what it saves, and all else goes its usual way."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from repurpose.training import History
from repurpose.training.checkpoints.checkpoints import OtherTrainingError
from repurpose.training.finder import find_learning_rate
from tests.repurpose.training.examples import assert_same, rows
from tests.repurpose.training.two_streams import SourceError, TwoStreamRepurposer

TARGET, SOURCE = rows(64), rows(96, seed=3)
BODY = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh())


def two_streams(**options: Any) -> TwoStreamRepurposer:
    given = {"num_epochs": 3, "optimizer": "SGD", "optimizer_params": {"learning_rate": 0.3}, "scheduler": None}
    return TwoStreamRepurposer(BODY, batch_size=16, random_state=0, accumulation=2, **{**given, **options})


def learned(source_data: Any = SOURCE, **options: Any) -> TwoStreamRepurposer:
    return two_streams(**options).repurpose(TARGET, source_data=source_data)


def records(history: History) -> list[dict[str, Any]]:
    return [{name: value for name, value in record.items() if name != "seconds"} for record in history]


def test_two_streams_train_the_weights_of_a_loop_by_hand_bit_for_bit() -> None:
    found = learned()
    task = two_streams()._prepare_task(TARGET, source_data=SOURCE)
    module, parameters = task.module.train(), dict(task.module.named_parameters())
    groups = [
        {"params": [parameters[name] for name in group.parameters], "lr": group.learning_rate} for group in task.groups
    ]
    optimizer = torch.optim.SGD(groups)
    n_calls, errors = 0, []
    for epoch in range(3):
        streams = [task.batches.streams[name].epoch(epoch) for name in ("target", "source")]
        for number, (target, source) in enumerate(zip(*streams)):
            n_calls += 1
            own, other = (cross_entropy(module(batch.inputs), batch.targets) for batch in (target, source))
            ((own + other / n_calls) / 2).backward()
            if number % 2 == 1:
                optimizer.step()
                optimizer.zero_grad()
        with torch.no_grad():
            read = [batch for batch, _ in zip(task.batches.streams["source"].epoch(0), range(4))]
            errors.append(np.mean([(module(batch.inputs).argmax(dim=1) != batch.targets).numpy() for batch in read]))
    assert_same(found.target_model_, module)
    assert found.history_.values("source_error") == pytest.approx(errors)
    assert "validation_loss" not in found.history_[-1]
    assert (module[0][0].weight - BODY[0].weight).abs().max() > 1e-3


def test_an_interrupted_training_is_resumed_with_what_the_method_saves(tmp_path: Path) -> None:
    def interrupt(state: Any, record: dict[str, Any]) -> None:
        if record["epoch"] == 1:
            raise KeyboardInterrupt

    plain = learned()
    with pytest.raises(KeyboardInterrupt):
        learned(checkpoint_dir=tmp_path, callbacks=(interrupt,))
    resumed = learned(checkpoint_dir=tmp_path)
    assert_same(resumed.target_model_, plain.target_model_)
    assert records(resumed.history_) == records(plain.history_)


def test_a_checkpoint_is_that_of_both_streams(tmp_path: Path) -> None:
    learned(checkpoint_dir=tmp_path)
    X, y = SOURCE
    with pytest.raises(OtherTrainingError, match=r"(?s)- labels of source: .*\n- inputs of source: "):
        learned((X + 1, y[::-1].copy()), checkpoint_dir=tmp_path)


def test_a_checkpoint_is_that_of_the_methods_evaluation_and_saved_parts() -> None:
    task = two_streams()._prepare_task(TARGET, source_data=SOURCE)
    described = replace(task, saved={}, evaluation=None).describe()
    assert {name: value for name, value in task.describe().items() if name not in described} == {
        "evaluation": SourceError,
        "saved": ["fading"],
    }


def test_early_stopping_goes_by_the_score_of_the_method() -> None:
    options = {"num_epochs": 30, "optimizer_params": {"learning_rate": 0.05}, "early_stopping": 2}
    found = learned(**options).history_
    errors = found.values("source_error")
    assert found.best_epoch == int(np.argmin(errors)) == len(found) - 3
    assert found.ending == "the source error did not fall for 2 epochs"


def test_a_network_with_a_frozen_part_is_trained_whole_on_two_streams(caplog: pytest.LogCaptureFixture) -> None:
    start = copy.deepcopy(BODY[0].weight)
    with caplog.at_level("INFO"):
        found = learned(learning_rates={"1": 0.3, "*": 0}, optimizer_params=None)
    assert torch.equal(found.target_model_[0][0].weight, start)
    assert "the network is trained whole: its loss is of its own, and may look into it" in caplog.messages
    with pytest.raises(ValueError, match=r"cache_frozen=True cannot be: .* its batches are made of several streams"):
        learned(learning_rates={"1": 0.3, "*": 0}, optimizer_params=None, cache_frozen=True)


def test_a_learning_rate_is_looked_for_with_both_streams_and_nothing_moves() -> None:
    task = two_streams()._prepare_task(TARGET, source_data=SOURCE, seed=0)
    before = copy.deepcopy(task.module)
    found = find_learning_rate(task, n_steps=6)
    assert len(found.losses) == 6
    assert_same(task.module, before)
    assert task.objective.n_calls == 0

"""A method supplies its batches, its loss, its evaluation and what it saves, and all else goes its usual way."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from model_handler import ModelError
from repurpose.training import BatchSource, EpochEvaluation, GroupTable, History, Objective, Task, TrainingBatch, train
from repurpose.training.checkpoints.checkpoints import Checkpoints, OtherTrainingError
from repurpose.training.finder import find_learning_rate
from tests.repurpose.training.examples import assert_same, batches, plan, rows
from tests.repurpose.training.examples import task as make_task
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
    with pytest.raises(
        ValueError, match=r"cache_frozen=True cannot be: .* its batches are made of streams in a way of their own"
    ):
        learned(learning_rates={"1": 0.3, "*": 0}, optimizer_params=None, cache_frozen=True)


def test_a_learning_rate_is_looked_for_with_both_streams_and_nothing_moves() -> None:
    task = two_streams()._prepare_task(TARGET, source_data=SOURCE, seed=0)
    before = copy.deepcopy(task.module)
    found = find_learning_rate(task, n_steps=6)
    assert len(found.losses) == 6
    assert_same(task.module, before)
    assert task.objective.n_calls == 0


def small_task(**parts: Any) -> Task:
    torch.manual_seed(0)
    module = nn.Sequential(copy.deepcopy(BODY), nn.Linear(8, 3))
    how = plan(num_epochs=2, accumulation=2, cache_frozen="auto")
    return replace(make_task(module, batches(TARGET, batch_size=16), how, CrossEntropy()), **parts)


class CrossEntropy(Objective):
    def loss(self, module: nn.Module, inputs: Any, targets: Any) -> torch.Tensor:
        return cross_entropy(module(inputs), targets)


class Following(CrossEntropy):
    """Has a teacher that averages the weights, and is right about every row."""

    def __init__(self, teacher: nn.Module) -> None:
        self.teacher, self.seen = teacher, []

    def after_step(self, module: nn.Module) -> None:
        self.seen.append(copy.deepcopy(module.state_dict()))
        for own, weight in zip(self.teacher.parameters(), module.parameters()):
            own.lerp_(weight, 0.25)


def test_what_comes_before_the_first_step_comes_once_and_to_a_search_for_the_rate_too() -> None:
    class Asking(CrossEntropy):
        def __init__(self) -> None:
            self.seen: list[str] = []

        def before_training(self) -> None:
            self.seen.append("asked")

        def loss(self, module: nn.Module, inputs: Any, targets: Any) -> torch.Tensor:
            self.seen.append("loss")
            return super().loss(module, inputs, targets)

    for work in (train, lambda task: find_learning_rate(task, n_steps=5)):
        objective = Asking()
        work(small_task(objective=objective))
        assert objective.seen.count("asked") == 1
        assert objective.seen[:2] == ["asked", "loss"]


class Single(BatchSource):
    def epoch(self, number: int) -> Iterator[TrainingBatch]:
        return self.streams["only"].epoch(number)


class Tuples(Single):
    def epoch(self, number: int) -> Iterator[Any]:
        return ((batch.inputs, batch.targets) for batch in super().epoch(number))


class Measured(EpochEvaluation):
    score = "error"

    def __init__(self, given: BatchSource, found: Any) -> None:
        super().__init__(given)
        self.found = found

    def measure(self, module: nn.Module, batches: Iterator[TrainingBatch], process_group: Any) -> Any:
        return self.found


class Counter:
    """Counts, and takes back no count of more than `limit`."""

    def __init__(self, limit: int = 100) -> None:
        self.n, self.limit = 0, limit

    def state_dict(self) -> dict[str, int]:
        return {"n": self.n}

    def load_state_dict(self, state: dict[str, int]) -> None:
        if state["n"] > self.limit:
            raise KeyError("n")
        self.n = state["n"]


def test_parts_of_other_kinds_are_named_all_at_once() -> None:
    with pytest.raises(TypeError) as caught:
        small_task(
            batches=[1], objective=CrossEntropy, evaluation=len, saved={"": Counter(), "head": 3, "count": Counter}
        )
    assert str(caught.value).splitlines() == [
        "batches must be an object of a class that derives from BatchSource, got list",
        "objective must be an object of a class that derives from Objective, got the class CrossEntropy itself: "
        "call it",
        "evaluation must be an object of a class that derives from EpochEvaluation, got builtin_function_or_method",
        "saved must have texts as names, got ''",
        "saved['head'] must have the methods state_dict and load_state_dict, got int",
        "saved['count'] must have the methods state_dict and load_state_dict, got the class Counter itself: call it",
    ]
    with pytest.raises(TypeError, match="saved must be a dict of objects by names of their own, got list"):
        small_task(saved=[Counter()])
    with pytest.raises(TypeError, match=r"evaluation\.batches must be .* that derives from BatchSource, got list"):
        small_task(evaluation=Measured([1], {}))


def test_streams_are_batches_by_name() -> None:
    with pytest.raises(TypeError, match=r"Single needs a dict of one or several TrainingBatches, got \{\}"):
        Single({})
    with pytest.raises(TypeError, match="TrainingBatches, got list"):
        Single([batches(TARGET)])
    with pytest.raises(TypeError, match=r"TrainingBatches, got \{'only': 'Single'\}"):
        Single({"only": Single({"only": batches(TARGET)})})


def test_a_source_that_gives_no_batches_is_named() -> None:
    with pytest.raises(TypeError, match=r"Tuples\.epoch must give objects of TrainingBatch, got tuple"):
        train(small_task(batches=Tuples({"only": batches(TARGET)})))


def test_a_source_with_another_number_of_batches_than_it_says_is_warned_of(recwarn: pytest.WarningsRecorder) -> None:
    class Twice(Single):
        def epoch(self, number: int) -> Iterator[TrainingBatch]:
            return chain(*(super(Twice, self).epoch(number) for _ in range(2)))

    class Counted(Twice):
        def __init__(self, streams: Any) -> None:
            super().__init__(streams)
            self.n_batches *= 2

    given = {"only": batches(TARGET, batch_size=16)}
    train(small_task(batches=Counted(given)))
    assert not recwarn
    with pytest.warns(UserWarning, match="Twice gave 8 batches in the first epoch and says that there are 4, which"):
        train(small_task(batches=Twice(given)))


def test_parameters_that_only_the_objective_has_are_warned_of(recwarn: pytest.WarningsRecorder) -> None:
    task, objective = small_task(), CrossEntropy()
    objective.judge = nn.Linear(8, 1)
    with pytest.warns(UserWarning, match=r"CrossEntropy\.judge has parameters that are no part of the module, so they"):
        train(replace(task, objective=objective))
    objective.judge.requires_grad_(False)
    train(replace(task, objective=objective))
    objective.judge = task.module[1].requires_grad_(True)
    train(replace(task, objective=objective))
    assert not recwarn


def test_batches_that_all_weigh_nothing_are_told() -> None:
    objective = CrossEntropy()
    objective.weight = lambda batch: 0.0
    with pytest.raises(ValueError, match="the data gave no batch to train on: all weigh 0"):
        train(small_task(objective=objective))


def test_a_hook_that_returns_no_task_is_named() -> None:
    class Forgetful(TwoStreamRepurposer):
        def _prepare_task(self, *data: Any, **how: Any) -> Any:
            super()._prepare_task(*data, **how)

    with pytest.raises(TypeError, match=r"Forgetful\._prepare_task must return a Task, got NoneType"):
        Forgetful(BODY).repurpose(TARGET, source_data=SOURCE)


def test_a_method_answers_questions_before_training_by_what_it_takes_beside_the_data() -> None:
    class Answering(TwoStreamRepurposer):
        def parameter_groups(self, data: Any = None, y: Any = None, *, source_data: Any = None) -> GroupTable:
            return self._try_out(lambda task: task.groups, data, y, source_data=source_data)

    repurposer = Answering(BODY, num_epochs=1)
    assert "0.0.weight" in str(repurposer.parameter_groups(TARGET, source_data=SOURCE))
    assert not hasattr(repurposer, "classes_")


@pytest.mark.parametrize("weight", [None, -1.0, float("nan")])
def test_a_weight_that_is_no_share_of_a_mean_is_refused(weight: Any) -> None:
    objective = CrossEntropy()
    objective.weight = lambda batch: weight
    with pytest.raises(ModelError, match=r"CrossEntropy\.weight must return one number of at least 0, .*got"):
        train(small_task(objective=objective))


def test_what_is_measured_is_recorded_as_plain_numbers() -> None:
    task = small_task()
    found = {"error": torch.tensor(0.5), "n": np.int64(3), "shown": np.array([0.25])}
    record = train(replace(task, evaluation=Measured(task.batches, found)))[-1]
    assert {name: repr(record[name]) for name in found} == {"error": "0.5", "n": "3.0", "shown": "0.25"}


@pytest.mark.parametrize(
    ("found", "error", "words"),
    [
        (None, TypeError, r"Measured\.measure must return a dict of numbers by name, got None"),
        ({"wrong": 1.0}, ValueError, r"Measured measures \['wrong'\], and not its score 'error'"),
        ({"error": None}, TypeError, r"Measured measures error=None; each quantity must be one number"),
        ({"error": 1.0, "by_class": torch.ones(2)}, TypeError, r"by_class=tensor\(\[1\., 1\.\]\); each"),
        ({"error": 1.0, "loss": 1.0, "epoch": 3}, ValueError, r"measures \['loss', 'epoch'\], names of what training"),
    ],
)
def test_what_cannot_be_recorded_is_named(found: Any, error: type[Exception], words: str) -> None:
    task = small_task()
    with pytest.raises(error, match=words):
        train(replace(task, evaluation=Measured(task.batches, found)))


def test_a_saved_part_that_does_not_take_its_state_is_named(tmp_path: Path) -> None:
    counter, checkpoints = Counter(), Checkpoints(tmp_path)
    counter.n = 5
    train(small_task(saved={"count": counter}), checkpoints=checkpoints)
    words = "the saved part 'count', of Counter, does not take the state that it had: KeyError: 'n'"
    with pytest.raises(ValueError, match=words):
        train(small_task(saved={"count": Counter(limit=4)}), checkpoints=checkpoints)


def test_a_teacher_follows_each_step_of_the_optimiser_and_is_resumed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    start = nn.Sequential(BODY, nn.Linear(8, 3)).requires_grad_(False)

    def learned_by(objective: Following, stop_after: int | None = None, **options: Any) -> None:
        def interrupt(state: Any, record: dict[str, Any]) -> None:
            if record["epoch"] == stop_after:
                raise KeyboardInterrupt

        how = plan(num_epochs=3, accumulation=2, callbacks=(interrupt,))
        module = copy.deepcopy(start).requires_grad_(True)
        task = make_task(module, batches(TARGET, batch_size=16), how, objective, saved={"teacher": objective.teacher})
        train(task, **options)

    plain = Following(copy.deepcopy(start))
    learned_by(plain)
    assert len(plain.seen) == 6  # four batches an epoch, two of them a step
    by_hand = copy.deepcopy(start).state_dict()
    for weights in plain.seen:
        by_hand = {name: 0.75 * value + 0.25 * weights[name] for name, value in by_hand.items()}
    torch.testing.assert_close(dict(plain.teacher.state_dict()), by_hand)
    with pytest.raises(KeyboardInterrupt):
        learned_by(Following(copy.deepcopy(start)), stop_after=1, checkpoints=Checkpoints(tmp_path))
    resumed = Following(copy.deepcopy(start))
    learned_by(resumed, checkpoints=Checkpoints(tmp_path))
    assert_same(resumed.teacher, plain.teacher)


def test_a_loss_that_calls_the_network_itself_may_be_computed_on_cached_activations() -> None:
    trained = {}
    for cached in (True, False):
        torch.manual_seed(0)
        module = nn.Sequential(copy.deepcopy(BODY), nn.Linear(8, 3))
        how = plan(learning_rates={"1": 0.3, "*": 0}, cache_frozen=cached)
        train(make_task(module, batches(TARGET, batch_size=16), how, CrossEntropy()))
        trained[cached] = module
    torch.testing.assert_close(dict(trained[True].state_dict()), dict(trained[False].state_dict()))

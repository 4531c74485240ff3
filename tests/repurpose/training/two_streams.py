"""Methods that train on two streams: source and target data in each step, the source counting ever less, or as much."""

import copy
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from repurpose import NeuralNetworkRepurposer
from repurpose.neural_network.preparation_steps import LabelledRows, read_training_data
from repurpose.training import BatchSource, EpochEvaluation, Objective, Task, TrainingBatch, TrainingBatches


class Pairs(BatchSource):
    def epoch(self, number: int) -> Iterator[TrainingBatch]:
        for target, source in zip(self.streams["target"].epoch(number), self.streams["source"].epoch(number)):
            yield replace(target, inputs=(target.inputs, source.inputs), targets=(target.targets, source.targets))


class Joined(BatchSource):
    """Rows of each stream one after the other; a stream that is shorter than another is given again."""

    rows_are_unchanged = True

    def __init__(self, streams: Any) -> None:
        super().__init__(streams)
        self.n_batches = max(stream.n_batches for stream in streams.values())

    def epoch(self, number: int) -> Iterator[TrainingBatch]:
        laps = [self._laps(stream, number) for stream in self.streams.values()]
        for parts in itertools.islice(zip(*laps), self.n_batches):
            inputs = [part.inputs for part in parts]
            several = isinstance(inputs[0], tuple)
            joined = tuple(map(torch.cat, zip(*inputs))) if several else torch.cat(inputs)
            yield TrainingBatch(joined, torch.cat([part.targets for part in parts]), sum(part.n_rows for part in parts))

    @staticmethod
    def _laps(stream: TrainingBatches, number: int) -> Iterator[TrainingBatch]:
        for lap in itertools.count():
            yield from stream.epoch(100 * number + lap)


class Fading(Objective):
    n_calls = 0

    def loss(self, module: nn.Module, inputs: Any, targets: Any) -> Tensor:
        self.n_calls += 1
        target, source = (cross_entropy(module(X), y) for X, y in zip(inputs, targets))
        return target + source / self.n_calls

    def state_dict(self) -> dict[str, Any]:
        return {"n_calls": self.n_calls}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.n_calls = state["n_calls"]


class SourceError(EpochEvaluation):
    score = "source_error"

    def measure(self, module: nn.Module, batches: Iterator[TrainingBatch], process_group: Any) -> dict[str, float]:
        wrong = [(module(batch.inputs[1]).argmax(dim=1) != batch.targets[1]).float().mean().item() for batch in batches]
        total, n_batches = process_group.all_reduce_sum(sum(wrong), len(wrong))
        return {"source_error": total / n_batches}


class TwoStreamRepurposer(NeuralNetworkRepurposer):
    def _create_target_module(self, example_inputs: Any) -> nn.Module:
        return nn.Sequential(copy.deepcopy(self.source_model), nn.Linear(8, 3))

    def repurpose(self, data: Any, y: Any = None, *, source_data: Any, validation_data: Any = None) -> Any:
        return self._learn_by(lambda given: self._learn(given, validation_data, source_data=source_data), data, y)

    def _prepare_task(self, data: Any, validation_data: Any = None, *, source_data: Any, **how: Any) -> Task:
        task = super()._prepare_task(data, validation_data, **how)
        return self._of_both(task, {"target": task.batches, "source": self._source_batches(source_data, task)})

    def _source_batches(self, source_data: Any, task: Task) -> TrainingBatches:
        reading = self._reading()
        found = read_training_data(source_data, reading, task.plan.seed, type(self).__name__)
        return LabelledRows.all_of(source_data, found.seen).batches(self.classes_, task.plan.seed, reading)

    def _of_both(self, task: Task, streams: dict[str, TrainingBatches]) -> Task:
        pairs, fading = Pairs(streams), Fading()
        return replace(task, batches=pairs, objective=fading, evaluation=SourceError(pairs), saved={"fading": fading})


class PooledRepurposer(TwoStreamRepurposer):
    """Learns rows of both streams as if they were of one."""

    def _of_both(self, task: Task, streams: dict[str, TrainingBatches]) -> Task:
        return replace(task, batches=Joined(streams))

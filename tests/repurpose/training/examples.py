"""Small networks, rows and hand-written loops that the tests of this folder share."""

from collections.abc import Callable, Collection
from dataclasses import fields, replace
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from repurpose import NeuralNetworkRepurposer
from repurpose.training import History, TrainingBatches, TrainingPlan, loop
from repurpose.training.checkpoints.checkpoints import Checkpoints
from repurpose.training.distributed.process_group import ProcessGroup
from repurpose.training.plan.groups import make_groups
from repurpose.training.steps.forward import call
from repurpose.training.steps.losses import cross_entropy, make_mixing
from repurpose.training.steps.objective import ClassificationObjective, Objective
from repurpose.training.task import Task
from repurpose.training.validation import Validation
from tests.repurpose.examples import blobs

CLASSES = np.arange(3)


def rows(n_rows: int = 50, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return blobs(n_rows, seed=seed)


def network(seed: int = 0) -> nn.Module:
    """Two linear layers, "body" and "head", with normalisation between: 4 -> 8 -> 3."""
    torch.manual_seed(seed)
    layers = {"body": nn.Linear(4, 8), "norm": nn.LayerNorm(8), "act": nn.ReLU(), "head": nn.Linear(8, 3)}
    made = nn.Sequential()
    for name, layer in layers.items():
        made.add_module(name, layer)
    return made


def batches(data: Any = None, *, seed: int | None = 0, batch_size: int = 16, **options: Any) -> TrainingBatches:
    data = rows() if data is None else data
    n_rows = len(data[1])
    counts = {
        "rows": np.arange(n_rows),
        "n_rows": n_rows,
        "n_batches": -(-n_rows // batch_size),
        "max_batch_size": batch_size,
    }
    return TrainingBatches(data, CLASSES, seed=seed, batch_size=batch_size, **counts, **options)


def objective(weights: Tensor | None = None, smoothing: float = 0.0) -> Objective:
    def loss(module: nn.Module, inputs: Any, targets: Tensor) -> Tensor:
        return cross_entropy(call(module, inputs), targets, weights, smoothing)

    return ClassificationObjective(loss, 3, weights)


def plan(**options: Any) -> TrainingPlan:
    """Plain SGD at one rate for all, without a schedule, unless said otherwise; all else by default."""
    plain = {"optimizer": "SGD", "learning_rates": {"*": 0.1}, "scheduler": None, "num_epochs": 3}
    others = {"norm_statistics": "batch", "seed": 0}
    defaults = {name: parameter.default for name, parameter in signature(NeuralNetworkRepurposer).parameters.items()}
    known = {field.name for field in fields(TrainingPlan)}
    values = {**defaults, **plain, **others, **options}
    return TrainingPlan(**{name: value for name, value in values.items() if name in known})


def task(
    module: nn.Module,
    given: TrainingBatches,
    how: TrainingPlan,
    goal: Objective | None = None,
    *,
    new: Collection[str] = (),
    validation: TrainingBatches | None = None,
    **more: Any,
) -> Task:
    """A task of classification, validated as Repurposers do."""
    goal = objective() if goal is None else goal
    mixing = make_mixing(how, 3)
    goal = goal if mixing is None else replace(goal, mixing=mixing)
    judged = None if validation is None else Validation(validation, getattr(goal, "class_weights", None))
    return Task(module, how, make_groups(module, how, new), new, given, goal, judged, **more)


def train(
    module: nn.Module,
    given: TrainingBatches,
    how: TrainingPlan,
    goal: Objective | None = None,
    *,
    checkpoints: Checkpoints | None = None,
    process_group: ProcessGroup | None = None,
    **options: Any,
) -> History:
    """Train a module, in place, as a task of these parts."""
    return loop.train(task(module, given, how, goal, **options), checkpoints=checkpoints, process_group=process_group)


def trained(given: TrainingPlan, module: nn.Module | None = None, **options: Any) -> nn.Module:
    module = network() if module is None else module
    data = options.pop("data", None)
    train(module, batches(data) if data is None else data, given, options.pop("objective", None), **options)
    return module


def by_hand(
    optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    given: TrainingBatches,
    *,
    n_epochs: int = 3,
    loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
    before_step: Callable[[nn.Module], None] = lambda module: None,
    after_step: Callable[[nn.Module], None] = lambda module: None,
    scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
    module: nn.Module | None = None,
) -> nn.Module:
    """The loop that everyone writes, on the same batches."""
    module = network() if module is None else module
    steps = optimizer(module)
    schedule = scheduler(steps) if scheduler else None
    module.train()
    for epoch in range(n_epochs):
        for batch in given.epoch(epoch):
            steps.zero_grad()
            loss(module(batch.inputs), batch.targets).backward()
            before_step(module)
            steps.step()
            after_step(module)
            if schedule is not None:
                schedule.step()
    return module.eval()


def assert_same(first: nn.Module, second: nn.Module, tolerance: float = 0.0) -> None:
    """All weights and buffers equal, bit for bit or within `tolerance`."""
    first_state, second_state = first.state_dict(), second.state_dict()
    assert first_state.keys() == second_state.keys()
    for name in first_state:
        if tolerance:
            torch.testing.assert_close(first_state[name], second_state[name], rtol=0, atol=tolerance)
        else:
            assert torch.equal(first_state[name], second_state[name]), name

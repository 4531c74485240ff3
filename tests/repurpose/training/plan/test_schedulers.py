import math
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from model_handler import ModelError
from repurpose.training.plan.plan import TrainingPlan
from repurpose.training.plan.schedulers import make_scheduler, steps_each_batch, warmup_cosine
from tests.repurpose.training.examples import plan


def made(given: TrainingPlan, optimizer: torch.optim.Optimizer, steps_per_epoch: int) -> Any:
    lengths = {"num_epochs": given.num_epochs, "steps_per_epoch": steps_per_epoch}
    return make_scheduler(optimizer, given.scheduler, given.scheduler_params, **lengths)


def sgd(*rates: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in rates or (0.1,)])


def test_warm_up_and_cosine_have_the_values_of_their_formulas() -> None:
    factor = warmup_cosine(20, warmup=0.2, final=0.1)
    assert [factor(step) for step in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert factor(4) == 1.0
    assert factor(12) == pytest.approx(0.55)
    assert factor(19) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 15 / 16)))
    assert factor(20) == pytest.approx(0.1)


@pytest.mark.parametrize(("n_steps", "n_warmup"), [(9, 0), (10, 1), (19, 1), (20, 2), (29, 2)])
def test_a_part_of_a_step_of_warm_up_is_none(n_steps: int, n_warmup: int) -> None:
    factor = warmup_cosine(n_steps, warmup=0.1)
    rising = [(step + 1) / (n_warmup + 1) for step in range(n_warmup)]
    assert [factor(step) for step in range(n_warmup + 1)] == pytest.approx([*rising, 1.0])
    assert factor(n_warmup + 1) < 1


def test_the_default_schedule_moves_every_group_by_the_same_factor() -> None:
    optimizer = sgd(1.0, 0.5)
    scheduler = made(plan(scheduler="warmup_cosine", num_epochs=2), optimizer, steps_per_epoch=10)
    factor = warmup_cosine(20)
    for step in range(20):
        assert {group["lr"] for group in optimizer.param_groups} == {factor(step), 0.5 * factor(step)}
        optimizer.step()
        scheduler.step()
    assert steps_each_batch(scheduler)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("CosineAnnealingLR", {}),
        ("OneCycleLR", {}),
        ("PolynomialLR", {}),
        ("ExponentialLR", {"gamma": 0.9}),
        ("ReduceLROnPlateau", {"patience": 1}),
        (torch.optim.lr_scheduler.StepLR, {"step_size": 2}),
    ],
)
def test_schedulers_of_torch_go_by_name_and_get_the_length_of_the_training(name: Any, params: dict[str, Any]) -> None:
    given = plan(scheduler=name, scheduler_params=params, num_epochs=4)
    assert given.mistakes() == []
    optimizer = sgd()
    scheduler = made(given, optimizer, steps_per_epoch=3)
    if name == "CosineAnnealingLR":
        assert scheduler.T_max == 4
    if name == "OneCycleLR":
        assert scheduler.total_steps == 12
        assert [group["max_lr"] for group in optimizer.param_groups] == [0.1]
    assert steps_each_batch(scheduler) == (name == "OneCycleLR")


@pytest.mark.parametrize(
    ("kind", "options", "each_batch"),
    [
        (lr_scheduler.OneCycleLR, {"max_lr": 0.1, "total_steps": 9}, True),
        (lr_scheduler.CyclicLR, {"base_lr": 0.01, "max_lr": 0.1, "cycle_momentum": False}, True),
        (lr_scheduler.LambdaLR, {"lr_lambda": warmup_cosine(9)}, True),
        (lr_scheduler.LambdaLR, {"lr_lambda": lambda epoch: 0.5}, False),
        (lr_scheduler.CosineAnnealingLR, {"T_max": 3}, False),
        (lr_scheduler.ReduceLROnPlateau, {}, False),
    ],
)
def test_schedulers_move_on_with_the_steps_or_with_the_epochs(kind: Any, options: dict, each_batch: bool) -> None:
    assert steps_each_batch(kind(sgd(), **options)) is each_batch


def test_a_function_that_makes_no_scheduler_and_too_short_a_cycle_are_refused() -> None:
    with pytest.raises(TypeError, match="but gave 5"):
        made(plan(scheduler=lambda optimizer: 5), sgd(), steps_per_epoch=2)
    short = plan(scheduler="OneCycleLR", scheduler_params={"total_steps": 3}, num_epochs=4)
    with pytest.raises(ModelError, match="ends after 3 steps, and training takes 8"):
        made(short, sgd(), steps_per_epoch=2)


def test_numbers_for_each_group_are_left_to_the_scheduler() -> None:
    rates = {"scheduler": "OneCycleLR", "scheduler_params": {"max_lr": [0.1, 0.2]}}
    assert plan(**rates).mistakes() == []

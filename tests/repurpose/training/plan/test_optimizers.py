import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from model_handler import ModelError
from repurpose.training.plan.groups import make_groups
from repurpose.training.plan.optimizers import (
    base_weight_decay,
    make_optimizer,
    make_scheduler,
    optimizer_class,
    steps_each_batch,
    warmup_cosine,
)
from tests.repurpose.training.examples import network, plan


def made(**options: Any) -> torch.optim.Optimizer:
    module, given = network(), plan(**options)
    return make_optimizer(module, make_groups(module, given, ()), given)


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
    optimizer = made(scheduler="warmup_cosine", learning_rates={"head": 1.0, "*": 0.5}, num_epochs=2)
    scheduler = make_scheduler(optimizer, plan(scheduler="warmup_cosine", num_epochs=2), steps_per_epoch=10)
    factor = warmup_cosine(20)
    for step in range(20):
        assert {group["lr"] for group in optimizer.param_groups} == {factor(step), 0.5 * factor(step)}
        optimizer.step()
        scheduler.step()
    assert steps_each_batch(scheduler)


@pytest.mark.parametrize("name", ["sgd", "Adam", "AdamW", "NAdam", "RMSprop", "Adagrad", "Adafactor"])
def test_optimisers_of_torch_go_by_name(name: str) -> None:
    assert type(made(optimizer=name)).__name__.lower() == name.lower()


def test_an_optimiser_may_be_a_class_with_parameters() -> None:
    optimizer = made(optimizer=torch.optim.SGD, optimizer_params={"momentum": 0.9, "nesterov": True})
    assert all(group["momentum"] == 0.9 and group["nesterov"] for group in optimizer.param_groups)
    assert optimizer_class(torch.optim.SGD) is torch.optim.SGD


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
    optimizer = made()
    scheduler = make_scheduler(optimizer, given, steps_per_epoch=3)
    if name == "CosineAnnealingLR":
        assert scheduler.T_max == 4
    if name == "OneCycleLR":
        assert scheduler.total_steps == 12
        assert [group["max_lr"] for group in optimizer.param_groups] == [0.1]
    assert steps_each_batch(scheduler) == (name == "OneCycleLR")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "Adma"}, "optimizer must be a class of torch.optim or its name, got 'Adma'; nearest: .*Adam"),
        ({"optimizer": nn.Linear}, "optimizer must be a class of torch.optim"),
        ({"optimizer": "LBFGS"}, "LBFGS evaluates the loss several times"),
        ({"optimizer": torch.optim.Optimizer}, "optimizer must be a class of torch.optim"),
        ({"optimizer": "SparseAdam"}, "SparseAdam is for sparse gradients"),
        (
            {"optimizer": "Adam", "optimizer_params": {"betas": 0.9}},
            r"Adam does not take optimizer_params=\{'betas': 0.9\}",
        ),
        ({"optimizer_params": {"nesterov": True}}, "SGD does not take .*: Nesterov momentum requires a momentum"),
        (
            {"scheduler": "StepLR", "scheduler_params": {"step_size": 0}},
            "StepLR does not take scheduler_params=.*'step_size': 0",
        ),
        ({"scheduler": "OneCycleLR", "optimizer": "ASGD"}, "OneCycleLR does not take .*cycle_momentum"),
        ({"scheduler": "ChainedScheduler"}, r"needs scheduler_params\['schedulers'\]; a function makes one"),
        ({"optimizer_params": {"learnin_rate": 1}}, "no parameter 'learnin_rate'; nearest: .*learning_rate"),
        ({"optimizer_params": {"wd": 1}}, "SGD has no parameter 'wd'"),
        ({"optimizer_params": {"learning_rate": 0.1}}, "both say how fast to learn"),
        ({"optimizer_params": {"lr": 1, "learning_rate": 1}, "learning_rates": None}, "which are one thing"),
        ({"optimizer_params": {"learning_rate": -1}, "learning_rates": None}, "must be a positive number, got -1"),
        ({"optimizer_params": [1]}, "optimizer_params must be a dict"),
        ({"optimizer_params": {"weight_decay": -1}}, "must be at least 0"),
        ({"learning_rates": {"a": -1.0}}, r"numbers of at least 0 \(0 freezes\), got \{'a': -1.0\}"),
        ({"learning_rates": 0.1}, "learning_rates must be a dict"),
        ({"scheduler": "CosineLR"}, "scheduler must be .* got 'CosineLR'; nearest: "),
        ({"scheduler": "StepLR"}, r"StepLR needs scheduler_params\['step_size'\]"),
        ({"scheduler": "StepLR", "scheduler_params": {"step_size": 1, "gama": 1}}, "no parameter 'gama'; .*gamma"),
        ({"scheduler": None, "scheduler_params": {"warmup": 0.1}}, "without a scheduler"),
        ({"scheduler": "warmup_cosine", "scheduler_params": {"warm": 0.1}}, "no parameter 'warm'"),
        ({"scheduler": "warmup_cosine", "scheduler_params": {"warmup": 2}}, "a share from 0 to 1, got 2"),
    ],
)
def test_what_cannot_be_used_is_said_before_training(options: dict[str, Any], message: str) -> None:
    (mistake,) = plan(**options).mistakes()
    with pytest.raises(ValueError, match=message):
        raise ValueError(mistake)


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
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    assert steps_each_batch(kind(optimizer, **options)) is each_batch


def test_the_pull_to_the_source_takes_the_place_of_weight_decay() -> None:
    assert base_weight_decay(plan(optimizer="AdamW")) == 0.01
    assert base_weight_decay(plan(optimizer="AdamW", l2_sp=0.1)) == 0.0
    assert base_weight_decay(plan(optimizer="AdamW", l2_sp=0.1, optimizer_params={"weight_decay": 0.2})) == 0.2


def test_a_function_that_makes_no_scheduler_and_too_short_a_cycle_are_refused() -> None:
    with pytest.raises(TypeError, match="but gave 5"):
        make_scheduler(made(), plan(scheduler=lambda optimizer: 5), steps_per_epoch=2)
    short = plan(scheduler="OneCycleLR", scheduler_params={"total_steps": 3}, num_epochs=4)
    with pytest.raises(ModelError, match="ends after 3 steps, and training takes 8"):
        make_scheduler(made(), short, steps_per_epoch=2)


def test_numbers_for_each_group_are_left_to_the_scheduler() -> None:
    rates = {"scheduler": "OneCycleLR", "scheduler_params": {"max_lr": [0.1, 0.2]}}
    assert plan(**rates).mistakes() == []


def test_an_optimiser_for_matrices_says_that_it_cannot_train_biases() -> None:
    with pytest.raises(ModelError, match="optimizer Muon cannot train these parameters: Muon only supports 2D"):
        made(optimizer="Muon")

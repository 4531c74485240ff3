from typing import Any

import pytest
import torch
from torch import nn

from model_handler import ModelError
from repurpose.training.plan.groups import make_groups
from repurpose.training.plan.optimizers import base_weight_decay, make_optimizer, optimizer_class
from tests.repurpose.training.examples import network, plan


def made(**options: Any) -> torch.optim.Optimizer:
    module, given = network(), plan(**options)
    groups = make_groups(module, given, ())
    return make_optimizer(module, groups, given.optimizer, given.optimizer_params)


@pytest.mark.parametrize("name", ["sgd", "Adam", "AdamW", "NAdam", "RMSprop", "Adagrad", "Adafactor"])
def test_optimisers_of_torch_go_by_name(name: str) -> None:
    assert type(made(optimizer=name)).__name__.lower() == name.lower()


def test_an_optimiser_may_be_a_class_with_parameters() -> None:
    optimizer = made(optimizer=torch.optim.SGD, optimizer_params={"momentum": 0.9, "nesterov": True})
    assert all(group["momentum"] == 0.9 and group["nesterov"] for group in optimizer.param_groups)
    assert optimizer_class(torch.optim.SGD) is torch.optim.SGD


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


def test_the_l2_sp_penalty_takes_the_place_of_weight_decay() -> None:
    assert base_weight_decay("AdamW", None) == 0.01
    assert base_weight_decay("AdamW", None, has_l2_sp=True) == 0.0
    assert base_weight_decay("AdamW", {"weight_decay": 0.2}, has_l2_sp=True) == 0.2


def test_an_optimiser_for_matrices_says_that_it_cannot_train_biases() -> None:
    with pytest.raises(ModelError, match="optimizer Muon cannot train these parameters: Muon only supports 2D"):
        made(optimizer="Muon")

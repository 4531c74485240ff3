from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from repurpose.training.checkpoints.fitting import check_fits
from repurpose.training.state import TrainingState


def training() -> TrainingState:
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    return TrainingState(module, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step))


def after_a_step() -> TrainingState:
    state = training()
    state.module(torch.ones(1, 3)).sum().backward()
    state.optimizer.step()
    state.scheduler.step()
    state.step, state.epoch = 1, 1
    state.history.records.append({"epoch": 0, "loss": 1.0})
    return state


def check(found: dict[str, Any]) -> None:
    own = training()
    check_fits(found, own.state_dict(), own.optimizer, own.scheduler)


def test_a_later_state_of_the_same_training_fits() -> None:
    check(after_a_step().state_dict())


LIES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a part less": (lambda state: state.pop("step"), "the state has"),
    "half a step": (lambda state: state.update(step=0.5), "step is '0.5'"),
    "other weights": (
        lambda state: state["module"].update(weight=torch.zeros(2, 2)),
        r"module\.weight is torch.float32",
    ),
    "weights of another dtype": (lambda state: state["module"].update(bias=torch.zeros(2).double()), r"module\.bias"),
    "no number": (lambda state: state["module"].update(bias=torch.full((2,), torch.nan)), r"module\.bias holds NaN"),
    "more groups": (lambda state: state["optimizer"]["param_groups"].extend([{}] * 9), "has 10 items, where 1"),
    "another variant": (lambda state: state["optimizer"]["param_groups"][0].update(amsgrad=True), "other groups"),
    "another parameter": (lambda state: state["optimizer"]["state"].update({7: {}}), r"state\[7\] is of no parameter"),
    "other momenta": (
        lambda state: state["optimizer"]["state"][0].update(exp_avg=torch.zeros(5)),
        r"state\[0\]\.exp_avg does not fit",
    ),
    "no momenta": (lambda state: state["optimizer"]["state"][0].pop("exp_avg"), r"state\[0\] has"),
    "more rates": (lambda state: state["scheduler"]["base_lrs"].extend([1.0]), r"scheduler\.base_lrs has 2 items"),
    "records of no epoch": (lambda state: state["history"].update(records=[{"epoch": 5}]), "one an epoch"),
    "kept of nothing": (lambda state: state.update(kept={}), "kept has"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_state_of_another_training_is_refused_by_the_name_of_its_part(lie: str) -> None:
    change, said = LIES[lie]
    state = deepcopy(after_a_step().state_dict())
    change(state)
    with pytest.raises(ValueError, match=said):
        check(state)

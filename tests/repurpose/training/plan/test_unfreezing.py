import pytest
import torch
from torch import nn

from repurpose.training.plan.groups import make_groups
from repurpose.training.plan.unfreezing import let_learn
from tests.repurpose.training.examples import plan


def parts() -> nn.Module:
    return nn.ModuleDict(
        {
            "body": nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5)),
            "head": nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2)),
        }
    )


def modes(module: nn.Module) -> dict[str, bool]:
    return {path: part.training for path, part in module.named_modules()}


def test_what_does_not_learn_yet_is_held_in_evaluation_mode_with_what_is_inside() -> None:
    module = parts().train()
    groups = make_groups(module, plan(unfreeze={"body": 2}), ())
    let_learn(module, groups, epoch=0)
    module.train()
    assert {path for path, training in modes(module).items() if not training} == {"body", "body.0", "body.1", "body.2"}
    assert [p.requires_grad for p in module.parameters()] == [False] * 4 + [True] * 2
    let_learn(module, groups, epoch=2)
    module.train()
    assert all(modes(module).values())
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_a_part_that_was_frozen_stays_so() -> None:
    module = parts()
    module["body"].requires_grad_(False)
    groups = make_groups(module, plan(), ())
    for epoch in (0, 1):
        let_learn(module, groups, epoch)
        module.train()
        assert not module["body"][1].training
        assert not module["body"][0].weight.requires_grad


def test_normalisation_that_keeps_its_statistics_is_held_also_where_its_weights_learn() -> None:
    module = parts()
    module["body"][1].running_mean += 1
    groups = make_groups(module, plan(unfreeze={"body": 1}, norm_statistics="source"), ())
    assert groups.held == ("body.1",)
    assert "(normalised by the statistics of the source: 1 layers, first body.1)" in str(groups)
    for epoch in (0, 1):
        let_learn(module, groups, epoch)
        module.train()
        assert not module["body"][1].training
        assert module["body"][1].weight.requires_grad == (epoch == 1)
        assert module["body"][2].training == (epoch == 1)


def test_a_container_learns_in_part() -> None:
    module = parts()
    let_learn(module, make_groups(module, plan(learning_rates={"body.0": 0, "*": 0.1}), ()), 0)
    module.train()
    assert modes(module)["body"]
    assert not module["body"][0].weight.requires_grad
    assert module["body"][1].training
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("order", [("body", "head"), ("head", "body")])
def test_a_layer_of_two_parts_is_held_only_where_neither_learns(order: tuple[str, str]) -> None:
    dropout = nn.Dropout(0.5)
    made = {"body": nn.Sequential(nn.Linear(2, 2), dropout), "head": nn.Sequential(dropout, nn.Linear(2, 2))}
    module = nn.ModuleDict({name: made[name] for name in order})
    let_learn(module, make_groups(module, plan(learning_rates={"body": 0, "*": 0.1}), ()), 0)
    assert module.train()["head"][0].training
    module["head"].requires_grad_(False)
    module["body"].requires_grad_(True)
    let_learn(module, make_groups(module, plan(learning_rates={"body": 0.1}), ()), 0)
    assert module.train()["body"][1].training

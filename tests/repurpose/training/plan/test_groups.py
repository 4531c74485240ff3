import pytest
import torch
import torchvision
from torch import nn

from model_handler import ModelError
from repurpose.training.plan.groups import make_groups
from repurpose.training.plan.parameter_groups import GroupTable
from tests.repurpose.training.examples import network, plan

NEW = {"head.weight", "head.bias"}


def resnet() -> nn.Module:
    return torchvision.models.resnet18(weights=None)


def rate_of(groups: GroupTable) -> dict[str, float]:
    return {name: group.learning_rate for group in groups for name in group.parameters}


def test_every_parameter_is_in_exactly_one_group() -> None:
    module = resnet()
    rates = {"layer4": 1e-4, "layer4.1.conv2": 1e-3, "batchnorm": 1e-6, "fc": 1e-2, "*": 1e-5}
    groups = make_groups(module, plan(learning_rates=rates), {"fc.weight", "fc.bias"})
    names = [name for group in groups for name in group.parameters]
    assert sorted(names) == sorted(name for name, _ in module.named_parameters())
    assert sum(group.n_elements for group in groups) == sum(p.numel() for p in module.parameters())


def test_the_longest_path_decides_then_a_type_then_new_and_transferred_then_the_rest() -> None:
    rates = {"*": 1.0, "transferred": 2.0, "batchnorm": 3.0, "layer4": 4.0, "layer4.1": 5.0, "layer4.1.bn2": 6.0}
    got = rate_of(make_groups(resnet(), plan(learning_rates=rates), {"fc.weight", "fc.bias"}))
    assert got["fc.weight"] == 1.0
    assert got["conv1.weight"] == 2.0
    assert got["layer1.0.bn1.weight"] == 3.0
    assert got["layer4.0.bn1.weight"] == 4.0
    assert got["layer4.1.conv1.weight"] == 5.0
    assert got["layer4.1.bn2.bias"] == 6.0


def test_paths_match_on_dots_and_not_within_a_name() -> None:
    module = nn.ModuleDict({"fc1": nn.Linear(2, 2), "fc10": nn.Linear(2, 2)})
    got = rate_of(make_groups(module, plan(learning_rates={"fc1": 1.0, "*": 2.0}), ()))
    assert got == {"fc1.weight": 1.0, "fc1.bias": 1.0, "fc10.weight": 2.0, "fc10.bias": 2.0}


def test_a_type_may_be_a_class_or_a_container_around() -> None:
    from torchvision.models.resnet import BasicBlock

    got = rate_of(make_groups(resnet(), plan(learning_rates={nn.Conv2d: 1.0, BasicBlock: 2.0, "*": 3.0}), ()))
    assert (got["conv1.weight"], got["layer1.0.conv1.weight"], got["layer1.0.bn1.weight"]) == (1.0, 1.0, 2.0)
    assert got["bn1.weight"] == 3.0


def test_new_layers_learn_ten_times_faster_by_default() -> None:
    got = rate_of(make_groups(network(), plan(learning_rates=None, optimizer_params={"learning_rate": 0.5}), NEW))
    assert got["head.weight"] == 0.5
    assert got["body.weight"] == pytest.approx(0.05)


def test_without_a_rate_new_layers_have_the_optimisers_own() -> None:
    got = rate_of(make_groups(network(), plan(optimizer="AdamW", learning_rates=None), NEW))
    assert got["head.weight"] == torch.optim.AdamW([torch.zeros(1)]).defaults["lr"]


def test_weight_decay_spares_biases_and_normalisation_unless_asked() -> None:
    params = {"weight_decay": 0.1}
    decay = {n: g.weight_decay for g in make_groups(network(), plan(optimizer_params=params), ()) for n in g.parameters}
    assert {name for name, value in decay.items() if value == 0.1} == {"body.weight", "head.weight"}
    everywhere = make_groups(network(), plan(optimizer_params=params, decay_all=True), ())
    assert {group.weight_decay for group in everywhere} == {0.1}


def test_layer_decay_counts_residual_blocks_from_the_top() -> None:
    new = {"fc.weight", "fc.bias"}
    given = plan(learning_rates=None, layer_decay=0.5, optimizer_params={"learning_rate": 1.0})
    got = rate_of(make_groups(resnet(), given, new))
    blocks = [f"layer{stage}.{block}" for stage in (4, 3, 2, 1) for block in (1, 0)]
    for depth, block in enumerate(blocks, start=1):
        assert got[f"{block}.conv1.weight"] == got[f"{block}.bn2.bias"] == 0.5**depth
    assert got["conv1.weight"] == got["bn1.weight"] == 0.5**9
    assert got["fc.weight"] == 1.0


def test_layer_decay_counts_the_layers_of_a_transformer() -> None:
    module = torchvision.models.VisionTransformer(32, 8, 3, 2, 16, 32, num_classes=5)
    new = {"heads.head.weight", "heads.head.bias"}
    got = rate_of(make_groups(module, plan(learning_rates={"*": 1.0}, layer_decay=0.5), new))
    layers = "encoder.layers.encoder_layer_{}.mlp.0.weight"
    assert [got[layers.format(number)] for number in (2, 1, 0)] == [0.5, 0.25, 0.125]
    assert got["conv_proj.weight"] == got["class_token"] == 0.0625


def test_layer_decay_multiplies_the_rates_of_groups() -> None:
    given = plan(learning_rates={"body": 1.0, "*": 10.0}, layer_decay=0.5)
    got = rate_of(make_groups(network(), given, NEW))
    assert (got["head.weight"], got["body.weight"]) == (10.0, 0.5)


def test_a_pattern_that_matches_nothing_is_named_with_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"(?s)called 'layr4'; nearest: layer4.*called 'Conv7d'; nearest: Conv2d"):
        make_groups(resnet(), plan(learning_rates={"layr4": 1.0, "Conv7d": 1.0, "*": 1.0}), ())
    with pytest.raises(ModelError, match="called 'bdy'; nearest: body"):
        make_groups(network(), plan(unfreeze={"bdy": 1}), ())


def test_a_pattern_that_matches_only_what_is_frozen_says_so() -> None:
    module = network()
    module.body.requires_grad_(False)
    with pytest.raises(ModelError, match="'body' matches no parameter that learns"):
        make_groups(module, plan(learning_rates={"body": 1.0, "*": 1.0}), ())


def test_parameters_that_no_pattern_matches_are_an_error_with_the_fix() -> None:
    with pytest.raises(ModelError, match=r'says nothing about 2 parameters \(norm.weight, norm.bias\): add "\*"'):
        make_groups(network(), plan(learning_rates={"fullyconnected": 1.0}), ())


def test_nothing_that_learns_is_an_error() -> None:
    with pytest.raises(ModelError, match="all 6 parameters are frozen"):
        make_groups(network().requires_grad_(False), plan(), ())
    with pytest.raises(ModelError, match="all 6 parameters are frozen"):
        make_groups(network(), plan(learning_rates={"*": 0.0}), ())
    with pytest.raises(ModelError, match="nothing would learn in the first epoch"):
        make_groups(network(), plan(unfreeze={"*": 1}), ())


def test_a_tied_weight_is_in_one_group_whatever_it_is_called() -> None:
    module = nn.ModuleDict({"first": nn.Linear(2, 2), "second": nn.Linear(2, 2)})
    module["second"].weight = module["first"].weight
    got = rate_of(make_groups(module, plan(learning_rates={"second": 2.0, "*": 1.0}), ()))
    assert got == {"first.weight": 2.0, "first.bias": 1.0, "second.bias": 2.0}


def test_the_table_shows_each_group_and_what_is_frozen() -> None:
    module = network()
    module.body.requires_grad_(False)
    text = str(make_groups(module, plan(learning_rates={"head": 0.5, "*": 0.1}), ()))
    lines = [line.split() for line in text.splitlines()]
    assert ["head", "0.5", "0", "0", "2", "27", "head.weight"] in lines
    assert ["*", "0.1", "0", "0", "2", "16", "norm.weight"] in lines
    assert ["(frozen)", "2", "40", "body.weight"] in lines


def test_layers_that_never_learn_cannot_be_unfrozen() -> None:
    given = plan(learning_rates={"head": 0.1, "*": 0}, unfreeze={"body": 1})
    with pytest.raises(ModelError, match="unfreeze names 'body', which learn at a rate of 0"):
        make_groups(network(), given, NEW)


def test_new_and_transferred_are_among_the_nearest_names() -> None:
    with pytest.raises(ModelError, match="called 'neww'; nearest: new"):
        make_groups(network(), plan(learning_rates={"neww": 0.1, "*": 0.1}), NEW)

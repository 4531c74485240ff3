from typing import Any

import pytest
import torch

from model_handler import ModelError, UnknownLayerError
from repurpose import NeuralNetworkRandomFreezeRepurposer
from tests.repurpose.examples import blobs, small_network
from tests.repurpose.neural_network.contract import NetworkContract
from tests.repurpose.neural_network.test_fine_tune_repurposer import conv_network, images


class TestContract(NetworkContract):
    grid = {"num_layers_to_drop": [1, 2]}  # noqa: RUF012

    def make(self, source_model: Any, **options: Any) -> NeuralNetworkRandomFreezeRepurposer:
        quick = {"num_epochs": 8, "optimizer_params": {"learning_rate": 0.1}, "random_state": 0}
        return NeuralNetworkRandomFreezeRepurposer(source_model, **{**quick, **options})


def made(**options: Any) -> NeuralNetworkRandomFreezeRepurposer:
    return NeuralNetworkRandomFreezeRepurposer(conv_network(), num_epochs=2, random_state=0, batch_size=8, **options)


def test_one_layer_is_dropped_and_a_head_of_the_right_size_put_on() -> None:
    repurposer = made().fit(*images())
    assert not hasattr(repurposer.target_model_, "fc")
    assert repurposer.target_model_.head.weight.shape == (2, 7)


def test_pooling_and_the_number_of_classes_reach_the_head() -> None:
    repurposer = made(num_layers_to_drop=3, pooling="flatten", target_class_count=3).fit(*images())
    assert repurposer.target_model_.head.weight.shape == (3, 7 * 4 * 4)


def test_fixed_layers_keep_weights_and_statistics_and_the_others_move() -> None:
    source = conv_network()
    repurposer = NeuralNetworkRandomFreezeRepurposer(source, fixed_layers=["stage1"], num_epochs=2, random_state=0)
    before, after = source.state_dict(), repurposer.fit(*images()).target_model_.state_dict()
    same = {name for name in after if name in before and torch.equal(after[name], before[name])}
    assert same == {name for name in before if name.startswith("stage1.")}


def test_random_layers_begin_anew_and_are_among_the_new() -> None:
    table = made(random_layers=["stage1"]).parameter_groups(*images())
    new = {name for group in table if group.name == "new" for name in group.parameters}
    wanted = {"stage1.0.weight", "stage1.0.bias", "stage1.1.weight", "stage1.1.bias", "head.weight", "head.bias"}
    assert new == wanted


def test_random_weights_come_from_the_seed() -> None:
    X, y = images()
    first, second = (
        made(random_layers=["stage1"], fixed_layers=["stage2"]).set_params(random_state=seed).fit(X, y).target_model_
        for seed in (0, 0)
    )
    other = made(random_layers=["stage1"]).set_params(random_state=1).fit(X, y).target_model_
    assert torch.equal(first.stage1[0].weight, second.stage1[0].weight)
    assert not torch.equal(first.stage1[0].weight, other.stage1[0].weight)
    assert not torch.equal(first.stage1[0].weight, conv_network().stage1[0].weight)


def test_a_layer_both_fixed_and_random_is_refused() -> None:
    with pytest.raises(ModelError, match=r"these are to do both: 'stage1'"):
        made(fixed_layers=["stage1"], random_layers=["stage1"]).fit(*images())
    with pytest.raises(ModelError, match=r"'stage1' \(fixed\) and 'stage1.0' \(random\) share"):
        made(fixed_layers=["stage1"], random_layers=["stage1.0"]).fit(*images())


def test_all_layers_frozen_leaves_the_head_and_without_it_nothing_learns() -> None:
    table = made(fixed_layers=["stage1", "stage2"]).parameter_groups(*images())
    assert {name for group in table for name in group.parameters} == {"head.weight", "head.bias"}
    with pytest.raises(ModelError, match="all 10 parameters are frozen, so nothing would learn"):
        made(fixed_layers=["stage1", "stage2"], learning_rates={"new": 0}).fit(*images())


def test_layers_that_get_dropped_give_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"fixed_layers names layers that num_layers_to_drop takes off: \['fc'\]"):
        made(fixed_layers=["fc", "stage1"]).fit(*images())
    with pytest.warns(UserWarning, match=r"random_layers names layers that num_layers_to_drop takes off: \['fc'\]"):
        made(random_layers=["fc"]).fit(*images())


def test_dropping_more_than_there_is_says_how_many_there_are() -> None:
    with pytest.raises(ModelError, match="9"):
        made(num_layers_to_drop=99).fit(*images())


def test_nothing_may_be_dropped() -> None:
    module = made(num_layers_to_drop=0).fit(*images()).target_model_
    assert module.fc.weight.shape == (5, 7)
    assert module.head.weight.shape == (2, 5)


def test_unknown_layers_are_named_together() -> None:
    with pytest.raises(UnknownLayerError, match=r"(?s)'stge1'; nearest.*'fcc'; nearest"):
        made(fixed_layers=["stge1"], random_layers=["fcc"]).fit(*images())


def test_wrong_parameters_are_listed_together() -> None:
    with pytest.raises(ValueError, match=r"(?s)fixed_layers must be a list.*num_layers_to_drop must be .* got -1"):
        NeuralNetworkRandomFreezeRepurposer(small_network(), fixed_layers="0", num_layers_to_drop=-1).fit(*blobs())

"""A split network: the frozen part gives what the network itself would hold there, and the rest trains the network."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_handler.frozen_prefix.splitting import split
from tests.model_handler.networks import (
    Attention,
    Block,
    DataDependent,
    InPlace,
    Residual,
    TwoInputs,
    handle,
    hooked,
    images,
    snapshot,
)


def frozen(network, up_to, example=None):
    return handle(network, example).freeze(up_to=up_to).get_module()


def frontier_of(network, inputs, **options):
    found = split(network, inputs, **options)
    assert found.frontier is not None, found.reason
    return found.frontier


def shaken(network):
    """Statistics of BatchNorm that are not those of the beginning."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator))
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)
    return network


def largest_difference(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).abs().max() / wanted.abs().max())


class TwoStages(nn.Module):
    """Sizes of the input used at the end; a shared block; a cheap operation that makes more of what it reads."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()), nn.Conv2d(4, 4, 3, padding=1)
        self.upsample, self.head = nn.Upsample(scale_factor=2), nn.Linear(4 * 16 * 16, 3)

    def forward(self, x):
        n_rows = x.shape[0]
        x = self.upsample(self.first(x))
        x = self.second(x) + x
        return self.head(x.view(n_rows, -1))


class CalledAgain(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.middle, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.body(self.middle(torch.tanh(self.body(x)))))


class Dense(nn.Module):
    """Each layer reads all before it."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(4 * n), nn.ReLU(), nn.Conv2d(4 * n, 4, 3, padding=1)) for n in range(1, 5)
        )
        self.stem, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(20, 3)

    def forward(self, x):
        found = [self.stem(x)]
        for layer in self.layers:
            found.append(layer(torch.cat(found, 1)))
        return self.head(torch.cat(found, 1).mean((2, 3)))


class RollingRows(nn.Module):
    """Every row reads the one before it."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        x = self.first(x)
        return self.second(x + torch.roll(x, 1, 0))


class WrittenInto(nn.Module):
    """What learns writes into what a frozen layer reads afterwards."""

    def __init__(self):
        super().__init__()
        self.first, self.learning, self.later, self.head = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x):
        x = self.first(x)
        x.add_(self.learning(x))
        return self.head(self.later(x))


@pytest.mark.parametrize("up_to", ["conv1", "relu", "layer1.0.conv", "layer1.0.bn", "layer1.0", "layer1", "avgpool"])
@pytest.mark.parametrize(("folded", "tolerance"), [(False, 1e-6), (True, 1e-5)])
def test_the_frontier_holds_what_the_network_does_and_the_rest_goes_on_from_there(up_to, folded, tolerance):
    network = frozen(shaken(Residual()), up_to)
    frontier = frontier_of(network, images())
    values = frontier.values(images(), folded=folded)
    with torch.no_grad():
        wanted = network.eval()(images())
        got = copy.deepcopy(frontier.rest).eval()(*values)
    assert largest_difference(got, wanted) <= tolerance
    if up_to in ("conv1", "avgpool"):
        held = hooked(network, (images(),), [up_to])[up_to]
        assert largest_difference(values[0], held.flatten(1) if up_to == "avgpool" else held) <= tolerance
    assert not any(value.requires_grad for value in values)


def test_pooling_behind_the_last_frozen_layer_belongs_to_the_frozen_part():
    frontier = frontier_of(frozen(Residual(), "layer1"), images())
    assert frontier.shapes == ((4,),)
    assert frontier.n_bytes == 16


def test_a_block_frozen_in_half_hands_over_its_shortcut_too():
    frontier = frontier_of(frozen(Residual(), "layer1.0.conv"), images())
    assert frontier.shapes == ((4, 6, 6), (4, 6, 6))


def test_an_operation_that_makes_more_numbers_of_the_same_is_left_to_the_rest():
    frontier = frontier_of(frozen(TwoStages(), "upsample"), images())
    assert frontier.shapes == ((4, 8, 8),)  # before the upsampling, not the (4, 16, 16) behind it


def test_a_size_taken_from_the_input_does_not_make_the_input_part_of_the_frontier():
    network = frozen(TwoStages(), "first")
    frontier = frontier_of(network, images(2))
    assert len(frontier.shapes) == 1
    with torch.no_grad():
        torch.testing.assert_close(frontier.rest(*frontier.values(images(5))), network(images(5)))


def test_sizes_that_may_change_are_not_made_constants():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), Sized(), nn.Conv2d(4, 2, 1), nn.Flatten())
    network = frozen(network, "0")
    for fixed_sizes in (True, False):
        frontier = frontier_of(network, images(), fixed_sizes=fixed_sizes)
        with torch.no_grad():
            torch.testing.assert_close(frontier.rest(*frontier.values(images())), network(images()))
    other = images(2, height=12, width=10)
    with torch.no_grad():
        torch.testing.assert_close(frontier.rest(*frontier.values(other)), network(other))


class Sized(nn.Module):
    def forward(self, x):
        return x * x.shape[2] / x.shape[3]


def test_dense_connections_hand_over_each_layer_once():
    network = frozen(shaken(Dense()), "layers.1")
    frontier = frontier_of(network, images())
    assert frontier.shapes == ((4, 8, 8),) * 3  # the stem and two layers; their concatenations are made by the rest
    with torch.no_grad():
        got = copy.deepcopy(frontier.rest).eval()(*frontier.values(images(), folded=False))
        assert largest_difference(got, network.eval()(images())) <= 1e-6


def test_two_inputs_of_which_one_is_learned_from_as_it_is():
    network = handle(TwoInputs()).freeze("left").get_module()
    inputs = (torch.randn(5, 3), torch.randn(5, 2))
    frontier = frontier_of(network, inputs)
    assert frontier.shapes == ((4,), (2,)) or frontier.shapes == ((2,), (4,))
    with torch.no_grad():
        got = copy.deepcopy(frontier.rest).eval()(*frontier.values(inputs))
        torch.testing.assert_close(got, network.eval()(*inputs))


def test_inputs_may_come_by_name():
    network = handle(TwoInputs()).freeze("left").get_module()
    inputs = {"b": torch.randn(5, 2), "a": torch.randn(5, 3)}
    frontier = frontier_of(network, inputs)
    with torch.no_grad():
        got = copy.deepcopy(frontier.rest).eval()(*frontier.values(inputs))
        torch.testing.assert_close(got, network.eval()(**inputs))


def test_a_frozen_module_that_is_called_again_behind_the_frontier_is_in_the_rest():
    network = handle(CalledAgain()).freeze("body").get_module()
    frontier = frontier_of(network, torch.randn(3, 4))
    assert "body.weight" in dict(frontier.rest.named_parameters())
    x = torch.randn(3, 4)
    with torch.no_grad():
        torch.testing.assert_close(frontier.rest(*frontier.values(x)), network(x))


def test_the_rest_has_the_very_parameters_of_the_network_under_their_names():
    network = frozen(Residual(), "layer1.0")
    rest = frontier_of(network, images()).rest
    own = dict(network.named_parameters())
    assert all(own[name] is parameter for name, parameter in rest.named_parameters())
    assert {name for name, parameter in own.items() if parameter.requires_grad} <= set(dict(rest.named_parameters()))
    assert rest.get_buffer("layer1.1.bn.running_mean") is network.get_buffer("layer1.1.bn.running_mean")


def test_edited_networks_can_be_split():
    handler = handle(Residual()).drop_layer_top(1).add_layer_top([nn.Linear(4, 5)]).freeze(up_to="layer1")
    network = handler.get_module()
    frontier = frontier_of(network, images())
    assert frontier.shapes == ((4,),)
    with torch.no_grad():
        torch.testing.assert_close(frontier.rest(*frontier.values(images())), network.eval()(images()))


def test_the_network_is_left_as_it_was():
    network = frozen(Residual(), "layer1").train()
    before = snapshot(network)
    frontier_of(network, images()).values(images())
    assert snapshot(network) == before


def test_frozen_statistics_stay_and_those_of_the_rest_move():
    network = frozen(Residual(), "layer1.0")
    frontier = frontier_of(network, images())
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    frontier.rest.train()
    F.cross_entropy(frontier.rest(*frontier.values(images())), torch.zeros(5, dtype=torch.long)).backward()
    moved = {name for name, buffer in network.named_buffers() if not torch.equal(buffer, before[name])}
    assert moved == {f"layer1.1.bn.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert network.get_parameter("fc.weight").grad is not None


def test_the_inputs_of_the_rest_are_not_written_into():
    frontier = frontier_of(frozen(Residual(), "bn1"), images())
    values = frontier.values(images())
    before = [value.clone() for value in values]
    frontier.rest(*values)
    assert all(map(torch.equal, values, before))


def test_dropout_that_is_not_held_in_evaluation_mode_ends_the_frozen_part():
    network = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 4), nn.Linear(4, 2))
    for name in ("0", "2"):
        network.get_submodule(name).requires_grad_(False)
    frontier = frontier_of(network, torch.randn(5, 4))
    assert frontier.layer_names == ("0",)


def test_a_normalisation_that_still_moves_ends_the_frozen_part():
    network = Residual()
    network.requires_grad_(False)
    network.fc.requires_grad_(True)
    frontier = frontier_of(network, images())
    assert frontier.layer_names == ("conv1",)


def test_unfreezing_gives_another_frontier_and_then_none():
    handler = handle(Residual()).freeze(up_to="layer1")
    assert frontier_of(handler.get_module(), images()).shapes == ((4,),)
    assert frontier_of(handler.unfreeze("layer1.1").get_module(), images()).shapes == ((4, 6, 6),)
    found = split(handler.unfreeze("conv1").get_module(), images())
    assert found.frontier is None
    assert found.reason == "no layer with weights is frozen before 'conv1', which learns"


def test_a_network_without_a_graph_is_not_split():
    network = handle(DataDependent(), torch.randn(2, 4)).freeze("stem").get_module()
    found = split(network, torch.randn(2, 4))
    assert found.frontier is None
    assert "cannot be traced" in found.reason


def test_of_a_network_that_is_frozen_as_a_whole_the_frontier_is_its_output():
    network = frozen(Residual(), "fc")
    frontier = split(network, images()).frontier
    assert not list(frontier.rest.parameters())
    torch.testing.assert_close(frontier.rest(*frontier.values(images(), folded=False)), network(images()))


def test_what_mixes_rows_is_left_to_the_rest():
    network = handle(RollingRows()).freeze("first").get_module()
    frontier = frontier_of(network, torch.randn(5, 4))
    assert frontier.layer_names == ("first",)
    x = torch.randn(4, 4)
    with torch.no_grad():
        torch.testing.assert_close(frontier.rest(*frontier.values(x)), network(x))


def test_statistics_of_the_batch_itself_are_never_frozen():
    network = nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 2), nn.Linear(2, 2))
    found = split(frozen(network, "1"), torch.randn(1, 4).expand(2, 4))
    assert found.frontier is None
    assert "normalises by the rows of the batch" in found.reason


def test_a_value_that_learning_layers_write_into_is_not_frozen_behind_them():
    network = WrittenInto()
    for name in ("first", "later"):
        network.get_submodule(name).requires_grad_(False)
    frontier = frontier_of(network, torch.randn(5, 4))
    assert frontier.layer_names == ("first",)
    x = torch.randn(3, 4)
    with torch.no_grad():
        torch.testing.assert_close(frontier.rest(*frontier.values(x)), network(x))


def test_a_write_into_a_frozen_value_whose_result_nobody_takes_is_kept():
    network = frozen(InPlace(), "second")
    frontier = frontier_of(network, torch.randn(5, 4))
    x = torch.randn(5, 4)
    with torch.no_grad():
        torch.testing.assert_close(frontier.rest(*frontier.values(x)), network(x))


def test_layers_that_return_several_tensors():
    network = frozen(Attention(), "attention")
    frontier = frontier_of(network, torch.randn(2, 3, 4))
    x = torch.randn(5, 3, 4)
    with torch.no_grad():
        torch.testing.assert_close(frontier.rest(*frontier.values(x)), network(x))


def test_a_network_with_other_outputs_in_training_is_not_split():
    class Auxiliary(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head, self.aux = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x):
            x = self.body(x)
            return (self.head(x), self.aux(x)) if self.training else self.head(x)

    found = split(handle(Auxiliary()).freeze("body").get_module(), torch.randn(3, 4))
    assert found.frontier is None
    assert "in training the network" in found.reason


def test_a_hook_on_a_container_is_not_lost_by_splitting():
    network = frozen(Residual(), "conv1")
    network.layer1.register_forward_hook(lambda module, inputs, output: None)
    found = split(network, images())
    assert found.frontier is None
    assert "a hook sits on 'layer1'" in found.reason


def test_random_state_is_left_alone():
    network = frozen(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2)), "1")
    before = torch.get_rng_state()
    frontier_of(network, torch.randn(5, 4, generator=torch.Generator()))
    assert torch.equal(torch.get_rng_state(), before)


def test_bfloat16_hands_over_what_autocast_computes():
    network = frozen(Residual(), "conv1")
    frontier = frontier_of(network, images(), precision="bfloat16")
    assert frontier.dtypes == (torch.bfloat16,)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        wanted = network.conv1(images())
    assert torch.equal(frontier.values(images(), folded=False)[0], wanted)


def test_the_flops_of_the_frozen_part_are_those_of_its_layers():
    network = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 16), nn.Linear(16, 2))
    frontier = frontier_of(frozen(network, "1"), torch.randn(3, 4))
    assert frontier.n_flops(torch.randn(3, 4)) == 2 * (4 * 8 + 8 * 16)


def test_a_residual_block_alone_is_split_at_its_shortcut():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), Block(4), nn.Flatten(), nn.Linear(256, 2))
    frontier = frontier_of(frozen(network, "1.conv"), images())
    assert len(frontier.shapes) == 2

"""Trainability: what `get_module` hands out."""

import torch
from torch import nn

from tests.model_handler.networks import Residual, handle, images, snapshot, train_one_epoch


def test_an_unedited_handler_hands_out_a_copy_of_the_source():
    network = Residual()
    module = handle(network).get_module()
    assert type(module) is Residual
    assert all(a is not b and torch.equal(a, b) for a, b in zip(module.parameters(), network.parameters()))


def test_later_edits_and_training_of_the_source_do_not_reach_what_was_handed_out():
    network, x = Residual(), images()
    handler = handle(network, x).drop_layer_top(1).add_layer_top(("fc", nn.LazyLinear(2)))
    module = handler.get_module().eval()
    before, wanted = snapshot(module), module(x).detach()
    handler.freeze(up_to="layer1").randomize("fc").rename("fc", "head").truncate("layer1").drop_layer_bottom(1)
    handler.add_layer_top(nn.ReLU())
    handler.get_module().requires_grad_(False)
    with torch.no_grad():
        network.conv1.weight.zero_()
    handler.undo()
    assert snapshot(module) == before
    assert torch.equal(module(x).detach(), wanted)


def test_a_handed_out_module_that_learns_leaves_the_handler_alone():
    network, x = Residual(), images()
    handler = handle(network, x).drop_layer_top(1).add_layer_top(("fc", nn.LazyLinear(2)))
    before = {key: tensor.clone() for key, tensor in handler.get_module().state_dict().items()}
    assert train_one_epoch(handler.get_module(), x)
    assert all(torch.equal(tensor, before[key]) for key, tensor in handler.get_module().state_dict().items())


def test_hooks_on_the_gradient_of_a_weight_go_along():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    mask = torch.tensor([1.0, 0.0, 1.0, 0.0])[:, None]
    network[0].weight.register_hook(lambda gradient: gradient * mask)
    unedited = handle(network)
    edited = handle(network).drop_layer_top(1).add_layer_top(nn.Linear(4, 2))
    drawn = handle(network).randomize("0", random_state=0)
    for handler in (unedited, edited, drawn):
        module = handler.get_module()
        module(torch.ones(2, 4)).square().sum().backward()
        gradient = dict(module.named_parameters())["0.weight"].grad
        assert torch.equal(gradient[1::2], torch.zeros(2, 4))
        assert gradient[::2].abs().max() > 0
    assert network[0].weight.grad is None

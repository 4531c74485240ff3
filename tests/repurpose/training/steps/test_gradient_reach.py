"""Gradients reach what is to learn, or it is said; nothing is left on what is no part of the network."""

import copy
import functools
import logging
import types
import warnings

import pytest
import torch
from torch import nn

from model_handler.errors import ModelError
from repurpose import NeuralNetworkFineTuneRepurposer
from repurpose.training.steps.losses import cross_entropy
from repurpose.training.steps.objective import ClassificationObjective
from tests.repurpose.training.examples import batches, plan, rows, trained


class Net(nn.Module):
    """Two layers side by side, of which `body` makes what it will: 4 -> 8 -> 3."""

    def __init__(self, body):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.head, self.body = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(8, 3), body

    def forward(self, x):
        return self.head(self.body(self, x).relu())


def unused(self, x):
    return self.one(x)


def without_grad(self, x):
    with torch.no_grad():
        hidden = self.two(x)
    return self.one(x) + hidden


def detached(self, x):
    return self.one(x) + self.two(x).detach()


def left_out_by_chance(self, x):
    return self.one(x) + (self.two(x) if torch.rand(()) < 0.5 else 0)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 8)

    def forward(self, x):
        return self.layer(x)


def blocks():
    torch.manual_seed(0)
    return nn.Sequential(Block(), nn.ReLU(), nn.Linear(8, 4))


def by_closure(block):
    block.forward = lambda x: block.layer(x) * 5


def by_default_argument(block):
    block.forward = lambda x, own=block: own.layer(x) * 5


def by_hook(block):
    block.register_forward_hook(lambda module, inputs, output: block.layer(*inputs) * 5)


def by_method(block):
    block.forward = types.MethodType(lambda self, x: self.layer(x) * 5, block)


def by_partial(block):
    block.forward = functools.partial(lambda self, x: self.layer(x) * 5, block)


def tuned(network, **options):
    given = {"num_epochs": 2, "learning_rates": {"*": 0.1}, "random_state": 0, **options}
    return NeuralNetworkFineTuneRepurposer(network, "1", **given).repurpose(*rows(20))


@pytest.mark.parametrize("bind", [by_closure, by_default_argument, by_hook])
@pytest.mark.parametrize("options", [{}, {"unfreeze": {"0": 1}}], ids=["at once", "unfrozen later"])
def test_a_copy_that_runs_the_users_own_module_is_refused_and_the_module_is_left_alone(bind, options):
    network = blocks()
    bind(network[0])
    network[0].layer.bias.grad = torch.ones(8)
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(ModelError, match=r"0\.layer\.weight, 0\.layer\.bias are to learn.*types\.MethodType"):
        tuned(network, **options)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert network[0].layer.weight.grad is None
    assert torch.equal(network[0].layer.bias.grad, torch.ones(8))


@pytest.mark.parametrize("bind", [by_method, by_partial])
def test_what_copies_follow_learns(bind):
    network = blocks()
    bind(network[0])
    learned = dict(tuned(network).target_model_.named_parameters())["0.layer.weight"]
    assert not torch.equal(learned, network[0].layer.weight)
    assert network[0].layer.weight.grad is None


def test_a_frozen_copy_that_runs_the_users_own_module_leaves_no_gradient_on_it():
    network = blocks()
    by_closure(network[0])
    network[0].layer.bias.grad = own_gradient = torch.ones(8)
    tuned(network, learning_rates={"0": 0, "*": 0.1})
    assert network[0].layer.weight.grad is None
    assert network[0].layer.bias.grad is own_gradient
    assert torch.equal(own_gradient, torch.ones(8))


def test_rows_that_require_a_gradient_get_none():
    X, y = rows(20)
    X = torch.tensor(X, requires_grad=True)
    trained(plan(num_epochs=1), Net(unused), data=batches((X, y)))
    assert X.grad is None


def test_what_is_not_used_is_trained_beside_without_a_word(caplog):
    with warnings.catch_warnings(), caplog.at_level(logging.INFO, "repurpose.training.steps.gradient_reach"):
        warnings.simplefilter("error")
        got = trained(plan(), Net(unused))
    assert torch.equal(got.two.weight, Net(unused).two.weight)
    assert "no gradient reached two.weight, two.bias in 12 steps, as they were not used" in caplog.text


@pytest.mark.parametrize("body", [without_grad, detached])
def test_a_layer_that_runs_and_gets_no_gradient_is_named_in_a_warning_and_stays(body):
    with pytest.warns(
        UserWarning, match=r"no gradient reached two\.weight, two\.bias in 12 steps, though they are used"
    ):
        got = trained(plan(optimizer="AdamW", l2_sp=0.1), Net(body))
    assert torch.equal(got.two.weight, Net(body).two.weight)
    assert not torch.equal(got.one.weight, Net(body).one.weight)
    assert not any(part._forward_pre_hooks for part in got.modules())


@pytest.mark.parametrize("body", [unused, without_grad, detached])
@pytest.mark.parametrize("pattern", ["two", "two.weight"])
def test_a_layer_that_is_given_a_rate_and_gets_no_gradient_is_an_error(body, pattern):
    with pytest.raises(ModelError, match=rf"learning_rates gives '{pattern}' a rate, but no gradient reached two"):
        trained(plan(learning_rates={pattern: 0.1, "*": 0.1}), Net(body))


def test_it_is_judged_in_the_twentieth_step_and_not_at_the_end():
    steps = []
    given = plan(
        learning_rates={"two": 0.1, "*": 0.1}, num_epochs=100, callbacks=(lambda state, _: steps.append(state.step),)
    )
    with pytest.raises(ModelError, match="in 20 steps"):
        trained(given, Net(unused))
    assert steps == [4, 8, 12, 16]


def test_a_rate_of_0_says_that_it_is_meant():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained(plan(learning_rates={"two": 0, "*": 0.1}), Net(without_grad))


def test_a_layer_that_is_left_out_by_chance_learns_under_its_own_rate():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = trained(plan(learning_rates={"two": 0.1, "*": 0.1}), Net(left_out_by_chance))
    assert not torch.equal(got.two.weight, Net(unused).two.weight)


def test_what_begins_to_learn_later_is_judged_from_then_on():
    given = plan(learning_rates={"*": 0.1}, unfreeze={"two": 2}, num_epochs=4)
    with pytest.warns(UserWarning, match=r"two\.weight, two\.bias in 8 steps"):
        trained(given, Net(without_grad))


def test_a_teacher_in_the_loss_is_no_stand_in():
    teacher = Net(unused)

    def distilling(module, inputs, targets):
        return cross_entropy(module(inputs), targets, None, 0.0) + (module(inputs) - teacher(inputs)).square().mean()

    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.mul_(1.1)
    trained(
        plan(), Net(lambda self, x: self.two(x)), objective=ClassificationObjective(distilling, 3, looks_inside=True)
    )
    assert all(parameter.grad is None for parameter in teacher.parameters())

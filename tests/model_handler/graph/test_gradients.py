"""What governs gradients stays through an edit: the edited network has those of the network, computed by autograd."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.autograd import Function
from torch.utils.checkpoint import checkpoint

from model_handler import ModelHandler
from model_handler.errors import UntraceableModelError
from model_handler.frozen_prefix.splitting import split
from model_handler.graph.gradients import functions_as_nodes


class Reverse(Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return -g


class Tripled(Function):
    """Two inputs, two outputs, a context set up apart, and a backward that is not that of its forward."""

    @staticmethod
    def forward(x, y):
        return x * y, x + y

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.mask = inputs[0] > 0

    @staticmethod
    def backward(ctx, g, h):
        x, y = ctx.saved_tensors
        return 3 * g * y * ctx.mask + h, g * x - h


reverse = Reverse.apply


def no_grad(self, x):
    with torch.no_grad():
        hidden = self.one(x)
    return self.two(hidden)


def enabled_inside(self, x):
    with torch.no_grad():
        hidden = self.one(x)
        with torch.enable_grad():
            hidden = self.two(hidden)
        return hidden.view(-1, 4)


def set_grad_enabled(self, x):
    torch.set_grad_enabled(False)
    hidden = self.one(x)
    torch.set_grad_enabled(True)
    return self.two(hidden)


def in_training(self, x):
    with torch.set_grad_enabled(self.training):
        hidden = self.one(x)
    return self.two(hidden)


def inference_mode(self, x):
    with torch.inference_mode():
        hidden = self.one(x) * torch.arange(4)
    return self.two(hidden.clone())


@torch.no_grad()
def quiet(x):
    return x * 2


def decorated_helper(self, x):
    return self.two(quiet(self.one(x)) + x)


def detached(self, x):
    return self.two(self.one(x).detach() + x)


def straight_through(self, x):
    x = self.one(x)
    return self.two(x + (x.round() - x).detach())


def reversal(self, x):
    return self.two(Reverse.apply(self.one(x)))


def reversal_by_another_name(self, x):
    return self.two(reverse(self.one(x)))


def several_values(self, x):
    product, total = Tripled.apply(self.one(x), self.two(x))
    return product + total


def function_without_grad(self, x):
    with torch.no_grad():
        hidden = Reverse.apply(self.one(x))
    return self.two(hidden) + reverse(x)


class Scaled(Function):
    @staticmethod
    def forward(ctx, x, factor=2.0):
        ctx.factor = factor
        return x * 1

    @staticmethod
    def backward(ctx, g):
        return g * ctx.factor, None


class Inherited(Scaled):
    """Its forward is that of another function, its backward is not."""

    @staticmethod
    def backward(ctx, g):
        return g * 7, None


def with_a_number(self, x):
    return self.two(Scaled.apply(self.one(x), 3.0))


def inherited(self, x):
    return self.two(Inherited.apply(self.one(x)))


def checkpointed(self, x):
    return checkpoint(lambda z: self.two(self.one(z).relu()), x, use_reentrant=False)


def checkpointed_reentrant(self, x):
    return checkpoint(lambda z: self.two(self.one(z).relu()), x, use_reentrant=True)


BODIES = [
    no_grad,
    enabled_inside,
    set_grad_enabled,
    in_training,
    inference_mode,
    decorated_helper,
    detached,
    straight_through,
    reversal,
    reversal_by_another_name,
    several_values,
    function_without_grad,
    with_a_number,
    inherited,
    checkpointed,
    checkpointed_reentrant,
]


class Part(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.one, self.two, self.body = nn.Linear(4, 4), nn.Linear(4, 4), body

    def forward(self, x):
        return self.body(self, x)


class Decorated(Part):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


class Net(nn.Module):
    """A layer, a part, and a head: 3 -> 4 -> 4 -> 2."""

    def __init__(self, part):
        super().__init__()
        self.first, self.part, self.head = nn.Linear(3, 4), part, nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.part(self.first(x)).relu())


class Root(Part):
    """The same, with the part in its own forward."""

    def __init__(self, body):
        super().__init__(body)
        self.first, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(super().forward(self.first(x)).relu())


def rows():
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(1))


def made(kind, *args):
    torch.manual_seed(0)
    return Net(kind(*args)) if kind is not Root else Root(*args)


def with_same_head(network):
    """The network, its head taken off and put on again."""
    handler = ModelHandler(network, rows()).drop_layer_top(1)
    return handler.add_layer_top([("head", copy.deepcopy(network.head))]).get_module()


def gradients(network, training=True):
    network = copy.deepcopy(network).train(training)
    network(rows()).square().sum().backward()
    return {name: parameter.grad for name, parameter in network.named_parameters()}


def assert_same_gradients(got, wanted, training=True):
    got, wanted = gradients(got, training), gradients(wanted, training)
    assert {name for name in got if got[name] is None} == {name for name in wanted if wanted[name] is None}
    for name, gradient in wanted.items():
        if gradient is not None:
            torch.testing.assert_close(got[name], gradient)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("kind", [Part, Root])
@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_an_edited_network_has_the_gradients_of_the_network(body, kind):
    network = made(kind, body)
    edited = with_same_head(network)
    for training in (True, False):
        assert_same_gradients(edited, network, training)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_part_that_is_decorated_learns_nothing_and_what_comes_after_it_does():
    network = made(Decorated, lambda self, x: self.two(self.one(x)))
    got = gradients(with_same_head(network))
    assert [name for name in got if got[name] is None] == [
        "first.weight",
        "first.bias",
        "part.one.weight",
        "part.one.bias",
        "part.two.weight",
        "part.two.bias",
    ]


def test_what_is_switched_off_stays_so_in_what_a_cut_leaves_and_in_copies_and_files():
    network = made(Part, no_grad)
    cut = ModelHandler(network, rows()).drop_layer_bottom(1).get_module()
    for variant in (cut, copy.deepcopy(cut), pickle.loads(pickle.dumps(cut))):
        variant(torch.ones(5, 4)).sum().backward()
        learns = {name: parameter.grad is not None for name, parameter in variant.named_parameters()}
        assert learns == {
            "part.one.weight": False,
            "part.one.bias": False,
            "part.two.weight": True,
            "part.two.bias": True,
            "head.weight": True,
            "head.bias": True,
        }


def test_a_failing_layer_leaves_autograd_on():
    edited = with_same_head(made(Part, no_grad))
    with pytest.raises(RuntimeError):
        edited(torch.zeros(5, 7))
    edited.get_submodule("part.one").forward = lambda x: x.no_such_thing
    with pytest.raises(AttributeError):
        edited(rows())
    assert torch.is_grad_enabled()


def test_a_layer_put_in_the_place_of_one_without_gradient_has_none_either():
    network = made(Part, no_grad)
    edited = ModelHandler(network, rows()).replace("part.one", nn.Linear(4, 4)).get_module()
    assert gradients(edited)["part.one.weight"] is None


def test_added_modules_keep_theirs():
    network = nn.Sequential(nn.Linear(3, 4))
    part = Part(reversal)
    edited = ModelHandler(network, rows()).add_layer_top([("part", part)]).get_module()
    same = nn.Sequential(copy.deepcopy(network[0]), copy.deepcopy(part))
    got, wanted = gradients(edited), gradients(same)
    torch.testing.assert_close(got["0.weight"], wanted["0.weight"])
    assert got["0.weight"].abs().max() > 0


def test_a_function_is_one_layer_and_features_come_through_it():
    network = made(Part, reversal)
    handler = ModelHandler(network, rows())
    assert handler.layer_names == ["first", "part.one", "part.Reverse", "part.two", "relu", "head"]
    values = handler.extract(rows(), ["part.Reverse"]).values["part.Reverse"]
    torch.testing.assert_close(torch.tensor(values), network.part.one(network.first(rows())).detach())


def test_tracing_inside_no_grad_is_tracing_outside():
    network = made(Part, reversal)
    with torch.no_grad():
        edited = with_same_head(network)
    assert_same_gradients(edited, network)


def test_a_constant_of_inference_mode_can_be_trained_past():
    def scaled(self, x):
        with torch.inference_mode():
            scale = torch.arange(1.0, 5.0)
        return self.two(self.one(x) * scale.clone())

    edited = with_same_head(made(Root, scaled))
    assert gradients(edited)["one.weight"].abs().max() > 0


def test_an_edited_network_that_is_edited_again_has_them_still():
    def both(self, x):
        with torch.no_grad():
            hidden = self.one(x)
        return self.two(reverse(x) + hidden)

    network = made(Part, both)
    assert_same_gradients(with_same_head(with_same_head(network)), network)


def test_what_is_left_to_train_of_a_network_that_is_split_has_them():
    def both(self, x):
        return self.two(Reverse.apply(self.one(x) + quiet(self.one(x))))

    network = made(Part, both)
    network.first.requires_grad_(False)
    frontier = split(network, rows()).frontier
    assert frontier.layer_names == ("first",)
    frontier.rest(*frontier.values(rows())).square().sum().backward()
    got = {name: parameter.grad for name, parameter in network.named_parameters()}
    network.zero_grad(set_to_none=True)
    for name, gradient in gradients(network).items():
        torch.testing.assert_close(got[name], gradient)


def test_a_function_that_a_forward_defines_itself_leaves_the_network_to_hooks():
    def local(self, x):
        class Local(Function):
            @staticmethod
            def forward(ctx, x):
                return x.clone()

            @staticmethod
            def backward(ctx, g):
                return 5 * g

        return self.two(Local.apply(self.one(x)))

    with pytest.raises(UntraceableModelError, match="has other gradients than it"):
        with_same_head(made(Part, local))


def test_functions_are_left_as_they_were():
    before = {name: vars(Tripled)[name] for name in ("forward", "setup_context", "backward")}
    apply = vars(Function)["apply"]
    with functions_as_nodes():
        assert vars(Tripled)["forward"] is not before["forward"]
        x = torch.ones(2, requires_grad=True)
        Reverse.apply(x).sum().backward()  # what is no proxy is computed as ever
        assert torch.equal(x.grad, -torch.ones(2))
    assert all(vars(Tripled)[name] is method for name, method in before.items())
    assert vars(Function)["apply"] is apply


def test_a_hook_on_a_value_of_the_root_leaves_the_network_to_hooks():
    def hooked(self, x):
        hidden = self.one(x)
        if hidden.requires_grad:
            hidden.register_hook(lambda gradient: gradient * 5)
        return self.two(hidden)

    handler = ModelHandler(made(Root, hooked), rows())
    with pytest.raises(UntraceableModelError, match="needs the graph"):
        handler.drop_layer_top(1)
    cut = handler.truncate("two").add_layer_top([("head", nn.Linear(4, 2))]).get_module()
    uncut = made(Root, hooked)
    uncut.head.load_state_dict(cut.head.state_dict())
    cut(rows()).sum().backward()
    uncut.head(hooked(uncut, uncut.first(rows()))).sum().backward()
    torch.testing.assert_close(cut.first.weight.grad, uncut.first.weight.grad)

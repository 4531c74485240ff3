"""Joining: where added, inserted and replacing layers run, and that nothing else leaves the network."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model_handler import ModelError, ModelHandler
from tests.model_handler.networks import (
    Attention,
    Branching,
    Residual,
    Shared,
    TwoInputs,
    handle,
    hooked,
    images,
    output_of,
    saved_and_loaded,
    snapshot,
)


class Constant(nn.Module):
    """Its forward makes a constant, and reads a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.scale, self.inner = nn.Parameter(torch.full((1,), 3.0)), nn.Identity()

    def forward(self, x):
        return self.inner(x) * self.scale + torch.tensor([7.0])


def test_added_layers_run_on_the_output_and_get_free_names():
    network, x = Residual(), images()
    head, relu = nn.Linear(3, 5), nn.ReLU()
    handler = handle(network, x).add_layer_top([relu, head, ("last", nn.Softmax(dim=1))])
    assert handler.layer_names[-4:] == ["fc", "relu_2", "linear", "last"]
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(output_of(handler, x), head(network(x).relu()).softmax(1))
    assert handler.layers[-1].output_shape == (5, 5)


def test_the_inside_of_an_added_module_has_layers_too():
    network, x = Residual(), images()
    head = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), Constant())
    handler = handle(network, x).add_layer_top(("head", head)).add_layer_top(("more", Constant()))
    tail = ["head.0", "head.1", "head.2.inner", "head.2.mul", "head.2.add", "more.inner", "more.mul", "more.add"]
    assert handler.layer_names[-8:] == tail
    network.eval()
    with torch.no_grad():
        wanted = (F.relu(head[0](network(x))) * 3 + 7) * 3 + 7
    torch.testing.assert_close(output_of(handler, x), wanted)
    torch.testing.assert_close(torch.tensor(handler.extract(x, ["more"]).matrix), wanted)
    assert "more.scale" in handler.get_module().state_dict()
    assert not any("constant" in key for key in handler.get_module().state_dict())
    torch.testing.assert_close(saved_and_loaded(handler.get_module()).eval()(x).detach(), wanted)


def test_inserted_layers_run_where_they_were_put():
    network, x = Residual(), images()
    names = handle(network).layer_names
    double, halve = nn.Conv2d(4, 4, 1), nn.Sequential(nn.Conv2d(4, 4, 1), nn.Sigmoid())
    handler = handle(network, x).insert_after("layer1.0.bn", [("twice", double)]).insert_before("avgpool", halve)
    at, end = names.index("layer1.0.bn") + 1, names.index("avgpool")
    inserted = ["sequential.0", "sequential.1"]
    assert handler.layer_names == [*names[:at], "twice", *names[at:end], *inserted, *names[end:]]
    network.eval()
    with torch.no_grad():
        y = network.relu(network.bn1(network.conv1(x)))
        block = network.layer1[0]
        y = F.relu(double(block.bn(block.conv(y))) + y)
        wanted = network.fc(network.avgpool(halve(network.layer1[1](y))).flatten(1))
    torch.testing.assert_close(output_of(handler, x), wanted)
    torch.testing.assert_close(output_of(handler.undo().undo(), x), network(x).detach())


def test_a_layer_inserted_before_one_of_two_readers_leaves_the_other_alone():
    network, x = Branching([]), torch.randn(2, 4)
    relu = nn.Linear(4, 4)
    first = network.first(x)
    module = handle(network, x).insert_before("side", relu).get_module()
    torch.testing.assert_close(module(x)[0], network.third(network.second(first)))
    torch.testing.assert_close(module(x)[1], network.side(relu(first)).relu())


def test_a_layer_comes_behind_one_part_of_what_another_returns():
    network, x = Attention(), torch.randn(2, 5, 4)
    attended, _ = hooked(network, (x,), ["attention"])["attention"]
    handler = handle(network, x).insert_after("attention[0]", nn.Tanh())
    with torch.no_grad():
        torch.testing.assert_close(output_of(handler, x), network.lstm(attended.tanh())[0][:, -1])
    with pytest.raises(ModelError, match=r"'attention\[1\]' is no layer whose output is used"):
        handler.undo().insert_after("attention[1]", nn.Tanh())


def test_layers_at_the_bottom_take_the_input():
    network, x = Residual(), images(channels=1)
    network.eval()
    colour = nn.Conv2d(1, 3, 1)
    handler = handle(network).add_layer_bottom(colour)
    assert handler.layer_names[:2] == ["conv2d", "conv1"]
    torch.testing.assert_close(output_of(handler, x), network(colour(x)).detach())
    two = handle(TwoInputs())
    with pytest.raises(ModelError, match=r"inputs \['a', 'b'\]"):
        two.add_layer_bottom(nn.ReLU())
    assert two.insert_after("b", nn.Linear(2, 2)).layer_names[0] in ("left", "linear")


@pytest.mark.parametrize("known", [True, False], ids=["example inputs before", "none before"])
@pytest.mark.parametrize("lazy", [True, False], ids=["lazy", "with sizes"])
def test_a_new_bottom_in_the_place_of_the_old_one_brings_its_example_inputs(known, lazy):
    network, old, new = Residual().eval(), images(), images(channels=1, seed=1)
    handler = handle(network, old if known else None).drop_layer_bottom(1)
    bottom = nn.LazyConv2d(4, 3) if lazy else nn.Conv2d(1, 4, 3)
    handler.add_layer_bottom(("stem", bottom), example_inputs=new.double().numpy())
    assert handler.edits[1].endswith("example_inputs=...)")
    assert handler.layers[0].output_shape == (5, 4, 6, 6)
    module = handler.get_module()
    assert module.stem.weight.shape == (4, 1, 3, 3)
    network.conv1 = module.stem  # the rest is as it was
    torch.testing.assert_close(output_of(handler, new), network(new).detach())
    picture = handler.visualize_net(depth=None).source
    assert "DROPPED" in picture
    assert "ADDED" in picture
    handler.drop_layer_bottom(1).undo()
    assert handler.undo().undo().layer_names[0] == "conv1"
    assert handler.layers[0].output_shape == ((5, 4, 6, 6) if known else None)


def test_example_inputs_that_a_new_bottom_does_not_take_change_nothing():
    handler = handle(Residual(), images()).drop_layer_bottom(1)
    names = handler.layer_names
    for wrong in (images(channels=2), (images(), images()), {"y": images()}, "images"):
        with pytest.raises((ModelError, TypeError)):
            handler.add_layer_bottom(nn.Conv2d(3, 4, 3), example_inputs=wrong)
        assert (handler.layer_names, len(handler.edits)) == (names, 1)
    with pytest.raises(
        ModelError, match=r"sizes of \['conv2d'\].*or add_layer_bottom\(\.\.\., example_inputs=\.\.\.\)"
    ):
        handle(Residual()).add_layer_bottom(nn.LazyConv2d(3, 1))


def test_a_layer_behind_a_container_comes_behind_its_last_output():
    network, x = Residual(), images()
    norm = nn.Conv2d(4, 4, 1)
    handler = handle(network, x).insert_after("layer1", norm)
    layer1 = hooked(network, (x,), ["layer1"])["layer1"]
    with torch.no_grad():
        wanted = network.fc(norm(layer1).mean((2, 3)))
    torch.testing.assert_close(output_of(handler, x), wanted)


def test_a_replaced_layer_keeps_its_path_and_is_not_frozen_with_the_old_one():
    network, x = Residual(), images()
    before = snapshot(network)
    wide = nn.Conv2d(3, 4, 3)
    handler = handle(network, x).freeze(up_to="layer1").replace("conv1", wide)
    module = handler.get_module()
    assert list(module.state_dict()) == list(network.state_dict())
    assert {name for name, p in module.named_parameters() if p.requires_grad} == {
        *("conv1.weight", "conv1.bias", "fc.weight", "fc.bias")
    }
    network.eval()
    with torch.no_grad():
        y = network.layer1(network.relu(network.bn1(wide(x))))
        wanted = network.fc(network.avgpool(y).flatten(1))
    torch.testing.assert_close(output_of(handler, x), wanted)
    assert snapshot(network.train()) == before
    with pytest.raises(ModelError, match=r"'fc', Linear\(in_features=9.*\(5, 4\)"):
        handler.replace("fc", nn.Linear(9, 2))
    with pytest.raises(ModelError, match="'flatten' is an operation"):
        handler.replace("flatten", nn.Flatten())


def test_one_call_or_all_calls_of_a_shared_module_are_replaced():
    network, x = Shared(), torch.randn(3, 4)
    handler = handle(network, x)
    with pytest.raises(ModelError, match=r"'relu' runs 3 times, as \['relu', 'relu@1', 'relu@2'\]"):
        handler.replace("relu", nn.Tanh())
    with torch.no_grad():
        y = network.b(network.a(x).relu())
        torch.testing.assert_close(output_of(handler.replace("relu@1", nn.Tanh()), x), F.relu(y.tanh() - 0.1))
    assert handler.layer_names == ["a", "relu", "b", "tanh", "sub", "relu@2"]
    handler.undo().replace("relu", nn.Tanh(), all_calls=True)
    with torch.no_grad():
        torch.testing.assert_close(output_of(handler, x), (network.b(network.a(x).tanh()).tanh() - 0.1).tanh())
    module = handler.get_module()
    assert module.alias is module.relu
    with pytest.raises(ModelError, match=r"'alias' is another name of 'relu': name that one"):
        handler.undo().replace("alias", nn.Tanh())


# ---- what is not edited


class Untidy(nn.Module):
    """Computes what nobody uses, holds parameters that nobody reads and a module that never runs."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.idle = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(3, 3)
        self.unread = nn.Parameter(torch.ones(2))
        self.inner = nn.Sequential(nn.Linear(4, 4))
        self.inner.scale = nn.Parameter(torch.ones(4))

    def forward(self, x):
        x = self.inner(self.first(x))
        self.second(x).exp()
        return self.second(x)


@pytest.mark.parametrize(
    "edit",
    [
        lambda handler: handler.add_layer_top(("new", nn.Linear(2, 2))),
        lambda handler: handler.insert_after("first", ("new", nn.Linear(4, 4))),
        lambda handler: handler.add_layer_bottom(("new", nn.Linear(4, 4))),
        lambda handler: handler.replace("inner.0", nn.Linear(4, 4)),
        lambda handler: handler.rename("inner.0", "linear"),
    ],
)
def test_an_edit_that_does_not_cut_takes_nothing_away(edit):
    network, x = Untidy(), torch.randn(3, 4)
    handler = handle(network, x)
    names, keys = handler.layer_names, list(network.state_dict())
    assert names == ["first", "inner.0", "second", "exp", "second@1"]
    edit(handler)
    kept = [name.replace("inner.linear", "inner.0") for name in handler.layer_names if name != "new"]
    assert kept == names
    held = [key.replace("inner.linear", "inner.0") for key in handler.get_module().state_dict()]
    assert [key for key in held if not key.startswith("new")] == keys
    left = set(handler.undo().truncate("second@1").get_module().state_dict())
    assert set(keys) - left == {"idle.weight", "idle.bias", "unread", "inner.scale"}


def test_lazy_layers_find_their_sizes_wherever_they_are_put():
    network, x = Residual(), images()
    handler = handle(network, x).insert_after("conv1", nn.LazyConv2d(4, 1)).insert_before("fc", nn.LazyLinear(4))
    handler.insert_after("layer1", [nn.LazyBatchNorm2d(), nn.LazyConv2d(4, 1)]).replace("fc", nn.LazyLinear(9))
    handler.add_layer_bottom(("colour", nn.LazyConv2d(3, 1)))
    module = handler.get_module()
    assert module.conv2d.weight.shape == (4, 4, 1, 1)
    assert module.linear.weight.shape == (4, 4)
    assert module.batchnorm2d.running_mean.shape == (4,)
    assert module.fc.weight.shape == (9, 4)
    assert module.colour.weight.shape == (3, 3, 1, 1)
    assert output_of(handler, x).shape == (5, 9)
    with pytest.raises(ModelError, match="make the handler with example inputs"):
        handle(network).replace("fc", nn.LazyLinear(9))
    with pytest.raises(ModelError, match=r"'layer1.0.add' reads"):
        handle(network, x).insert_before("layer1.0.add", nn.LazyConv2d(4, 1))


def test_a_layer_with_a_tied_weight_is_replaced_only_by_one_that_keeps_the_tie():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.mix, self.decode = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9, bias=False)
            self.decode.weight = self.embed.weight

        def forward(self, ids):
            return self.decode(self.mix(self.embed(ids)))

    network, ids = Tied(), torch.arange(6).reshape(2, 3)
    handler = handle(network, ids)
    with pytest.raises(ModelError, match=r"'embed.weight' is tied to 'decode.weight'.*would break the tie"):
        handler.replace("embed", nn.Embedding(9, 4))
    with pytest.raises(ModelError, match=r"'decode.weight' is tied to 'embed.weight'"):
        handler.replace("decode", nn.Linear(4, 9))
    assert handler.edits == ()
    biased = nn.Linear(4, 9)
    biased.weight = network.embed.weight
    module = handler.replace("decode", biased).get_module()
    assert module.decode.weight is module.embed.weight
    module = handle(network, ids).drop_layer_top(1).get_module()
    assert torch.equal(module.embed.weight, network.embed.weight)


def test_an_insertion_that_means_nothing_says_so():
    with pytest.raises(ModelError, match="insert_before needs a layer, one of layer_names, and 'layer1' is none"):
        handle(Residual(), images()).insert_before("layer1", nn.ReLU())
    with pytest.raises(ModelError, match="'idle' is no layer whose output is used"):
        handle(Untidy(), torch.randn(2, 4)).insert_after("idle", nn.ReLU())


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")
def test_a_layer_beside_torchscript_is_replaced():
    scripted = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    network, x, new = nn.Sequential(scripted, nn.Linear(4, 2)), torch.ones(3, 4), nn.Linear(4, 5)
    edited = ModelHandler(network, x).replace("1", new).get_module()
    assert torch.equal(edited(x), new(network[0](x)))

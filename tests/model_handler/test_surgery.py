"""Surgery from outside: what edited networks compute, what they are called, what is refused, what stays untouched."""

import copy
import io
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet18

from model_handler import AmbiguousLayerError, ModelError, UnknownLayerError, UntraceableModelError
from tests.model_handler.networks import (
    Attention,
    Branching,
    Convolutional,
    DataDependent,
    Residual,
    Shared,
    TwoInputs,
    handle,
    hooked,
    images,
    snapshot,
)


def output_of(handler, x):
    with torch.no_grad():
        return handler.get_module().eval()(x.clone())


def saved_and_loaded(network):
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


class Regularised(nn.Module):
    """A functional dropout inside a block: tracing makes the block a leaf."""

    def __init__(self):
        super().__init__()
        self.block, self.fc = DropBlock(), nn.Linear(6, 2)

    def forward(self, x):
        return self.fc(self.block(x))


class DropBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 6)

    def forward(self, x):
        return F.dropout(self.linear(x), 0.5, self.training)


class InPlace(nn.Module):
    """An operation that writes where nobody uses its result."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        x = self.first(x)
        x.clamp_(min=0)
        return self.third(self.second(x))


class Constant(nn.Module):
    """Its forward makes a constant, and reads a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.scale, self.inner = nn.Parameter(torch.full((1,), 3.0)), nn.Identity()

    def forward(self, x):
        return self.inner(x) * self.scale + torch.tensor([7.0])


# ---- truncate


@pytest.mark.parametrize("name", ["conv_1", "conv_2", "conv_3", "flatten", "fc"])
def test_a_truncated_network_ends_at_the_layer_named(name):
    network, x = Convolutional(), images()
    wanted = {**hooked(network, (x,), ["conv_1", "conv_2", "conv_3", "fc"])}
    wanted["flatten"] = wanted["conv_3"].flatten(1)
    handler = handle(network, x).truncate(at=name)
    torch.testing.assert_close(output_of(handler, x), wanted[name])
    assert handler.layer_names[-1] == name


def test_a_container_is_cut_behind_its_last_output_and_inside():
    network, x = Residual(), images()
    names = handle(network).layer_names
    layer1 = hooked(network, (x,), ["layer1"])["layer1"]
    handler = handle(network, x).truncate(at="layer1")
    torch.testing.assert_close(output_of(handler, x), layer1)
    assert handler.layer_names == names[: names.index("avgpool")]
    handler.truncate(at="layer1.0.bn")
    assert handler.layer_names == names[: names.index("layer1.0.bn") + 1]
    bn = hooked(network, (x,), ["layer1.0.bn"])["layer1.0.bn"]
    torch.testing.assert_close(output_of(handler, x), bn)
    features = handler.extract(x, ["layer1", "layer1.0.conv"])  # what is left of layer1 ends where the network ends
    torch.testing.assert_close(torch.tensor(features.values["layer1"]), bn.flatten(1))


def test_names_of_repeats_stay_though_the_first_call_is_cut_off():
    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.relu = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU()

        def forward(self, x):
            return self.relu(self.a(x)), self.relu(self.b(x)) * 2

    x = torch.randn(3, 4)
    handler = handle(Beside(), x).truncate(at="relu@1")
    assert handler.layer_names == ["b", "relu@1"]
    assert handler.extract(x, ["relu@1"]).matrix.shape == (3, 4)
    assert [layer.output_shape for layer in handler.layers] == [(3, 4), (3, 4)]


def test_a_part_of_what_a_layer_returns_can_be_the_output():
    network, x = Attention(), torch.randn(2, 5, 4)
    handler = handle(network, x).truncate(at="attention[0]")
    torch.testing.assert_close(output_of(handler, x), hooked(network, (x,), ["attention"])["attention"][0])


def test_in_place_operations_whose_result_is_unused_survive():
    network, x = InPlace(), torch.randn(3, 4)
    wanted = network.second(network.first(x).clamp(min=0)).detach()
    torch.testing.assert_close(output_of(handle(network, x).drop_layer_top(1), x), wanted)
    torch.testing.assert_close(output_of(handle(network, x).truncate("second"), x), wanted)
    torch.testing.assert_close(output_of(handle(network, x).drop_layer_top(2), x), network.first(x).clamp(min=0))
    torch.testing.assert_close(output_of(handle(network, x).truncate("first"), x), network.first(x))


def test_a_cut_inside_a_leaf_is_refused_with_the_reason():
    handler = handle(Regularised(), torch.randn(2, 4))
    with pytest.raises(ModelError, match=r"'block.linear' is inside 'block'.*computes something else in training"):
        handler.truncate(at="block.linear")
    with pytest.raises(UnknownLayerError, match="no layer is named 'blok'; nearest: \\['block'"):
        handler.truncate(at="blok")
    assert handler.edits == ()


def test_a_container_that_returns_an_object_is_cut_at_one_of_its_layers():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x):
            return OrderedDict(out=self.inner(x))

    class Segmenting(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.fc = Named(), nn.Linear(4, 2)

        def forward(self, x):
            return {"out": self.fc(self.backbone(x)["out"])}

    handler = handle(Segmenting(), torch.randn(2, 4))
    with pytest.raises(ModelError, match=r"'backbone' returns an object.*such as 'backbone.inner'"):
        handler.truncate("backbone")
    with pytest.raises(ModelError, match=r"returns a dict of \['fc'\] under the keys \['out'\]"):
        handler.drop_layer_top()
    assert handler.truncate("fc").add_layer_top(nn.LazyLinear(3)).layers[-1].output_shape == (2, 3)


# ---- drop_layer_top


def test_dropping_counts_layer_names():
    network, x = Residual(), images()
    names = handle(network).layer_names
    pooled = hooked(network, (x,), ["avgpool"])["avgpool"]
    torch.testing.assert_close(output_of(handle(network, x).drop_layer_top(), x), pooled.flatten(1))
    handler = handle(network, x).drop_layer_top(2)
    torch.testing.assert_close(output_of(handler, x), pooled)
    assert handler.layer_names == names[:-2]
    torch.testing.assert_close(output_of(handle(network, x).drop_layer_top(1).drop_layer_top(1), x), pooled)


def test_a_whole_residual_block_can_be_dropped():
    network, x = Residual(), images()
    names = handle(network).layer_names
    n = len(names) - names.index("layer1.1.conv")
    wanted = hooked(network, (x,), ["layer1.0"])["layer1.0"]
    torch.testing.assert_close(output_of(handle(network, x).drop_layer_top(n), x), wanted)


def test_a_drop_across_a_join_names_the_branches_and_the_call():
    network, x = Residual(), images()
    handler = handle(network, x)
    n = len(handler.layer_names) - handler.layer_names.index("layer1.1.add")
    with pytest.raises(AmbiguousLayerError) as caught:
        handler.drop_layer_top(n)
    assert "['layer1.1.bn', 'layer1.0.relu']" in str(caught.value)
    assert "truncate(at='layer1.1.bn')" in str(caught.value)
    assert handler.edits == ()
    handler.truncate(at="layer1.1.bn")
    torch.testing.assert_close(output_of(handler, x), hooked(network, (x,), ["layer1.1.bn"])["layer1.1.bn"])


@pytest.mark.parametrize("n", [0, -1, 6, 100, 1.5, True, "1"])
def test_an_impossible_number_of_layers_is_refused(n):
    handler = handle(Convolutional(), images())
    with pytest.raises(ModelError, match="n must be"):
        handler.drop_layer_top(n)
    assert len(handler.layer_names) == 5


def test_top_edits_of_a_network_with_several_outputs_name_them():
    handler = handle(Branching([]))
    for edit in (lambda: handler.drop_layer_top(1), lambda: handler.add_layer_top(nn.ReLU())):
        with pytest.raises(ModelError, match=r"returns a tuple of \['third', 'side_relu'\].*truncate\(at='third'\)"):
            edit()
    handler.truncate(at="third").add_layer_top(nn.Linear(4, 9))
    assert output_of(handler, torch.randn(2, 4)).shape == (2, 9)


def test_two_inputs_stay_two_inputs():
    network, x = TwoInputs(), (torch.randn(3, 3), torch.randn(3, 2))
    handler = handle(network, x).drop_layer_top(1)
    with torch.no_grad():
        wanted = network.left(x[0]) + F.relu(network.right(x[1]))
        torch.testing.assert_close(handler.get_module()(a=x[0], b=x[1]), wanted)
    with pytest.raises(AmbiguousLayerError, match=r"left.*relu"):
        handler.drop_layer_top(1)
    with pytest.raises(ModelError, match="takes the inputs"):
        handler.extract({"a": x[0], "b": x[1], "scale": x[0]}, ["left"])


# ---- add_layer_top


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


def test_lazy_layers_find_their_width():
    network, x, lazy = Residual(), images(), nn.LazyLinear(7)
    handler = handle(network, x).drop_layer_top(1).add_layer_top([lazy, nn.LazyBatchNorm1d(), nn.ReLU()])
    assert handler.layer_names[-3:] == ["linear", "batchnorm1d", "relu_2"]
    assert handler.get_module().linear.weight.shape == (7, 4)
    assert isinstance(lazy, nn.LazyLinear)  # the one given waits on
    with pytest.raises(ModelError, match="make the handler with example inputs"):
        handle(Residual()).add_layer_top(nn.LazyLinear(7))


def test_a_size_that_does_not_fit_names_both_shapes():
    network, x = Residual(), images()
    handler = handle(network, x)
    before = snapshot(network)
    with pytest.raises(ModelError, match=r"'linear', Linear\(in_features=9.*\(5, 3\)") as caught:
        handler.add_layer_top(nn.Linear(9, 2))
    assert "nothing was changed" in str(caught.value)
    with pytest.raises(ModelError, match=r"'linear_2'|'linear', Linear\(in_features=9.*\(5, 3\)"):
        handler.add_layer_top([nn.Linear(9, 2), nn.LazyLinear(2)])
    assert snapshot(network) == before
    assert (handler.edits, handler.layer_names[-1]) == ((), "fc")


def test_bad_additions_are_refused_before_anything_changes():
    network, head = Residual(), nn.Linear(3, 2)
    handler = handle(network, images())
    with pytest.raises(ModelError, match="name 'layer1' is taken"):
        handler.add_layer_top(("layer1", head))
    with pytest.raises(ModelError, match="name 'flatten' is taken"):
        handler.add_layer_top(("flatten", head))
    with pytest.raises(ModelError, match="name 'a' is taken"):
        handler.add_layer_top([("a", head), ("a", nn.ReLU())])
    with pytest.raises(ModelError, match=r"cannot be named 'a\.b'"):
        handler.add_layer_top(("a.b", head))
    with pytest.raises(ModelError, match="same Linear is given twice"):
        handler.add_layer_top([head, nn.ReLU(), head])
    with pytest.raises(ModelError, match="Linear is already in the network"):
        handler.add_layer_top(network.fc)
    with pytest.raises(ModelError, match=r"on cpu, 'linear' on meta"):
        handler.add_layer_top(nn.Linear(3, 2, device="meta"))
    with pytest.raises(TypeError, match="got 3"):
        handler.add_layer_top([3])
    with pytest.raises(ModelError, match="empty"):
        handler.add_layer_top([])
    assert handler.edits == ()
    handler.add_layer_top(head)
    with pytest.raises(ModelError, match="Linear is already in the network"):
        handler.add_layer_top(head)


# ---- undo, edits, the user's module


def test_edits_read_as_they_were_written_and_are_undone_one_by_one():
    network, x = Residual(), images()
    handler = handle(network, x)
    names = handler.layer_names
    handler.drop_layer_top(1).add_layer_top(("fc", nn.Linear(4, 2))).freeze(up_to="layer1")
    assert handler.edits[0] == "drop_layer_top(1)"
    assert handler.edits[1].startswith("add_layer_top([('fc', Linear(in_features=4")
    assert handler.edits[2] == "freeze(up_to='layer1')"
    assert handler.undo().undo().edits == ("drop_layer_top(1)",)
    assert handler.layer_names == names[:-1]
    handler.undo()
    torch.testing.assert_close(output_of(handler, x), hooked(network, (x,), ["fc"])["fc"])
    assert all(layer.trainable for layer in handler.layers if layer.n_parameters)
    with pytest.raises(ModelError, match="no edit to undo"):
        handler.undo()


@pytest.mark.parametrize("training", [True, False])
def test_the_users_module_stays_bit_identical_through_edits_and_failures(training):
    network, x = Residual().train(training), images()
    before = snapshot(network)
    handler = handle(network, x)
    handler.drop_layer_top(2).add_layer_top([nn.Flatten(), nn.LazyLinear(3), nn.Dropout()]).freeze(up_to="layer1")
    for fail in (lambda: handler.truncate("nowhere"), lambda: handler.drop_layer_top(99)):
        with pytest.raises(ModelError):
            fail()
    module = handler.get_module()
    assert all(part.training == training for part in (module.dropout, module.avgpool))
    module.train()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1, weight_decay=0.1)
    module(x).sum().backward()
    optimiser.step()
    assert snapshot(network) == before


def test_training_of_the_source_is_seen_by_an_edited_handler():
    network, x = Residual(), images()
    handler = handle(network, x).truncate(at="layer1")
    with torch.no_grad():
        network.conv1.weight.mul_(2)
    torch.testing.assert_close(output_of(handler, x), hooked(network, (x,), ["layer1"])["layer1"])
    rows = handler.extract(x, ["layer1"]).matrix
    torch.testing.assert_close(torch.tensor(rows), hooked(network, (x,), ["layer1"])["layer1"].flatten(1))


def test_what_cannot_be_traced_says_where_and_what_still_works():
    handler = handle(DataDependent(), torch.randn(2, 4))
    for edit in (
        lambda: handler.truncate("stem"),
        lambda: handler.drop_layer_top(1),
        lambda: handler.add_layer_top(nn.ReLU()),
    ):
        with pytest.raises(UntraceableModelError, match=r"forward of DataDependent itself cannot be traced.*freeze"):
            edit()
    assert isinstance(handler.get_module(), DataDependent)


# ---- get_module


def test_an_unedited_handler_hands_out_a_copy_of_the_source():
    network = Residual()
    module = handle(network).get_module()
    assert type(module) is Residual
    assert all(a is not b and torch.equal(a, b) for a, b in zip(module.parameters(), network.parameters()))


def test_the_handed_out_module_is_an_ordinary_one_of_its_own():
    network, x = resnet18(weights=None), images(2, height=64, width=64)
    handler = handle(network, x).drop_layer_top(1).add_layer_top(("fc", nn.LazyLinear(10)))
    module = handler.get_module()
    assert list(module.state_dict()) == list(network.state_dict())
    kept = {key: value for key, value in network.state_dict().items() if not key.startswith("fc.")}
    assert all(torch.equal(module.state_dict()[key], value) for key, value in kept.items())
    assert module.load_state_dict(kept, strict=False).missing_keys == ["fc.weight", "fc.bias"]
    wanted = module.eval()(x)
    for twin in (copy.deepcopy(module), saved_and_loaded(module), copy.deepcopy(saved_and_loaded(module))):
        assert list(twin.state_dict()) == list(module.state_dict())
        assert not twin.training
        torch.testing.assert_close(twin(x), wanted)
        assert not {id(p) for p in twin.parameters()} & {id(p) for p in module.parameters()}
    assert module.double()(x.double()).dtype == torch.float64
    assert next(handler.get_module().parameters()).dtype == torch.float32
    again = handler.get_module()
    handler.truncate("layer1")
    assert "fc" in dict(again.named_children())


def test_the_handed_out_module_can_be_handled_again_compiled_and_exported():
    x = images()
    handler = handle(Residual(), x).drop_layer_top(1).add_layer_top(nn.LazyLinear(2))
    module = handler.get_module().eval()
    wanted = module(x).detach()
    torch.testing.assert_close(torch.tensor(handle(module, x).extract(x, ["linear"]).matrix), wanted)
    torch.testing.assert_close(torch.compile(module, backend="eager")(x).detach(), wanted)
    torch.testing.assert_close(torch.export.export(module, (x,)).module()(x).detach(), wanted)


def test_dropout_of_a_promoted_leaf_lives_in_train_mode():
    x = torch.randn(4, 4)
    module = handle(Regularised(), x).add_layer_top(nn.LazyLinear(3)).get_module()
    module.train()
    assert not torch.equal(module(x), module(x))
    module.eval()
    assert torch.equal(module(x), module(x))


def test_aliases_and_shared_modules_keep_all_their_names():
    network = Shared()
    network.b.weight = network.a.weight
    module = handle(network, torch.randn(2, 4)).drop_layer_top(1).get_module()
    assert module.alias is module.relu
    assert module.a.weight is module.b.weight
    assert list(module.state_dict()) == list(network.state_dict())


def test_auxiliary_heads_of_training_are_gone_after_an_edit():
    from torchvision.models import googlenet

    network = googlenet(weights=None, init_weights=False, aux_logits=True)
    handler = handle(network, images(2, height=64, width=64)).drop_layer_top(1)
    keys = handler.get_module().state_dict().keys()
    assert not any(key.startswith("aux") for key in keys)
    assert keys <= network.state_dict().keys()


def test_buffers_that_became_constants_stay_in_the_state_dict():
    class Indexed(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("places", torch.tensor([2, 0, 1]))
            self.register_buffer("passing", torch.ones(1), persistent=False)
            self.fc = nn.Linear(3, 3)

        def forward(self, x):
            return self.fc(x[:, self.places.view(-1)])

    network, x = nn.Sequential(Indexed(), nn.ReLU()), torch.randn(2, 3)
    module = handle(network, x).drop_layer_top(1).get_module()
    assert module.state_dict().keys() == network.state_dict().keys()
    torch.testing.assert_close(module(x), network[0].fc(x[:, [2, 0, 1]]))


# ---- insert, add_layer_bottom


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


def test_bad_insertions_are_refused():
    handler = handle(Residual(), images())
    with pytest.raises(ModelError, match=r"layer 'linear', Linear.*failed on input of shape"):
        handler.insert_after("flatten", nn.Linear(9, 9))
    with pytest.raises(UnknownLayerError, match="'flaten'"):
        handler.insert_after("flaten", nn.ReLU())
    with pytest.raises(ModelError, match=r"'layer1.0.add' reads \['layer1.0.bn', 'relu'\]"):
        handler.insert_before("layer1.0.add", nn.ReLU())
    with pytest.raises(ModelError, match="only add_layer_top finds them"):
        handler.insert_before("fc", nn.LazyLinear(3))
    assert handler.edits == ()


def test_a_layer_behind_a_container_comes_behind_its_last_output():
    network, x = Residual(), images()
    norm = nn.Conv2d(4, 4, 1)
    handler = handle(network, x).insert_after("layer1", norm)
    layer1 = hooked(network, (x,), ["layer1"])["layer1"]
    with torch.no_grad():
        wanted = network.fc(norm(layer1).mean((2, 3)))
    torch.testing.assert_close(output_of(handler, x), wanted)


# ---- replace


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
    with pytest.raises(ModelError, match="'flatten' is no module"):
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

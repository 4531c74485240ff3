"""Cutting: what truncated and shortened networks compute, what they are called, and which cuts are refused."""

import copy
from collections import OrderedDict, namedtuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model_handler import AmbiguousLayerError, ModelError, UnknownLayerError
from tests.model_handler.networks import (
    Attention,
    Branching,
    Convolutional,
    Regularised,
    Residual,
    TwoInputs,
    handle,
    hooked,
    images,
    output_of,
)


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


@pytest.mark.parametrize("name", ["fc", "layer1"])
def test_a_part_of_one_tensor_is_that_tensor_and_never_a_row_of_it(name):
    network, x = Residual(), images()
    handler = handle(network, x)
    full_output = output_of(handle(network, x).truncate(at=name), x)
    torch.testing.assert_close(output_of(handler.truncate(at=f"{name}[0]"), x), full_output)
    handler.undo()
    with pytest.raises(ModelError, match=rf"'{name}' returns 1 tensor, so there is no {name}\[1\]: truncate"):
        handler.truncate(at=f"{name}[1]")
    assert handler.edits == ()


def test_a_cut_inside_a_leaf_is_refused_with_the_reason():
    handler = handle(Regularised(), torch.randn(2, 4))
    with pytest.raises(ModelError, match=r"'block.linear' is inside 'block'.*computes something else in training"):
        handler.truncate(at="block.linear")
    with pytest.raises(UnknownLayerError, match="no layer is named 'blok'; nearest: \\['block'"):
        handler.truncate(at="blok")
    assert handler.edits == ()


def segmenting(packed, unpacked):
    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x):
            return packed(self.inner(x))

    class Segmenting(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.fc = Backbone(), nn.Linear(4, 2)

        def forward(self, x):
            return {"out": self.fc(unpacked(self.backbone(x)))}

    return Segmenting()


def test_a_container_that_returns_an_object_is_cut_at_one_of_its_layers():
    Maps = namedtuple("Maps", "out")
    handler = handle(segmenting(lambda value: Maps(value), lambda maps: maps.out), torch.randn(2, 4))
    with pytest.raises(ModelError, match=r"'backbone' returns an object.*such as 'backbone.inner'"):
        handler.truncate("backbone")
    with pytest.raises(ModelError, match=r"returns a dict of \['fc'\] under the keys \['out'\]"):
        handler.drop_layer_top()
    assert handler.truncate("fc").add_layer_top(nn.LazyLinear(3)).layers[-1].output_shape == (2, 3)


def test_a_container_that_returns_an_object_has_no_features_after_an_edit():
    Maps = namedtuple("Maps", "out")
    x = torch.randn(2, 4)
    handler = handle(segmenting(lambda value: Maps(value), lambda maps: maps.out), x)
    assert handler.extract(x, ["backbone"]).shape == (2, 4)
    handler.insert_before("fc", nn.ReLU())
    with pytest.raises(ModelError, match=r"\['backbone'\] return objects.*name layers in them"):
        handler.extract(x, ["backbone"])
    assert handler.extract(x, ["backbone.inner"]).shape == (2, 4)


def test_a_container_that_returns_an_ordered_dict_is_one_that_returns_a_dict():
    x = torch.randn(2, 4)
    network = segmenting(lambda value: OrderedDict(out=value, low=value + 1), lambda maps: maps["out"])
    handler = handle(network, x)
    for step in (lambda: None, lambda: handler.insert_before("fc", nn.ReLU())):
        step()
        with pytest.raises(ModelError, match=r"'backbone' returns 2 tensors; name one of backbone\[0\]"):
            handler.extract(x, ["backbone"])
        low = torch.from_numpy(handler.extract(x, ["backbone[1]"]).values["backbone[1]"])
        torch.testing.assert_close(low, network.backbone(x)["low"].detach())
    assert set(handler.truncate("backbone").get_module()(x)) == {"out", "low"}


def test_dropping_counts_layer_names():
    network, x = Residual(), images()
    names = handle(network).layer_names
    pooled = hooked(network, (x,), ["avgpool"])["avgpool"]
    torch.testing.assert_close(output_of(handle(network, x).drop_layer_top(), x), pooled.flatten(1))
    handler = handle(network, x).drop_layer_top(2)
    torch.testing.assert_close(output_of(handler, x), pooled)
    assert handler.layer_names == names[:-2]
    torch.testing.assert_close(output_of(handle(network, x).drop_layer_top(1).drop_layer_top(1), x), pooled)


def test_a_network_may_end_in_a_part_of_what_its_last_layer_returns():
    network, x = Attention(), torch.randn(2, 5, 4)
    attended, _ = hooked(network, (x,), ["attention"])["attention"]
    handler = handle(network, x).drop_layer_top(2)
    torch.testing.assert_close(output_of(handler, x), attended)
    assert handler.layer_names == ["attention"]


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


@pytest.mark.parametrize("n", [0, -1, 6, 100, 1.5, True, "1", torch.ones(2, dtype=int)])
def test_an_impossible_number_of_layers_is_refused(n):
    handler = handle(Convolutional(), images())
    with pytest.raises(ModelError, match="n must be"):
        handler.drop_layer_top(n)
    assert len(handler.layer_names) == 5


def test_one_layer_alone_cannot_be_dropped():
    handler = handle(nn.Linear(3, 2), torch.randn(2, 3))
    for drop in (handler.drop_layer_top, handler.drop_layer_bottom):
        with pytest.raises(ModelError, match="the network has 1 layer: none can be dropped, got n=1"):
            drop(1)


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


def test_auxiliary_heads_of_training_are_gone_after_an_edit():
    from torchvision.models import googlenet

    network = googlenet(weights=None, init_weights=False, aux_logits=True)
    handler = handle(network, images(2, height=64, width=64)).drop_layer_top(1)
    keys = handler.get_module().state_dict().keys()
    assert not any(key.startswith("aux") for key in keys)
    assert keys <= network.state_dict().keys()


def test_a_list_of_modules_is_cut_behind_its_last_module():
    class Stages(nn.ModuleList):
        """A list with a forward of its own: the sum of what its modules give."""

        def forward(self, x):
            return sum(module(x) for module in self)

    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(3))
            self.stages, self.fc = Stages([nn.Linear(4, 4), nn.Linear(4, 4)]), nn.Linear(4, 2)

        def forward(self, x):
            for block in self.blocks:
                x = block(x)
            return self.fc(self.stages(x))

    network, x = Listed(), torch.randn(3, 4)
    with torch.no_grad():
        y = network.blocks[2](network.blocks[1](network.blocks[0](x)))
        torch.testing.assert_close(output_of(handle(network, x).truncate("blocks"), x), y)
        torch.testing.assert_close(output_of(handle(network, x).truncate("stages"), x), network.stages(y))
        torch.testing.assert_close(torch.tensor(handle(network).extract(x, ["stages"]).matrix), network.stages(y))
    module = handle(network, x).freeze(up_to="blocks").get_module()
    assert {name.partition(".")[0] for name, p in module.named_parameters() if p.requires_grad} == {"stages", "fc"}


# ---- drop_layer_bottom


def test_a_network_without_its_first_layers_reads_what_the_first_one_kept_read():
    network, x = Residual(), images()
    names = handle(network).layer_names
    taken = hooked(network, (x,), ["bn1", "layer1.0", "avgpool", "fc"])
    taken = {name: value.clone() for name, value in taken.items()}
    for n, at in ((2, "bn1"), (7, "layer1.0"), (12, "avgpool")):
        handler = handle(network, x).drop_layer_bottom(n)
        assert handler.layer_names == names[n:]
        torch.testing.assert_close(output_of(handler, taken[at]), taken["fc"])
        assert handler.get_module().state_dict().keys() <= network.state_dict().keys()
        assert [layer.output_shape[0] for layer in handler.layers] == [5] * (len(names) - n)
    torch.testing.assert_close(output_of(handle(network).drop_layer_bottom(2), taken["bn1"]), taken["fc"])


def test_containers_that_are_kept_whole_are_still_containers():
    network, x = Residual(), images()
    taken = hooked(network, (x,), ["layer1.0", "layer1"])
    handler = handle(network, x).drop_layer_bottom(7)
    features = handler.extract(taken["layer1.0"], ["layer1", "layer1.1"])
    torch.testing.assert_close(torch.tensor(features.values["layer1"]), taken["layer1"].flatten(1))
    torch.testing.assert_close(output_of(handler.truncate("layer1"), taken["layer1.0"]), taken["layer1"])


def test_later_edits_of_the_rest_know_sizes_and_undo_brings_the_images_back():
    network, x = Residual(), images()
    handler = handle(network, x)
    names = handler.layer_names
    handler.drop_layer_bottom(2).add_layer_bottom(("widened", nn.LazyConv2d(4, 1)))
    assert handler.get_module().widened.weight.shape == (4, 4, 1, 1)
    assert handler.layer_names[:2] == ["widened", "relu"]
    wanted = r"(?s)'conv2d'.*failed on input of shape \(5, 4, 6, 6\).*add_layer_bottom\(\.\.\., example_inputs=\.\.\.\)"
    with pytest.raises(ModelError, match=wanted):
        handler.add_layer_bottom(nn.Conv2d(3, 4, 1))
    assert handler.undo().undo().layer_names == names
    assert handler.truncate("conv1").layers[0].output_shape == (5, 4, 6, 6)


def test_what_was_computed_inside_is_not_written_into_as_an_input():
    network, x = Residual(), images()
    module = handle(network, x).drop_layer_bottom(2).get_module()
    y = torch.randn(5, 4, 6, 6, requires_grad=True)
    before = y.detach().clone()
    module(y).sum().backward()
    assert torch.equal(y.detach(), before)
    assert y.grad is not None


def test_a_bottom_cut_across_a_join_names_the_branches_and_the_calls_that_do_it():
    handler = handle(Residual(), images())
    with pytest.raises(AmbiguousLayerError) as caught:
        handler.drop_layer_bottom(4)
    assert "['relu', 'layer1.0.conv']" in str(caught.value)
    assert "drop_layer_bottom(3) or drop_layer_bottom(6)" in str(caught.value)
    assert handler.edits == ()
    assert handler.drop_layer_bottom(6).layer_names[0] == "layer1.0.relu"

    class Skipping(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.c(self.b(self.a(x)) + x.view(x.shape[0], -1))

    with pytest.raises(AmbiguousLayerError, match=r"\['input x', 'b'\]|\['b', 'input x'\]"):
        handle(Skipping(), torch.randn(2, 4)).drop_layer_bottom(2)


@pytest.mark.parametrize("n", [0, -1, 5, 100, 1.5, True, "1"])
def test_an_impossible_number_of_first_layers_is_refused(n):
    handler = handle(Convolutional(), images())
    with pytest.raises(ModelError, match="n must be"):
        handler.drop_layer_bottom(n)
    assert len(handler.layer_names) == 5


def test_the_bottom_of_a_network_with_several_inputs_is_not_guessed():
    network, x = TwoInputs(), (torch.randn(3, 3), torch.randn(3, 2))
    handler = handle(network, x)
    with pytest.raises(ModelError, match=r"this one has \['a', 'b'\].*replace\(name, torch.nn.Identity\(\)\)"):
        handler.drop_layer_bottom(1)
    assert handle(network).replace("left", nn.Identity()).layer_names[0] == "left"


class TwoMaps(nn.Module):
    """Two convolutions; an in-place layer writes into what the first one gives."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(4, 5, 3)
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        return self.head(self.second(self.relu(self.first(x))).mean((2, 3)))


def test_a_network_truncated_at_several_layers_returns_each_output_as_it_was_in_the_order_named():
    network, x = TwoMaps(), torch.randn(2, 3, 8, 8)
    first = network.first(x)
    second = network.second(first.relu())
    for wanted, at in [((second, first), ["second", "first"]), ((first, second), ["first", "second"])]:
        module = handle(network, x).truncate(at).get_module()
        assert list(module.state_dict()) == ["first.weight", "first.bias", "second.weight", "second.bias"]
        torch.testing.assert_close(module(x), wanted)
        torch.testing.assert_close(copy.deepcopy(module)(x), wanted)


def test_several_layers_to_end_at_are_known_and_different():
    handler = handle(TwoMaps(), torch.randn(2, 3, 8, 8))
    for wrong in ([], ["first", "first"]):
        with pytest.raises(ModelError, match="several different ones"):
            handler.truncate(wrong)
    with pytest.raises(UnknownLayerError, match="secnd"):
        handler.truncate(["first", "secnd"])
    assert handler.edits == ()

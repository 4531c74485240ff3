"""What a handler says of a network: layers, shapes, FLOPs, paths, and what is shared."""

import copy
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model_handler import ModelError, ModelHandler, UnknownLayerError, UntraceableModelError
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


def sizes(*shape):
    return torch.empty(*shape, device="meta")


def counted(network, *inputs):
    """FLOPs of a real run of the whole network, its attention as matrix products."""

    @contextmanager
    def unfused():
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(True)

    training = network.training
    with unfused(), FlopCounterMode(display=False) as counter:
        network.eval()(*inputs)
    network.train(training)
    return counter.get_total_flops()


# ---- names, types and parameters


def test_layers_have_the_shapes_that_hooks_see():
    network = Residual()
    layers = {info.name: info for info in handle(network, images()).layers}
    modules = [name for name in layers if name in dict(network.named_modules())]
    for name, output in hooked(network, (images(),), modules).items():
        assert layers[name].output_shape == tuple(output.shape)
    assert layers["layer1.0.add"].output_shape == (5, 4, 6, 6)
    assert (layers["fc"].type, layers["fc"].n_parameters, layers["fc"].trainable) == ("Linear", 15, True)
    assert (layers["flatten"].type, layers["flatten"].n_parameters) == ("flatten", 0)
    assert handle(network).layers[0].output_shape is None


class Prefixes(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc10 = nn.Linear(2, 2), nn.Linear(2, 2)
        self.block = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2, bias=False))

    def forward(self, x):
        return self.block(self.fc10(self.fc1(x))) + 1


def test_parameters_are_those_of_exactly_the_layers_named():
    network = Prefixes()
    handler = handle(network)
    assert handler.get_layer_parameters("fc1") == ["fc1.weight", "fc1.bias"]
    assert handler.get_layer_parameters(["add", "fc10"]) == ["fc10.weight", "fc10.bias"]
    inside = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert handler.get_layer_parameters(["block", "block.1"]) == [
        *(f"block.0.{key}" for key in inside),
        "block.1.weight",
    ]
    with pytest.raises(UnknownLayerError, match=r"no layer is named 'fc'; nearest: .*\n.*'blok'; nearest: \['block'"):
        handler.get_layer_parameters(["fc", "fc1", "blok"])


def test_types_are_class_names_or_operations():
    handler = handle(Residual())
    assert handler.get_layer_type("bn1") == "BatchNorm2d"
    assert handler.get_layer_type("layer1.1.add") == "add"
    assert handler.get_layer_type("layer1") == "Sequential"
    assert handle(Shared()).get_layer_type("relu@2") == "ReLU"


def test_layers_match_a_type_by_class_name_family_and_not_otherwise():
    handler = handle(Residual())
    convolutions = ["conv1", "layer1.0.conv", "layer1.1.conv"]
    for layer_type in (nn.Conv2d, "conv2d", "Conv2d", "convolution", "Convolution"):
        assert handler.get_layer_names_matching_type(layer_type) == convolutions
    assert handler.get_layer_names_matching_type("add") == ["layer1.0.add", "layer1.1.add"]
    assert handler.get_layer_names_matching_type("recurrent") == []
    assert handler.get_layer_names_matching_type(nn.LSTM) == []
    with pytest.raises(ModelError, match=r"no layer type 'Convoluton'; nearest: \['convolution'"):
        handler.get_layer_names_matching_type("Convoluton")


# ---- shapes


def test_shapes_from_sizes_alone_are_those_of_a_real_run():
    for network in (Residual(), Attention(), Shared()):
        given = torch.randn(2, 5, 4) if isinstance(network, Attention) else images(2, width=9)
        given = torch.randn(2, 4) if isinstance(network, Shared) else given
        real, propagated = handle(network, given).layers, handle(network, given.to("meta")).layers
        assert propagated == real
        assert any(layer.output_shape for layer in real)


def test_sizes_alone_list_layers_of_an_untraceable_network_as_they_run():
    class Doubled(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, *parts):
            return self.fc(self.fc(parts[0]))

    handler = handle(Doubled(), sizes(3, 4))
    assert [(layer.name, layer.output_shape, layer.flops) for layer in handler.layers] == [
        ("fc", (3, 4), 2 * 4 * 4),
        ("fc@1", (3, 4), 2 * 4 * 4),
    ]


def test_sizes_alone_do_not_count_as_verification():
    network = Residual()
    handler = handle(network, sizes(2, 3, 8, 8))
    assert not handler._engine.verified
    wanted = hooked(network, (images(),), ["layer1"])["layer1"].flatten(1)
    np.testing.assert_allclose(handler.extract(images(), ["layer1"]).matrix, wanted, rtol=1e-4, atol=1e-5)
    assert handler._engine.verified


def test_a_network_of_sizes_alone_can_be_looked_into():
    with torch.device("meta"):
        network = torchvision.models.resnet18()
    summary = ModelHandler(network, sizes(1, 3, 224, 224)).summary(1)
    assert summary.n_parameters == 11_689_512
    assert summary.rows[-1].output_shape == (1, 1000)


def test_sizes_that_do_not_fit_name_the_layer():
    with pytest.raises(ModelError, match=r"layer 'conv_1', Conv2d.* failed on input of shape \(2, 4, 8, 8\)") as raised:
        handle(Convolutional(), sizes(2, 4, 8, 8))
    assert "numbers" not in str(raised.value)


def test_a_network_that_needs_numbers_says_so():
    network = DataDependent()
    before = snapshot(network)
    with pytest.raises(ModelError, match=r"DataDependent: .*\nThis needs example inputs that have numbers"):
        handle(network, sizes(2, 4))
    assert snapshot(network) == before


def test_edits_are_checked_by_sizes_alone():
    handler = handle(Residual(), sizes(2, 3, 8, 8))
    with pytest.raises(ModelError, match=r"layer 'head', Linear.* failed on input of shape \(2, 3\)"):
        handler.add_layer_top([("head", nn.Linear(4, 2))])
    assert handler.edits == ()
    handler.drop_layer_top(1).add_layer_top([("head", nn.LazyLinear(2))])
    assert (handler.layers[-1].output_shape, handler.layers[-1].n_parameters) == ((2, 2), 4 * 2 + 2)
    handler.insert_after("layer1.0.conv", [("inner", nn.LazyConv2d(4, 1))]).drop_layer_bottom(1)
    assert handler.layers[0].output_shape == (2, 4, 6, 6)
    assert handler.get_module()(torch.randn(5, 4, 6, 6)).shape == (5, 2)


def test_an_untraceable_network_is_cut_and_lengthened_by_sizes_alone():
    class Untraceable(nn.Sequential):
        def forward(self, *parts):
            return super().forward(parts[0])

    handler = handle(Untraceable(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), sizes(2, 4)).truncate("1")
    handler.add_layer_top([("head", nn.LazyLinear(2))])
    assert {layer.name: layer.output_shape for layer in handler.layers} == {"0": (2, 5), "1": (2, 5), "head": (2, 2)}
    assert [layer.flops for layer in handler.layers] == [2 * 4 * 5, 0, 2 * 5 * 2]


def test_a_source_by_name_has_the_shapes_of_its_own_preprocessing():
    layers = {layer.name: layer for layer in ModelHandler("efficientnet-lite0", device="cpu").layers}
    assert layers["_conv_stem"].output_shape == (1, 32, 112, 112)
    assert layers["_conv_stem"].flops == 2 * 112 * 112 * 32 * 3 * 3 * 3
    assert layers["_fc"].output_shape == (1, 1000)


def test_shapes_of_a_random_preprocessing_leave_the_generator_alone():
    def transform(image):
        return torch.randn(3, 8, 8)

    handler, before = handle(Residual(), transform=transform), torch.get_rng_state()
    assert handler.layers[-1].output_shape == (1, 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_example_inputs_there_are_no_shapes_and_the_summary_says_what_gives_them():
    handler = handle(Residual())
    assert {(layer.output_shape, layer.flops) for layer in handler.layers} == {(None, None)}
    assert 'torch.empty(1, 3, 224, 224, device="meta")' in str(handler.summary())


# ---- FLOPs


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vit_b_32", "swin_t"])
def test_flops_add_up_to_those_of_the_whole_network(name):
    network = torchvision.models.get_model(name, weights=None)
    handler = handle(network, sizes(2, 3, 224, 224))
    wanted = counted(network, torch.zeros(1, 3, 224, 224))
    assert sum(layer.flops for layer in handler.layers) == wanted
    assert {handler.summary(depth).flops for depth in (None, 1, 2)} == {wanted}
    assert sum(row.flops for row in handler.summary(1).rows) == wanted


def test_flops_of_a_convolution_are_two_for_each_multiply_and_add():
    handler = handle(nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, groups=2), nn.ReLU()), images(3, channels=4))
    assert [layer.flops for layer in handler.layers] == [2 * (3 * 3) * (3 * 3) * (4 // 2) * 6, 0]


def test_attention_and_recurrent_layers_count_as_matrix_products():
    n, d, h = 5, 4, 3  # tokens, width, hidden units
    attention, lstm = (layer.flops for layer in handle(Attention(), torch.randn(2, n, d)).layers[:2])
    assert attention == 2 * (n * d * 3 * d + 2 * n * n * d + n * d * d)
    assert lstm == 2 * n * (d * 4 * h + h * 4 * h)


def test_flops_of_a_network_that_needs_numbers_come_from_a_run():
    network, x = DataDependent(), torch.randn(2, 4)
    assert sum(layer.flops for layer in handle(network, x).layers) == counted(network, x[:1])


def test_flops_of_a_network_with_torchscript_inside_are_known():
    network = nn.Sequential(torch.jit.script(nn.Linear(4, 4)), nn.Linear(4, 2))
    before = snapshot(network)
    assert [layer.flops for layer in handle(network, torch.randn(3, 4)).layers] == [32, 16]
    assert snapshot(network) == before


def test_flops_in_the_forward_of_a_container_are_counted_for_it():
    class Gram(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(x) @ x.T

    class Untraceable(nn.Sequential):
        def forward(self, *parts):
            return super().forward(parts[0])

    network, x = Untraceable(Gram(), nn.Linear(1, 3)), torch.randn(1, 4)
    handler = handle(network, x)
    assert {layer.name: layer.flops for layer in handler.layers} == {"0.fc": 32, "1": 6}
    assert handler.summary().flops == counted(network, x) == 32 + 8 + 6
    assert handler.summary(1).rows[0].flops == 32 + 8
    assert "8 FLOPs are in operations that are no layer, in the forward of 0" in handler.summary().notes


def test_a_small_bert_has_the_flops_of_a_run():
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    network = transformers.BertModel(transformers.BertConfig(vocab_size=50, **sizes))
    before = snapshot(network)
    ids = torch.randint(0, 50, (2, 7))
    handler = handle(network, {"input_ids": ids})
    assert handler.summary().flops == counted(network, ids[:1])
    assert {layer.name: layer for layer in handler.layers}["pooler.dense"].output_shape == (2, 16)
    assert handle(network, {"input_ids": ids.to("meta")}).layers == handler.layers
    assert snapshot(network) == before


def test_freezing_counts_nothing_anew_and_a_cut_does(monkeypatch):
    handler = handle(Residual(), sizes(2, 3, 8, 8))
    before = handler.layers
    with monkeypatch.context() as patch:
        patch.setattr(type(handler._engine), "profile", None)
        frozen = handler.freeze("conv1").layers
    assert [layer.flops for layer in frozen] == [layer.flops for layer in before]
    assert not frozen[0].trainable
    assert before[0].trainable
    assert handler.truncate("layer1.0").layers[-1].output_shape == (2, 4, 6, 6)
    assert [layer.flops for layer in handler.undo().undo().layers] == [layer.flops for layer in before]


def test_looking_leaves_the_network_as_it_was():
    seen = []
    network = Branching(seen).train()
    network.first.register_forward_hook(lambda module, arguments, output: seen.append(output))
    x = torch.randn(2, 4)
    handler, before = handle(network, x), snapshot(network)
    del seen[:]
    handler.layers, handler.summary(), handler.layers_between("first", "third")
    assert seen == []
    assert snapshot(network) == before


# ---- paths


def test_layers_between_two_are_those_on_any_path():
    handler = handle(Residual())
    assert handler.layers_between("layer1.0.bn", "layer1.1.conv") == [
        "layer1.0.bn",
        "layer1.0.add",
        "layer1.0.relu",
        "layer1.1.conv",
    ]
    inside = [name for name in handler.layer_names if name.startswith("layer1.")]
    assert handler.layers_between("layer1", "layer1") == inside
    assert handler.layers_between("relu", "layer1.1") == ["relu", *inside]
    assert handler.layers_between("fc", "fc") == ["fc"]


def test_a_side_branch_is_on_no_path_of_the_trunk():
    handler = handle(Branching([]))
    assert handler.layers_between("first", "third") == ["first", "second", "third"]
    assert handler.layers_between("first", "side_relu") == ["first", "side", "side_relu"]
    with pytest.raises(ModelError, match="no data goes from 'side' to 'third'; nor the other way"):
        handler.layers_between("side", "third")
    with pytest.raises(ModelError, match=r"from 'third' to 'first'; .* layers_between\('first', 'third'\) shows"):
        handler.layers_between("third", "first")


def test_a_size_is_no_data_and_an_in_place_result_that_nobody_takes_is():
    class Writing(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            a = self.a(x)
            c = self.c(x.view(a.shape[0], 4))
            c.add_(self.b(x))
            return c.relu()

    handler = handle(Writing(), torch.randn(2, 4))
    assert handler.layers_between("b", "relu") == ["b", "add", "relu"]
    with pytest.raises(ModelError, match="no data goes from 'a' to 'c'"):
        handler.layers_between("a", "c")


def test_paths_are_refused_where_there_is_no_graph_or_no_layer():
    with pytest.raises(UntraceableModelError, match="layers_between needs the graph"):
        handle(DataDependent()).layers_between("stem", "head")
    with pytest.raises(UnknownLayerError, match=r"no layer is named 'laier1'; nearest: .*'layer1'"):
        handle(Residual()).layers_between("laier1", "fc")
    with pytest.raises(ModelError, match=r"'attention.out_proj' is inside another layer, or does not run"):
        handle(Attention()).layers_between("attention.out_proj", "lstm")


# ---- what is shared


def test_shared_modules_are_listed_by_all_their_names():
    assert handle(Shared()).shared_modules == (("relu", "alias", "relu@1", "relu@2"),)
    assert handle(DataDependent(), torch.randn(2, 4)).shared_modules == (
        ("block.0", "block.0@1"),
        ("block.1", "block.1@1"),
    )
    assert handle(Convolutional()).shared_modules == ()


def test_the_inside_of_a_module_with_two_paths_is_not_listed_for_these():
    network = nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.ReLU())
    network.append(network[0])
    assert handle(network).shared_modules == (("0", "2"), ("0.0", "0.0@1"))
    assert handle(network).tied_weights == (("0.0.weight", "2.0.weight"), ("0.0.bias", "2.0.bias"))


def test_tied_weights_are_listed_and_count_once():
    network = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 7, bias=False))
    network[1].weight = network[0].weight
    handler = handle(network, torch.zeros(2, 3, dtype=torch.long))
    assert handler.tied_weights == (("0.weight", "1.weight"),)
    summary = handler.summary()
    assert (summary.n_parameters, summary.n_bytes) == (28, 28 * 4)
    assert "Tied weights: 0.weight = 1.weight" in summary.notes
    assert handle(TwoInputs()).tied_weights == ()


def test_names_of_layers_and_containers_are_in_a_handler_and_no_parts_of_names() -> None:
    handler = handle(Residual())
    assert all(name in handler for name in (*handler.layer_names, "layer1", "layer1.0"))
    assert not any(name in handler for name in ("layer", "conv", "nothing", 3, None))


def test_the_network_shown_is_the_edited_one_with_the_weights_of_the_source() -> None:
    network = Residual()
    handler = handle(network).drop_layer_top(1)
    assert handler.network.conv1.weight is network.conv1.weight
    assert "fc" not in dict(handler.network.named_modules())
    assert handle(TwoInputs()).input_names == ("a", "b")


def test_the_output_for_the_example_inputs_is_that_of_evaluation_mode() -> None:
    network, x = Residual().train(), images()
    handler = handle(network, x)
    with torch.no_grad():
        torch.testing.assert_close(handler.example_output(), copy.deepcopy(network).eval()(x))
    with pytest.raises(ModelError, match="there are no example inputs"):
        handle(network).example_output()

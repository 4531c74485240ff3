"""`ModelHandler` from outside: what it lists, extracts and refuses, and that the user's network never changes."""

import logging
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from model_handler import ModelError, ModelHandler, UnknownLayerError, UntraceableModelError
from tests.model_handler.networks import (
    Attention,
    DataDependent,
    Residual,
    TwoInputs,
    assert_rows,
    handle,
    hooked,
    images,
    snapshot,
)


class Stream(IterableDataset):
    """Rows one by one, their number unknown."""

    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


# ---- features


@pytest.mark.parametrize("size", [1, 2, 5, 7])
def test_rows_are_those_of_the_data_whatever_the_batch_size(size):
    network = Residual()
    X, y = images(7), np.array(list("abcabca"))
    features = handle(network, batch_size=size).extract((X, y), ["layer1", "fc"])
    assert features.labels.tolist() == y.tolist()
    for name, wanted in hooked(network, (X,), ["layer1", "fc"]).items():
        assert_rows(features, name, wanted)


def test_rows_of_a_stream_of_unknown_length_and_of_workers():
    network, X = Residual(), images(9)
    wanted = hooked(network, (X,), ["fc"])["fc"]
    assert_rows(handle(network).extract(DataLoader(Stream(list(X)), batch_size=4), ["fc"]), "fc", wanted)
    dataset = TensorDataset(X, torch.arange(9))
    features = handle(network, num_workers=2, batch_size=2).extract(dataset, ["fc"])
    assert_rows(features, "fc", wanted)
    assert features.labels.tolist() == list(range(9))


POOLINGS = ["avg", "flatten", "max", torch.nn.Flatten()]


class Counted(Residual):
    """Counts its batches: how often its first layer ran, with how many rows."""

    def __init__(self, *, by_hooks: bool) -> None:
        super().__init__()
        self.seen: list[int] = []
        self.by_hooks = by_hooks
        self.conv1.register_forward_hook(lambda module, arguments, output: self.seen.append(len(output)))

    def forward(self, x):
        return super().forward(x) if not self.by_hooks or x.sum() < torch.inf else x  # which no graph can follow


@pytest.mark.parametrize("by_hooks", [False, True])
@pytest.mark.parametrize("layer_names", [["layer1"], ["bn1", "layer1", "fc"]])
def test_several_poolings_are_those_of_separate_extractions_bit_for_bit(by_hooks, layer_names):
    network, data = Counted(by_hooks=by_hooks), (images(7), list("abcabca"))
    handler = handle(network, batch_size=3)
    together = handler.extract_poolings(data, layer_names, POOLINGS)
    assert list(together) == POOLINGS
    for pooling in POOLINGS:
        alone = handler.extract(data, layer_names, pooling=pooling)
        assert np.array_equal(together[pooling].matrix, alone.matrix)
        assert together[pooling].indices_per_layer.keys() == alone.indices_per_layer.keys()
        assert together[pooling].labels.tolist() == alone.labels.tolist() == list("abcabca")


@pytest.mark.parametrize("by_hooks", [False, True])
def test_several_poolings_take_one_forward_a_batch_and_read_it_once(by_hooks):
    network, rows = Counted(by_hooks=by_hooks), []
    handler = handle(network, batch_size=2)
    handler.extract(images(2), ["layer1"])  # which traces and verifies
    handler.extract_poolings(images(2), ["bn1", "layer1"], POOLINGS)  # and plans
    network.seen.clear()

    class Read(TensorDataset):
        def __getitem__(self, row):
            rows.append(row)
            return super().__getitem__(row)

    handler.extract_poolings(Read(images(6)), ["bn1", "layer1"], POOLINGS)
    assert rows == list(range(6))
    assert network.seen == [2, 2, 2]


def test_poolings_that_are_no_list_of_different_ones_are_refused():
    handler = handle(Residual())
    with pytest.raises(TypeError, match=r"poolings must be a list.*got 'avg'; write \['avg'\]"):
        handler.extract_poolings(images(), ["fc"], "avg")
    with pytest.raises(ValueError, match="poolings is empty"):
        handler.extract_poolings(images(), ["fc"], [])
    with pytest.raises(ValueError, match=r"\['max'\] more than once"):
        handler.extract_poolings(images(), ["fc"], ["max", "avg", "max"])
    with pytest.raises(ValueError, match="got 'mean'"):
        handler.extract_poolings(images(), ["fc"], ["avg", "mean"])


def test_get_layer_output_is_flat_and_has_the_labels():
    outputs, labels = handle(Residual()).get_layer_output((images(), [0, 1, 0, 1, 0]), ["conv1", "fc"])
    assert list(outputs) == ["conv1", "fc"]
    assert outputs["conv1"].shape == (5, 4 * 6 * 6)
    assert labels.tolist() == [0, 1, 0, 1, 0]
    assert handle(Residual()).get_layer_output(images(), ["fc"])[1] is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_networks_of_other_dtypes_take_float32_data(dtype):
    network = Residual().to(dtype)
    features = handle(network).extract(images(), ["fc"])
    wanted = hooked(network, (images().to(dtype),), ["fc"])["fc"].float()
    assert features.matrix.dtype == np.float32
    np.testing.assert_allclose(features.matrix, wanted, rtol=0.05, atol=0.05)


def test_token_ids_stay_whole_numbers_and_padding_is_left_out():
    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.fc = nn.Embedding(9, 4), nn.Linear(4, 3)

        def forward(self, input_ids, attention_mask=None):
            return self.fc(self.embedding(input_ids))

    network = Text()
    ids, mask = torch.arange(6).reshape(2, 3), torch.tensor([[1, 1, 0], [1, 1, 1]])
    features = handle(network).extract({"input_ids": ids, "attention_mask": mask}, ["fc"], pooling="avg")
    wanted = network(ids)
    assert_rows(features, "fc", torch.stack([wanted[0, :2].mean(0), wanted[1].mean(0)]))


def test_a_view_of_a_map_works_though_maps_are_kept_channels_last():
    class LeNet(nn.Module):
        def __init__(self, branch):
            super().__init__()
            self.conv, self.fc, self.branch = nn.Conv2d(3, 4, 3), nn.Linear(144, 2), branch

        def forward(self, x):
            x = self.conv(x)
            if self.branch and x.sum() > 1e9:
                return x
            return self.fc(x.view(len(x) if self.branch else x.size(0), -1))

    for network in (LeNet(False), LeNet(True)):
        handler = handle(network)
        with pytest.raises(ModelError, match="layer 'conv'"):
            handler.extract(images(channels=2), ["fc"])
        assert_rows(handler.extract(images(), ["fc"]), "fc", network(images()))


@pytest.mark.parametrize("traceable", [True, False])
def test_a_network_that_writes_into_its_input_sees_it_once(traceable):
    class Centring(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            x.sub_(1)
            if not traceable and x.sum() > 1e9:
                return x
            return self.fc(x)

    network, x = Centring(), torch.randn(5, 4)
    before = x.clone()
    assert_rows(handle(network, x).extract(x, ["fc"]), "fc", network.fc(x - 1))
    assert torch.equal(x, before)


# ---- inputs


def test_inputs_of_several_parts_come_as_a_tuple_or_by_name():
    network = TwoInputs().eval()
    a, b = torch.randn(5, 3), torch.randn(5, 2)
    handler = handle(network, batch_size=2)
    assert_rows(handler.extract(((a, b),), ["bn"]), "bn", network(a, b))
    assert_rows(handler.extract(((a, b), [0] * 5), ["bn"]), "bn", network(a, b))
    assert_rows(handler.extract({"b": b, "a": a}, ["bn"]), "bn", network(a, b))
    with pytest.raises(ModelError, match=r"takes the inputs \['a', 'b'\], got 1.*give several parts as"):
        handler.extract(a, ["bn"])


def test_a_defaulted_input_given_by_name_is_used():
    network = TwoInputs().eval()
    a, b, scale = torch.randn(5, 3), torch.randn(5, 2), torch.randn(5, 4)
    handler = handle(network, batch_size=2)
    inputs = {"a": a, "b": b, "scale": scale}
    handler.extract(inputs, ["bn"])
    assert "mul" in handler.layer_names
    for _ in range(2):  # the second pass refreshes what the first one traced anew
        assert_rows(handler.extract(inputs, ["mul"]), "mul", network(a, b, scale))
    assert_rows(handle(network, input_names=["a", "b", "scale"]).extract(inputs, ["mul"]), "mul", network(a, b, scale))
    with pytest.raises(ModelError, match="no argument 'scal'"):
        handler.extract({"a": a, "b": b, "scal": scale}, ["bn"])


def test_a_forward_of_star_args_goes_by_hooks():
    class Star(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, *parts):
            return self.fc(parts[0]) + self.fc(parts[1])

    network, a, b = Star(), torch.randn(5, 3), torch.randn(5, 3)
    features = handle(network, batch_size=2).extract(((a, b),), ["fc", "fc@1"])
    assert_rows(features, "fc", network.fc(a))
    assert_rows(features, "fc@1", network.fc(b))


# ---- several tensors


def test_several_tensors_are_named_by_index():
    network, x = Attention(), torch.randn(3, 5, 4)
    handler = handle(network)
    with pytest.raises(ModelError, match=r"name one of attention\[0\] \(3, 5, 4\), attention\[1\] \(3, 5, 5\)"):
        handler.extract(x, ["attention"])
    features = handler.extract(x, ["attention[1]", "lstm[0]", "attention[0]"])
    found = hooked(network, (x,), ["attention", "lstm"])
    assert features.layer_names == ["attention[1]", "lstm[0]", "attention[0]"]
    assert_rows(features, "attention[0]", found["attention"][0])
    assert_rows(features, "attention[1]", found["attention"][1])
    assert_rows(features, "lstm[0]", found["lstm"][0])
    assert handler.get_layer_type("attention[1]") == "MultiheadAttention"
    assert handler.get_layer_parameters(["lstm[0]"])[0] == "lstm.weight_ih_l0"


def test_a_layer_whose_first_axis_is_not_the_batch_is_refused():
    with pytest.raises(ModelError, match=r"layer 'lstm\[1\]' gives 1 rows for 3 inputs"):
        handle(Attention()).extract(torch.randn(3, 5, 4), ["lstm[1]"])


def test_an_operation_of_several_tensors_has_a_type_by_index():
    class Halves(nn.Module):
        def forward(self, x):
            a, b = x.chunk(2, 1)
            return a * b

    handler, x = handle(Halves()), torch.randn(3, 4)
    assert_rows(handler.extract(x, ["chunk[1]"]), "chunk[1]", x[:, 2:])
    assert handler.get_layer_type("chunk[1]") == "chunk"
    assert handler.get_layer_parameters(["chunk[1]"]) == []


# ---- hooks and verification


def test_an_untraceable_network_gives_features_by_hooks():
    network, x = DataDependent(), torch.randn(5, 4)
    handler = handle(network, batch_size=2)
    assert "by hooks" in repr(handler)
    features = handler.extract(x, ["block", "block.0@1", "block.0", "head"])
    network.eval()
    first = network.block(network.stem(x))
    assert_rows(features, "block", network.block(first))
    assert_rows(features, "block.0@1", network.block[0](first))
    assert_rows(features, "block.0", network.block[0](network.stem(x)))
    assert_rows(features, "head", network(x))


def test_shapes_of_an_untraceable_network_come_from_example_inputs():
    handler = handle(DataDependent(), torch.randn(5, 4))
    assert {info.name: info.output_shape for info in handler.layers} == {
        **{"stem": (5, 4), "block.0": (5, 4), "block.1": (5, 4)},
        **{"block.0@1": (5, 4), "block.1@1": (5, 4), "head": (5, 2)},
    }


class Alternating(nn.Module):
    """What it computes depends on state that a trace cannot see."""

    def __init__(self):
        super().__init__()
        self.fc, self.runs = nn.Linear(4, 4), 0

    def forward(self, x):
        self.runs += 1
        return self.fc(x * self.runs)


def test_a_wrong_graph_is_found_out_and_hooks_take_over(caplog):
    network, x = Alternating(), torch.randn(3, 4)
    network.runs = 1
    handler = handle(network)
    assert "traced" in repr(handler)
    handler._engine.workspace.module.forward = types.MethodType(
        lambda self, x: self.fc(x), handler._engine.workspace.module
    )
    with caplog.at_level(logging.WARNING, logger="model_handler"):
        features = handler.extract(x, ["fc"])
    assert "the traced graph of Alternating differs from the network; using hooks" in caplog.text
    assert "by hooks" in repr(handler)
    assert_rows(features, "fc", network.fc(x))
    assert network.runs == 1


class Shy(nn.Module):
    """It computes something else while it is traced."""

    def __init__(self):
        super().__init__()
        self.fc, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.fc(x if isinstance(x, torch.fx.Proxy) else 2 * x))


def test_a_graph_that_was_wrong_stays_out_of_use_after_weights_are_exchanged():
    network, x = Shy(), torch.randn(3, 4)
    handler = handle(network, x)
    assert "by hooks" in repr(handler)
    network.fc.weight = nn.Parameter(torch.ones(4, 4))
    cut = handler.truncate("fc").get_module()
    assert "by hooks" in repr(handler)
    torch.testing.assert_close(cut(x), network.fc(2 * x))


def test_a_hook_left_on_a_container_is_named_where_a_graph_would_go_past_it():
    network = Residual()
    network.layer1.register_forward_hook(lambda module, inputs, output: output + 1)
    handler = handle(network, images())
    with pytest.raises(UntraceableModelError, match=r"computes something else than it: hooks sit on \['layer1'\]"):
        handler.drop_layer_top(1)


def test_a_forward_patched_on_an_instance_is_followed():
    network, x = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), torch.randn(3, 4)
    network.forward = types.MethodType(lambda self, x: self[1](self[0](x) * 2), network)
    assert_rows(handle(network).extract(x, ["1"]), "1", network(x))


def test_a_network_that_fails_once_is_still_verified_later(caplog):
    handler = handle(Residual())
    with pytest.raises(ModelError):
        handler.extract(images(channels=2), ["fc"])
    assert not handler._engine.verified
    handler.extract(images(), ["fc"])
    assert handler._engine.verified


# ---- the user's network


class Writing(nn.Module):
    """It writes into its buffers, in eval mode too."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.register_buffer("total", torch.zeros(4))
        self.count = torch.zeros(())

    def forward(self, x):
        self.total += 1
        self.count += x.sum() + 1
        return self.fc(x) + self.total


class Thawing(nn.Sequential):
    def train(self, mode=True):
        self.requires_grad_(mode)
        return super().train(mode)


@pytest.mark.parametrize(
    ("make", "good", "bad"),
    [
        (Residual, images(), images(channels=2)),
        (DataDependent, torch.randn(3, 4), torch.randn(3, 5)),
        (Writing, torch.randn(3, 4), torch.randn(3, 5)),
        (lambda: Thawing(nn.Linear(4, 3), nn.BatchNorm1d(3)), torch.randn(3, 4), torch.randn(3, 5)),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout(), nn.ReLU(True)), torch.randn(3, 4), torch.randn(3, 5)),
    ],
)
def test_the_network_is_bit_identical_after_success_and_failure(make, good, bad):
    network = make()
    network.register_forward_hook(lambda module, arguments, output: None)
    children = list(network.children())
    children[0].eval()
    children[-1].requires_grad_(False)
    before = snapshot(network)
    handler = handle(network, good)
    last = [name for name, module in network.named_modules() if name and not list(module.children())][-1]
    handler.extract(good, [last])
    assert snapshot(network) == before
    with pytest.raises(ModelError, match="failed on input of shape"):
        handler.extract(bad, [last])
    with pytest.raises(ModelError):
        handle(network, bad)
    assert snapshot(network) == before


def test_training_and_batchnorm_statistics_are_seen():
    network = Residual()
    handler = handle(network)
    handler.extract(images(), ["fc"])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    network.train()
    for seed in range(3):
        optimizer.zero_grad()
        network(images(8, seed=seed)).square().sum().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    assert_rows(handler.extract(images(), ["fc"]), "fc", hooked(network, (images(),), ["fc"])["fc"])


@pytest.mark.parametrize(
    "change",
    [
        lambda network: network.double(),
        lambda network: setattr(network, "fc", nn.Linear(4, 3)),
        lambda network: setattr(network.fc, "weight", nn.Parameter(torch.ones(3, 4))),
        lambda network: setattr(network.bn1, "running_mean", torch.ones(4)),
    ],
    ids=["dtype", "module", "parameter", "buffer"],
)
def test_tensors_put_in_place_of_others_are_seen(change):
    network = Residual()
    handler = handle(network)
    handler.extract(images(), ["fc"])
    change(network)
    wanted = hooked(network, (images().to(network.fc.weight.dtype),), ["fc"])["fc"]
    assert_rows(handler.extract(images(), ["fc"]), "fc", wanted)


def test_a_compiled_module_is_looked_into():
    network = Residual()
    compiled = torch.compile(network, backend="eager")
    assert handle(compiled).layer_names == handle(network).layer_names
    assert_rows(handle(compiled).extract(images(), ["fc"]), "fc", hooked(network, (images(),), ["fc"])["fc"])


def test_a_graph_module_and_a_single_layer_can_be_sources():
    graph = torch.fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()))
    assert_rows(handle(graph).extract(images(), ["1"]), "1", graph(images()))
    linear = nn.Linear(4, 2)
    handler, x = handle(linear), torch.randn(3, 4)
    assert handler.layer_names == ["linear"]
    assert_rows(handler.extract(x, ["linear"]), "linear", linear(x))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*", "ignore:The .grad attribute", "ignore:LSTM with projections")
def test_sources_that_cannot_be_looked_into_are_refused():
    with pytest.raises(TypeError, match="a TorchScript module has no Python forward"):
        ModelHandler(torch.jit.script(nn.Linear(1, 1)))
    with pytest.raises(TypeError, match=r"the source must be a torch.nn.Module, a Source, or a name"):
        ModelHandler(3)
    with pytest.raises(ModelError, match=r"the weights \['0.weight', '0.bias'\] have no shape yet"):
        ModelHandler(nn.Sequential(nn.LazyLinear(2)))


# ---- refusals


def test_every_unknown_layer_is_named_with_the_nearest():
    with pytest.raises(UnknownLayerError, match=r"'avgpol'; nearest: \['avgpool'.*\n.*'layer1.0.cnv'.*'layer1.0.conv'"):
        handle(Residual()).extract(images(), ["avgpol", "fc", "layer1.0.cnv"])


@pytest.mark.parametrize("name", ["", "layer", "fc@1", "fc@x", "conv", "fc[a]", 3, None])
def test_what_is_no_layer_is_unknown(name):
    with pytest.raises(UnknownLayerError, match="no layer is named"):
        handle(Residual()).extract(images(), [name])


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ("fc", TypeError, r"must be a list of names, got 'fc'; write \['fc'\]"),
        ([], ValueError, r"layer_names is empty; name at least one of \['avgpool', 'flatten', 'fc'\]"),
        (["fc", "bn1", "fc"], ValueError, r"layer_names has \['fc'\] more than once"),
    ],
)
def test_names_must_be_a_list_of_different_names(names, error, message):
    with pytest.raises(error, match=message):
        handle(Residual()).extract(images(), names)


def test_an_unknown_pooling_and_empty_data_are_refused():
    with pytest.raises(ValueError, match="pooling must be a callable or one of"):
        handle(Residual()).extract(images(), ["fc"], pooling="mean")
    with pytest.raises(ValueError, match="is empty"):
        handle(Residual()).extract(images(0), ["fc"])


def test_inputs_that_differ_in_size_need_a_pooling():
    loader = [images(2), images(2, height=10, width=12)]
    with pytest.raises(ModelError, match=r"widths \[320\] where the ones before gave \[144\]"):
        handle(Residual()).extract(DataLoader(loader, batch_size=None), ["layer1"])
    features = handle(Residual()).extract(DataLoader(loader, batch_size=None), ["layer1"], pooling="avg")
    assert features.shape == (4, 4)


def test_example_inputs_may_be_arrays_and_are_not_text():
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    handler = ModelHandler(network, np.ones((2, 4), np.float32))
    assert [layer.output_shape for layer in handler.layers] == [(2, 3), (2, 3)]
    assert handler.insert_after("1", nn.LazyLinear(5)).layers[-1].output_shape == (2, 5)
    with pytest.raises(TypeError, match=r"example_inputs is a tensor, .* got 'photo.jpg'"):
        ModelHandler(network, "photo.jpg")


def test_wrong_example_inputs_name_the_layer_that_fails():
    with pytest.raises(ModelError, match=r"layer 'conv1', Conv2d\(3, 4.*failed on input of shape \(5, 2, 8, 8\)"):
        handle(Residual(), images(channels=2))
    with pytest.raises(ModelError, match=r"layer 'stem', Linear\(.*failed on input of shape \(5, 3\)"):
        handle(DataDependent(), torch.randn(5, 3))


def test_a_constant_and_a_plain_tensor_are_not_shared_with_the_network():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.scale = nn.Linear(4, 4), torch.ones(4)

        def forward(self, x):
            return self.fc(x) * self.scale.mul_(2)

    network, x = Plain(), torch.randn(3, 4)
    before = snapshot(network)
    handle(network).extract(x, ["fc"])
    assert snapshot(network) == before


def test_layers_inside_attention_and_encoder_layers_are_reached():
    network = nn.Sequential(nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 2))
    x, names = torch.randn(3, 5, 4), ["0.layers.1.linear1", "0", "0.layers.0"]
    features = handle(network).extract(x, names)
    for name, wanted in hooked(network, (x,), names).items():
        assert_rows(features, name, wanted)
    with pytest.raises(ModelError, match=r"layers \['0.layers.0.self_attn.out_proj'\] did not run for these inputs"):
        handle(network).extract(x, ["0.layers.0.self_attn.out_proj"])


def test_a_layer_inside_torchscript_is_no_layer():
    scripted = torch.jit.script(nn.Sequential(nn.Linear(4, 3), nn.ReLU()))
    handler = ModelHandler(nn.Sequential(scripted, nn.Linear(3, 2)))
    assert handler.layer_names == ["0", "1"]
    with pytest.raises(UnknownLayerError, match=r"no layer is named '0\.1'; nearest: "):
        handler.extract(torch.zeros(2, 4), ["0.1"])


@pytest.mark.parametrize(
    "kind", ["array", "float64 array", "tensor", "loader", "loader without batches", "dict", "parts"]
)
def test_a_network_that_writes_into_its_input_leaves_the_users_data_alone(kind):
    class Writing(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x):
            return self.fc(x.sub_(1.0))

    X = torch.randn(6, 3, dtype=torch.float64 if kind == "float64 array" else torch.float32)
    before = X.clone()
    data = {
        "array": X.numpy(),
        "float64 array": X.numpy(),
        "tensor": X,
        "loader": DataLoader(TensorDataset(X, torch.arange(6)), batch_size=4),
        "loader without batches": DataLoader([X], batch_size=None),
        "dict": {"x": X},
        "parts": ((X,),),
    }[kind]
    handler = ModelHandler(network := Writing())
    first, second = (handler.extract(data, ["fc"]).matrix for _ in range(2))
    with torch.no_grad():
        wanted = network.fc(before.float() - 1).numpy()
    np.testing.assert_allclose(first, wanted, atol=1e-6)
    np.testing.assert_array_equal(first, second)
    assert torch.equal(X, before)


def test_a_module_exchanged_after_the_handler_was_made_is_seen():
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    handler, x = ModelHandler(network), torch.randn(5, 4)
    handler.extract(x, ["1"])
    network[1] = nn.Tanh()
    with torch.no_grad():
        np.testing.assert_allclose(handler.extract(x, ["1"]).matrix, network(x).numpy(), atol=1e-6)
    assert handler.get_layer_type("1") == "Tanh"


def test_statistics_taken_away_later_keep_rows_together():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    handler, x = ModelHandler(network), torch.randn(9, 3, 224, 224)
    handler.extract(x[:2], ["1"], pooling="avg")
    network[1].running_mean = network[1].running_var = None
    with torch.no_grad():
        wanted = network(x).mean((2, 3)).numpy()
    np.testing.assert_allclose(handler.extract(x, ["1"], pooling="avg").matrix, wanted, atol=1e-5)


def test_a_users_hooks_are_not_run_on_what_is_no_tensor():
    seen = []
    network = nn.Sequential(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), nn.Linear(3, 2))
    network[0].register_forward_hook(lambda module, arguments, output: seen.append(output.detach().cpu().numpy()))
    handler = ModelHandler(network)
    assert seen == []
    assert handler.layer_names == ["0.0", "0.1", "1"]


def test_the_failing_operation_is_called_by_its_layer_name():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.fc = nn.Sequential(nn.Identity(), nn.Flatten()), nn.Linear(2, 2)

        def forward(self, x):
            return self.fc(torch.matmul(self.inner(x), x.new_ones(3, 2)))

    handler = ModelHandler(Outer())
    assert "matmul" in handler.layer_names
    with pytest.raises(ModelError, match="layer 'matmul', matmul, failed on input of shape"):
        handler.extract(torch.zeros(2, 5), ["fc"])


def test_data_parallel_is_looked_through():
    network = nn.DataParallel(nn.Sequential(nn.Linear(4, 3), nn.ReLU()))
    assert ModelHandler(network, device="cpu").layer_names == ["0", "1"]


def test_text_and_numbers_in_different_batches_are_refused():
    batches = [(torch.zeros(2, 4), ["a", "b"]), (torch.zeros(2, 4), torch.tensor([1, 2]))]
    with pytest.raises(ValueError, match="some batches have text for labels and others numbers"):
        ModelHandler(nn.Sequential(nn.Linear(4, 3))).extract(DataLoader(batches, batch_size=None), ["0"])


@pytest.mark.parametrize("traceable", [True, False])
def test_a_list_of_modules_means_the_output_of_its_last_one(traceable):
    class Looped(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(3))
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            if not traceable and x.sum() > 1e9:
                return x
            for block in self.blocks:
                x = block(x)
            return self.fc(x)

    network, x = Looped(), torch.randn(5, 4)
    with torch.no_grad():
        wanted = network.blocks[2](network.blocks[1](network.blocks[0](x))).numpy()
    np.testing.assert_allclose(ModelHandler(network).extract(x, ["blocks"]).matrix, wanted, atol=1e-6)


def test_a_forgotten_input_is_named():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, a, b):
            return self.fc(a + b)

    handler = ModelHandler(Two())
    with pytest.raises(ModelError, match=r"takes the inputs \['a', 'b'\], and \['b'\] are not among \['a'\]"):
        handler.extract({"a": torch.zeros(2, 4)}, ["fc"])


class _Slopes(nn.Module):
    def __init__(self):
        super().__init__()
        self.energy, self.fc = nn.Linear(4, 5), nn.Linear(4, 2)

    def forward(self, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (slopes,) = torch.autograd.grad(self.energy(x).sin().sum(), x, create_graph=True)
        return self.fc(slopes)


def test_a_network_that_differentiates_in_its_forward_has_features():
    network, x = _Slopes(), torch.randn(6, 4)
    slopes = (x @ network.energy.weight.T + network.energy.bias).cos() @ network.energy.weight
    right = network.fc(slopes).detach().numpy()
    np.testing.assert_allclose(ModelHandler(network).extract(x, ["fc"]).matrix, right, rtol=1e-5, atol=1e-6)

"""Surgery on networks that cannot be traced: cuts, heads, what stays of the weights, what is refused."""

import copy

import pytest
import torch
from torch import nn

from model_handler import ModelError, ModelHandler, UntraceableModelError
from tests.model_handler.networks import (
    TREATMENTS,
    DataDependent,
    handle,
    hooked,
    images,
    output_of,
    saved_and_loaded,
    snapshot,
    train_one_epoch,
)


class Deciding(nn.Module):
    """A convolutional network whose forward looks at the numbers, with a list of blocks and a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)) for _ in range(3))
        self.classifier = nn.Linear(4, 3)

    def forward(self, x):
        x = self.stem(x)
        for number in range(len(self.blocks)):
            if x.sum() < 1e9:
                x = self.blocks[number](x)
        return {"logits": self.classifier(x.mean((2, 3)))}


@pytest.mark.parametrize("name", ["stem", "stem.0", "blocks.0", "blocks.1.1", "blocks", "classifier"])
def test_a_cut_network_ends_at_the_layer_named_and_holds_what_it_needs(name):
    network, x = Deciding(), images()
    before = snapshot(network)
    path = "blocks.2" if name == "blocks" else name
    handler = handle(network, x).truncate(name)
    torch.testing.assert_close(output_of(handler, x), hooked(network, (x,), [path])[path])
    module = handler.get_module()
    order = ["stem.0", "stem.1", "blocks.0", "blocks.1.0", "blocks.1.1", "blocks.2", "classifier"]
    last = order.index({"stem": "stem.1"}.get(path, path))
    kept = [key for key in network.state_dict() if any(key.startswith(f"{layer}.") for layer in order[: last + 1])]
    assert list(module.state_dict()) == kept
    assert module.load_state_dict(network.state_dict(), strict=False).missing_keys == []
    assert len(module.blocks) == 3
    assert handler.layer_names[-1].startswith(path)
    assert snapshot(network) == before
    network.double()
    handler.get_module()  # which looks for the layers anew
    assert {name for name in handler.layer_names if f"{name}.weight" in network.state_dict()} == {
        key.removesuffix(".weight") for key in kept if key.endswith(".weight")
    }


def test_heads_follow_each_other_and_are_cut_again():
    network, x = Deciding(), images()
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    handler = handle(network, x).truncate("blocks.1").add_layer_top([("pooled", pooled), nn.LazyLinear(6)])
    handler.add_layer_top([nn.ReLU(), ("classifier", nn.Linear(6, 2))])
    assert handler.layer_names[-5:] == ["pooled.0", "pooled.1", "linear", "relu", "classifier"]
    assert [layer.output_shape for layer in handler.layers[-2:]] == [(5, 6), (5, 2)]
    module = handler.get_module().eval()
    assert list(module.state_dict())[-4:] == ["linear.weight", "linear.bias", "classifier.weight", "classifier.bias"]
    taken = hooked(network, (x,), ["blocks.1"])["blocks.1"]
    with torch.no_grad():
        wanted = module.classifier(module.linear(taken.mean((2, 3))).relu())
    torch.testing.assert_close(output_of(handler, x), wanted)
    torch.testing.assert_close(torch.tensor(handler.extract(x, ["classifier"]).matrix), wanted)
    handler.truncate("pooled.0")
    torch.testing.assert_close(output_of(handler, x), taken.mean((2, 3), keepdim=True))
    handler.undo().truncate("blocks.0")
    torch.testing.assert_close(output_of(handler, x), hooked(network, (x,), ["blocks.0"])["blocks.0"])
    assert handler.undo().undo().layer_names[-1] == "linear"
    assert len(handler.undo().undo().get_module().state_dict()) == len(network.state_dict())


@pytest.mark.parametrize("treat", TREATMENTS)
def test_a_frozen_part_stays_as_it_was_and_the_head_learns(treat):
    network, x = Deciding(), images()
    handler = handle(network, x).truncate("blocks.2").freeze(up_to="blocks.1")
    handler.add_layer_top([nn.AdaptiveAvgPool2d(1), nn.Flatten(), ("head", nn.LazyLinear(2))])
    changed = train_one_epoch(treat(handler.get_module()), x)
    assert {key.partition(".")[0] for key in changed} == {"blocks", "head"}
    assert all(key.startswith(("blocks.2", "head")) for key in changed)
    assert "blocks.2.1.running_mean" in changed


def test_a_network_given_again_after_a_cut_goes_by_hooks():
    network, x = Deciding(), images()
    module = saved_and_loaded(handle(network, x).truncate("stem").get_module())
    handler = handle(module, x)
    assert handler.layer_names == ["stem.0", "stem.1", "stem.2"]
    torch.testing.assert_close(output_of(handler.truncate("stem.0"), x), module.eval().stem[0](x).detach())
    inside = handle(nn.Sequential(module, nn.Flatten(), nn.Linear(144, 2)), x)
    assert inside.layer_names == ["0", "1", "2"]
    assert inside.drop_layer_top(1).add_layer_top(nn.LazyLinear(4)).layers[-1].output_shape == (5, 4)


def test_a_network_that_looks_at_what_comes_later_keeps_it():
    class Looking(DataDependent):
        def forward(self, x):
            return super().forward(x * self.head.weight.shape[0])

    network, x = Looking(), torch.randn(3, 4)
    handler = handle(network, x).truncate("stem")
    assert list(handler.get_module().state_dict()) == list(network.state_dict())
    torch.testing.assert_close(output_of(handler, x), network.stem(x * 2).detach())


def test_without_example_inputs_the_cut_is_made_and_nothing_is_taken_off():
    network, x = DataDependent(), torch.randn(3, 4)
    handler = handle(network).truncate("stem")
    torch.testing.assert_close(output_of(handler, x), network.stem(x).detach())
    assert list(handler.get_module().state_dict()) == list(network.state_dict())
    assert output_of(handler.add_layer_top(nn.Linear(4, 7)), x).shape == (3, 7)
    with pytest.raises(ModelError, match=r"how often 'block' runs is not known.*example inputs"):
        handle(network).truncate("block")


def test_training_of_the_source_and_tensors_exchanged_in_it_are_seen():
    network, x = DataDependent(), torch.randn(3, 4)
    handler = handle(network, x).truncate("stem").add_layer_top(nn.Linear(4, 2))
    module = handler.get_module()
    with torch.no_grad():
        network.stem.weight.mul_(2)
    assert not torch.equal(handler.get_module().stem.weight, module.stem.weight)
    network.load_state_dict(copy.deepcopy(network.state_dict()), assign=True)
    assert torch.equal(handler.get_module().stem.weight, network.stem.weight)
    assert handler.randomize("stem", random_state=0).layer_names == ["stem", "linear"]


def test_what_needs_a_graph_says_where_tracing_failed_and_what_works():
    network, x = DataDependent(), torch.randn(3, 4)
    before = snapshot(network)
    handler = handle(network, x)
    for edit in (
        lambda: handler.drop_layer_top(1),
        lambda: handler.drop_layer_bottom(1),
        lambda: handler.add_layer_bottom(nn.ReLU()),
        lambda: handler.insert_after("stem", nn.ReLU()),
        lambda: handler.insert_before("head", nn.ReLU()),
        lambda: handler.replace("stem", nn.Linear(4, 4)),
        lambda: handler.rename("stem", "first"),
    ):
        with pytest.raises(UntraceableModelError, match=r"DataDependent itself cannot be traced: TraceError.*truncate"):
            edit()
    assert handler.edits == ()
    assert snapshot(network) == before


def test_heads_that_do_not_fit_and_networks_of_several_outputs_are_refused():
    class Pair(DataDependent):
        def forward(self, x):
            return self.stem(x), super().forward(x)

    x = torch.randn(3, 4)
    handler = handle(DataDependent(), x)
    with pytest.raises(ModelError, match=r"'linear', Linear\(in_features=9.*\(3, 2\)") as caught:
        handler.add_layer_top(nn.Linear(9, 2))
    assert "nothing was changed" in str(caught.value)
    with pytest.raises(ModelError, match="name 'stem' is taken"):
        handler.add_layer_top(("stem", nn.Linear(2, 2)))
    assert handler.edits == ()
    several = handle(Pair(), x)
    with pytest.raises(ModelError, match=r"one output.*output\[0\] \(3, 4\), output\[1\] \(3, 2\).*truncate\(at=...\)"):
        several.add_layer_top(nn.Linear(2, 2))
    assert several.truncate("head").add_layer_top(nn.Linear(2, 5)).layers[-1].output_shape == (3, 5)


def test_a_text_encoder_is_cut_at_a_block_and_gets_a_head():
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    network = transformers.BertModel(transformers.BertConfig(vocab_size=50, **sizes)).eval()
    ids = torch.randint(0, 50, (2, 7), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    handler = handle(network, inputs).truncate("encoder.layer.1")
    with torch.no_grad():
        wanted = network(**inputs, output_hidden_states=True).hidden_states[2]
        torch.testing.assert_close(handler.get_module().eval()(**inputs), wanted)
    kept = {key for key in network.state_dict() if not key.startswith(("encoder.layer.2", "pooler"))}
    assert set(handler.get_module().state_dict()) == kept
    handler.freeze(up_to="encoder.layer.0").add_layer_top(("head", nn.LazyLinear(5)))
    module = saved_and_loaded(handler.get_module().train())
    module(**inputs).sum().backward()
    learning = {name.rpartition(".")[0] for name, p in module.named_parameters() if p.grad is not None}
    assert all(name.startswith(("encoder.layer.1", "head")) for name in learning)
    assert handler.layers[-1].output_shape == (2, 7, 5)


def test_a_network_whose_forward_refers_to_itself_and_not_to_its_copies_is_told_so():
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    network.forward = lambda x: network[1](network[0](x))
    with pytest.raises(ModelError, match=r"'0' did not run .* nor did any other layer: .*types\.MethodType"):
        ModelHandler(network, torch.ones(2, 3)).truncate("0")


def test_several_layers_end_a_network_without_a_graph_at_the_last_of_them():
    network, x = Deciding().eval(), images()
    wanted = hooked(network, (x,), ["blocks.1", "stem", "blocks.0.0"])
    handler = handle(network, x).truncate(["blocks.1", "stem", "blocks.0.0"])
    module = handler.get_module()
    torch.testing.assert_close(module(x), tuple(wanted[name] for name in ("blocks.1", "stem", "blocks.0.0")))
    assert "classifier.weight" not in module.state_dict()
    torch.testing.assert_close(copy.deepcopy(module)(x), module(x))
    with pytest.raises(ModelError, match="returns 3 tensors"):
        handler.add_layer_top(nn.ReLU())


def test_several_layers_are_not_found_before_anything_has_run_or_behind_a_head():
    with pytest.raises(ModelError, match=r"which of .* runs last is not known"):
        handle(Deciding()).truncate(["stem.0", "blocks.0.0"])
    with_top = handle(Deciding(), images()).truncate("stem").add_layer_top(nn.ReLU())
    with pytest.raises(ModelError, match="truncate at several before adding any"):
        with_top.truncate(["stem", "stem.0"])

"""Adding adapters is an edit like the others: undone, written down, drawn, followed by more, and refused whole."""

import pytest
import torch
from torch import nn

from model_handler import ModelError, ModelHandler, UnknownLayerError
from tests.model_handler.adapters.networks import answer, family, randomise, tiny
from tests.model_handler.networks import DataDependent, handle, snapshot, train_one_epoch


def rows(n_rows: int = 4) -> torch.Tensor:
    return torch.randn(n_rows, 3, 8, generator=torch.Generator().manual_seed(0))


def test_an_edit_is_undone_and_written_down() -> None:
    network, x = tiny().eval(), rows()
    before = snapshot(network)
    handler = handle(network, x).freeze("0")
    trainable = [layer.trainable for layer in handler.layers]
    handler.add_adapters(["3", "4"], rank=2, alpha=4, random_state=0).merge_adapters()
    assert handler.edits[1:] == (
        "add_adapters(['3', '4'], 'lora', rank=2, alpha=4, random_state=0)",
        "merge_adapters()",
    )
    assert handler.undo().adapters[0].parameter_names == ("3.lora_A", "3.lora_B")
    assert handler.undo().adapters == ()
    assert [layer.trainable for layer in handler.layers] == trainable
    assert torch.equal(answer(handler.get_module().eval(), x), answer(network, x))
    assert snapshot(network) == before


@pytest.mark.parametrize("kind", ["lora", "bias", "norm", "scale_shift"])
def test_training_moves_the_adapters_alone(kind: str) -> None:
    network = nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(24, 2))
    handler = handle(network, rows()).add_adapters("all", kind, rank=1)
    names = {name for adapter in handler.adapters for name in adapter.parameter_names}
    module = handler.get_module()
    assert train_one_epoch(module, rows()) == names
    assert torch.equal(module(rows()), module(rows()))  # dropout is frozen with all else


def test_without_a_graph_it_works_the_same() -> None:
    network, x = DataDependent().eval(), torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    handler = handle(network, x).add_adapters("block", rank=2)
    assert "by hooks" in repr(handler)
    module = randomise(handler.get_module().eval(), 0.5)
    layer = module.block[0]
    weight = layer._parameters["weight"] + layer.lora_B @ layer.lora_A
    by_hand = network.stem(x)
    for _ in range(2):  # the block runs twice, and its adapter in both
        by_hand = torch.tanh(nn.functional.linear(by_hand, weight, layer.bias))
    torch.testing.assert_close(module(x), network.head(by_hand))
    merged = handle(module, x).merge_adapters().get_module()
    torch.testing.assert_close(answer(merged, x), answer(module, x))


@pytest.mark.parametrize("name", ["BEiT", "GPT-2", "torch's encoder"])
def test_features_follow_what_adapters_learn(name: str) -> None:
    network, inputs = family(name)
    module = handle(network, inputs).add_adapters("all", rank=1).get_module().eval()
    handler = ModelHandler(module, inputs, device="cpu")
    last = handler.layer_names[-1]
    before = handler.extract(inputs, [last]).matrix
    randomise(module, 0.5)
    after = handler.extract(inputs, [last]).matrix
    assert abs(after - before).max() > 1e-3
    got = handler.get_module().eval()
    merged = handle(module, inputs).merge_adapters()
    torch.testing.assert_close(torch.tensor(merged.extract(inputs, [last]).matrix), torch.tensor(after))
    torch.testing.assert_close(answer(got, inputs), answer(module, inputs))


def test_a_network_with_adapters_is_edited_further() -> None:
    network, inputs = family("BEiT")  # whose blocks read the weight of qkv instead of calling it
    handler = handle(network, inputs).add_adapters("blocks.0", rank=2)
    plain = handle(network, inputs).truncate("fc_norm").get_module().eval()
    handler.truncate("fc_norm").add_layer_top([("head", nn.Linear(16, 2))])
    module = handler.get_module()
    learning = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    assert learning[:2] == ["blocks.0.attn.qkv.lora_A", "blocks.0.attn.qkv.lora_B"]
    assert learning[-2:] == ["head.weight", "head.bias"]
    assert torch.equal(answer(module.eval(), inputs), answer(module.head, answer(plain, inputs)))
    moved = train_one_epoch(module, inputs)
    assert moved == set(learning)
    got = handle(module, inputs).merge_adapters().get_module().eval()
    torch.testing.assert_close(answer(got, inputs), answer(module.eval(), inputs))


def test_weights_of_the_source_are_shared_until_they_are_merged() -> None:
    network, x = tiny().eval(), rows()
    handler = handle(network, x).add_adapters("3", rank=2)
    with torch.no_grad():
        network[3].weight.mul_(2)
    assert torch.equal(answer(handler.get_module(), x), answer(network, x))
    network.load_state_dict({key: value.clone() for key, value in tiny().state_dict().items()}, assign=True)
    assert torch.equal(answer(handler.get_module(), x), answer(network, x))


def test_the_picture_marks_adapters_and_not_what_was_merged() -> None:
    handler = handle(tiny(), rows()).add_adapters(["0", "3"], rank=2)
    source = handler.visualize_net(depth=None).source
    assert source.count("[ADAPTED · PARTLY FROZEN]") == 2
    assert source.count("lora of rank 2") == 2
    assert ", 2 adapters" in source
    for edit in ("merge_adapters", "remove_adapters"):
        source = getattr(handler, edit)().visualize_net(depth=None).source
        handler.undo()
        assert not any(word in source for word in ("ADAPTED", "adapter", "ADDED", "in place of"))


@pytest.mark.parametrize("edit", ["freeze", "unfreeze"])
def test_adapters_are_frozen_and_unfrozen_with_their_layer(edit: str) -> None:
    handler = handle(tiny()).add_adapters("3", rank=2)
    getattr(handler, edit)("3")
    layer = handler.get_module()[3]
    assert {parameter.requires_grad for parameter in layer.parameters()} == {edit == "unfreeze"}


def test_new_weights_under_an_adapter_are_refused() -> None:
    handler = handle(tiny()).add_adapters("3", rank=2)
    with pytest.raises(ModelError, match=r"'3'.* have adapters"):
        handler.randomize("3")
    assert handler.randomize("4").edits[-1] == "randomize('4')"


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.body, self.decoder = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9, bias=False)
        self.decoder.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.body(self.embedding(tokens)))


def normed() -> nn.Module:
    return nn.Sequential(*(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)) for _ in range(2)))


MAY_BE_GIVEN = r"a name, a type .*, a list of these, or one of \['attention', 'pointwise', 'all', 'auto'\]; "

REFUSED = {
    "an adapter is there": (
        lambda: handle(handle(tiny()).add_adapters("3").get_module()),
        {"where": ["3", "4"], "rank": 2},
        "'3' has an adapter already, lora of rank 4.*remove_adapters",
    ),
    "rank of a linear layer": (
        lambda: handle(tiny()),
        {"where": "4", "rank": 3},
        "'4' has 2 outputs of 6 inputs.* 2, got 3",
    ),
    "rank of a depthwise convolution": (
        lambda: handle(nn.Sequential(nn.Conv2d(8, 8, 3, groups=8))),
        {"where": "all", "rank": 10},
        "'0' has 8 outputs of 9 inputs each, so rank is at most 8, got 10",
    ),
    "no rank": (lambda: handle(tiny()), {"where": "4", "rank": 0}, "rank must be a whole number of at least 1"),
    "a rank that is none": (lambda: handle(tiny()), {"where": "4", "rank": 2.0}, "rank must be a whole number"),
    "alpha": (lambda: handle(tiny()), {"where": "4", "rank": 2, "alpha": 0}, "alpha must be a number above 0"),
    "alpha of another kind": (
        lambda: handle(tiny()),
        {"where": "4", "kind": "bias", "alpha": 1},
        "alpha=1 is for kind='lora'",
    ),
    "unknown kind": (
        lambda: handle(tiny()),
        {"where": "4", "kind": "lorra"},
        r"no kind of adapter 'lorra'; nearest: \['lora'",
    ),
    "unknown name": (lambda: handle(tiny()), {"where": "7"}, "no layer is named '7'"),
    "unknown word": (
        lambda: handle(tiny()),
        {"where": "attentoin"},
        r"no layer is named 'attentoin'; nearest: \['attention'",
    ),
    "nothing": (lambda: handle(tiny()), {"where": []}, f"{MAY_BE_GIVEN}no layer was named"),
    "None": (lambda: handle(tiny()), {"where": None}, f"{MAY_BE_GIVEN}got None"),
    "a number": (lambda: handle(tiny()), {"where": 3}, f"{MAY_BE_GIVEN}got 3"),
    "a number among names": (lambda: handle(tiny()), {"where": ["4", 3]}, f"{MAY_BE_GIVEN}got 3"),
    "a type of no module": (lambda: handle(tiny()), {"where": dict}, f"{MAY_BE_GIVEN}got <class 'dict'>"),
    "blocks without inputs": (
        lambda: handle(tiny()),
        {"where": "auto"},
        "needs example inputs.*ModelHandler\\(network, torch.empty.*; or use 'all' or names of layers",
    ),
    "not the layer for the kind": (
        lambda: handle(tiny()),
        {"where": "1"},
        "takes a linear layer or a convolution, and '1' is a BatchNorm1d",
    ),
    "no layer for the kind": (
        lambda: handle(tiny()),
        {"where": "3", "kind": "norm"},
        "a normalisation.* '3' is a Linear",
    ),
    "absent type": (lambda: handle(tiny()), {"where": nn.Conv2d}, "no module of type"),
    "parts of names": (lambda: handle(tiny()), {"where": "4", "parts": "qv"}, "parts='qv' is for where='attention'"),
    "seed": (lambda: handle(tiny()), {"where": "4", "rank": 1, "random_state": -1}, "random_state must be"),
    "tied": (lambda: handle(Tied()), {"where": "decoder"}, "'decoder' has its weight tied to 'embedding.weight'"),
    "computed weight": (
        lambda: handle(normed()),
        {"where": "all"},
        "(?s)'0' computes its weight.*'1' computes its weight",
    ),
    "no blocks": (lambda: handle(tiny(), rows()), {"where": "pointwise"}, "use 'all' or names of layers, which"),
    "prompts without blocks": (lambda: handle(tiny(), rows()), {"where": "auto", "kind": "prompt"}, "use another kind"),
    "prompts by name": (lambda: handle(tiny(), rows()), {"where": "3", "kind": "prompt"}, "which is 'auto'; got '3'"),
    "prompts": (lambda: handle(tiny()), {"where": "auto", "kind": "prompt", "n_tokens": 0}, "n_tokens must be"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_adapted_is_named_and_nothing_is_changed(case: str) -> None:
    make, options, said = REFUSED[case]
    handler = make()
    network, names = handler._engine.source, handler.layer_names
    before = snapshot(network)
    with pytest.raises(ModelError, match=said) as caught:
        handler.add_adapters(**options)
    assert isinstance(caught.value, UnknownLayerError) == ("no layer is named" in said)
    assert handler.edits == ()
    assert handler.layer_names == names
    assert snapshot(network) == before


def test_layers_tied_to_embeddings_are_no_part_of_all() -> None:
    handler = handle(Tied(), torch.tensor([[1, 2]])).add_adapters("all", rank=2)
    assert [adapter.layer for adapter in handler.adapters] == ["body"]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weights_that_hooks_compute_are_refused() -> None:
    pruned = nn.utils.prune.l1_unstructured(nn.Linear(4, 4), "weight", 3)
    handler = handle(nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 4)), pruned))
    with pytest.raises(ModelError, match=r"(?s)'0' computes its weight.*'1' computes its weight"):
        handler.add_adapters("all", "scale_shift")

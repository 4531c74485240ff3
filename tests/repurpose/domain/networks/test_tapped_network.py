import pickle
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from model_handler import ModelError, ModelHandler
from repurpose.domain.networks.tapped_network import TappedNetwork, tapped_network
from tests.repurpose.domain.networks.examples import MeansRepurposer, small_network
from tests.repurpose.neural_network.toast.networks import Texts, tiny_bert

X = torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def tapped(layers: Any, make_part: Any = lambda width: None, pooling: Any = "auto") -> TappedNetwork:
    handler = ModelHandler(small_network(), X[:2]).truncate("6")
    return tapped_network(handler, layers, 4, pooling, make_part, X[:2])


def test_in_training_it_hands_out_the_pooled_rows_of_its_layers() -> None:
    module, network = tapped(["0", "6", "head"]), small_network()
    network[7] = module.network.head
    module.train()
    for part in (module.network.get_submodule("1"), network[1]):
        part.eval()
    found = module(X)
    assert list(found["layers"]) == ["0", "6", "head"]
    assert torch.allclose(found["layers"]["0"], network[0](X).mean(dim=(2, 3)))
    assert torch.allclose(found["layers"]["6"], network[:7](X), atol=1e-6)
    assert torch.allclose(found["layers"]["head"], network(X), atol=1e-6)
    assert torch.equal(found["logits"], found["layers"]["head"])
    assert torch.allclose(module.eval()(X), network.eval()(X), atol=1e-6)


def test_by_default_it_hands_out_what_the_head_reads() -> None:
    module = tapped(None).train()
    module.network.get_submodule("1").eval()
    assert torch.allclose(module(X)["layers"]["what the head reads"], small_network()[:7].eval()(X), atol=1e-6)
    assert [name for name, _ in module.named_parameters()][-2:] == ["head.weight", "head.bias"]


def test_parts_map_the_rows_of_their_layers_in_training() -> None:
    module = tapped(["0", "6"], lambda width: nn.Linear(width, 1)).train()
    assert [part.in_features for part in module.domain] == [4, 8]
    assert {name: rows.shape for name, rows in module(X)["layers"].items()} == {"0": (5, 1), "6": (5, 1)}


def test_nothing_is_kept_of_a_pass_and_it_can_be_copied_and_pickled() -> None:
    module = tapped(["0"])
    module.eval()(X)
    module.train()(X)
    assert all(tap.rows is None for tap in module.taps().values())
    for copied in (deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(copied.eval()(X), module.eval()(X))


def test_layers_behind_which_nothing_learns_are_out_of_reach() -> None:
    module = tapped(["0", "6", "head"])
    trunk = [name for name, _ in module.named_parameters() if not name.startswith("head")]
    assert module.out_of_reach(trunk, X[:2]) == ["0", "6"]
    assert module.out_of_reach([name for name in trunk if not name.startswith("5")], X[:2]) == ["0"]
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_padding_does_not_count_in_the_rows_of_texts() -> None:
    class Embedding(nn.Module):
        """An embedding, and its mean over the tokens that count."""

        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(9, 4)
            self.out = nn.Linear(4, 3)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            words = self.words(input_ids) * attention_mask.unsqueeze(-1)
            return self.out(words.sum(1) / attention_mask.sum(1, keepdim=True))

    torch.manual_seed(0)
    network = Embedding()
    short = {"input_ids": torch.tensor([[3, 4], [5, 6]]), "attention_mask": torch.ones(2, 2).long()}
    module = tapped_network(ModelHandler(network, short), ["words"], 2, "auto", lambda width: None, short).train()
    longer = {name: nn.functional.pad(part, (0, 3)) for name, part in short.items()}
    rows = module(**longer)["layers"]["words"]
    assert torch.allclose(rows, network.words(short["input_ids"]).mean(dim=1))


def test_texts_of_two_domains_with_other_lengths_are_trained_together() -> None:
    target = Texts([[3, 4, 5, 6], [4, 5, 6, 0]] * 4)
    source = Texts([[3, 4, 5, 6, 7, 0], [4, 5, 6, 0, 0, 0]] * 4)
    options = {"num_epochs": 2, "batch_size": 4, "verbose": False, "random_state": 0}
    repurposer = MeansRepurposer(tiny_bert(), **options).repurpose(target, source_data=source)
    assert np.isfinite(repurposer.predict_probability(target)).all()
    named = MeansRepurposer(tiny_bert(), adaptation_layer_names=["encoder.layer.0"], **options)
    with pytest.raises(ModelError, match=r"cannot be traced.*compared by default, needs none"):
        named.repurpose(target, source_data=source)

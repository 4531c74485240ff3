import pytest
import torch
from torch import nn

from model_handler import ModelHandler
from model_handler.errors import ModelError
from model_handler.frozen_prefix.splitting import split
from model_handler.network.eval_lock import hold
from repurpose.domain.networks.two_headed_network import SourceTask, heads_of, two_headed_network
from tests.repurpose.examples import small_network


def convolutional() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3))


def test_both_heads_read_the_same_rows() -> None:
    network, X = small_network(), torch.rand(7, 4)
    module = two_headed_network(ModelHandler(network, X[:2]).truncate("3"), 6, 2, "auto")
    rows, heads = network[:4](X), heads_of(module)
    answers = module(X)
    assert {name: tuple(logits.shape) for name, logits in answers.items()} == {
        "logits": (7, 6),
        "source_logits": (7, 2),
    }
    assert torch.equal(answers["logits"], heads.target(rows))
    assert torch.equal(answers["source_logits"], heads.source(rows))
    assert torch.equal(SourceTask(module)(X), answers["source_logits"])
    assert {name for name, _ in module.named_parameters() if "heads" in name} == {
        f"heads.{head}.{weight}" for head in ("target", "source") for weight in ("weight", "bias")
    }


def test_maps_are_pooled_for_both() -> None:
    network, X = convolutional(), torch.rand(3, 1, 8, 8)
    module = two_headed_network(ModelHandler(network, X), 2, nn.Linear(5, 4), "auto")
    rows = network(X).mean(dim=(2, 3))
    torch.testing.assert_close(module(X)["source_logits"], heads_of(module).source(rows))


def test_a_name_that_the_network_has_is_left_to_it() -> None:
    network = nn.Sequential()
    network.add_module("heads", nn.Linear(4, 5))
    module = two_headed_network(ModelHandler(network, torch.rand(2, 4)), 3, 2, "auto")
    assert "heads_2.source.weight" in dict(module.named_parameters())
    assert heads_of(module).n_source_outputs == 2


def test_a_frozen_trunk_is_computed_apart_from_the_heads() -> None:
    module = two_headed_network(ModelHandler(convolutional(), torch.rand(2, 1, 8, 8)), 2, 3, "auto")
    hold(module.get_submodule("0").requires_grad_(False))
    found, X = split(module, torch.rand(2, 1, 8, 8)).frontier, torch.rand(5, 1, 8, 8)
    assert found is not None
    assert found.last_layer == "1"
    rest, whole = found.rest(*found.values(X)), module(X)
    assert all(torch.allclose(rest[name], whole[name], atol=1e-6) for name in ("logits", "source_logits"))
    own, of_rest = dict(module.named_parameters()), dict(found.rest.named_parameters())
    assert set(own) - set(of_rest) == {"0.weight", "0.bias"}
    assert all(of_rest[name] is own[name] for name in of_rest)


@pytest.mark.parametrize("head", [nn.Linear(4, 2), nn.Unflatten(1, (5, 1))])
def test_a_head_that_does_not_answer_rows_is_refused(head: nn.Module) -> None:
    handler = ModelHandler(small_network(), torch.rand(2, 4)).truncate("3")
    with pytest.raises(ModelError, match=r"does not read rows of 5 numbers|must give a row of logits"):
        two_headed_network(handler, 2, head, "auto")

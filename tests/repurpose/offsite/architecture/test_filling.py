"""A network that was built gets its weights by name, all of them or none."""

import pytest
import torch
from torch import nn

from model_handler import CorruptFileError
from repurpose.offsite.architecture import build, describe, fill


def _built() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    network = nn.Linear(3, 4)
    sent = describe(network, torch.rand(2, 3))
    return build(sent.said, sent.constants), dict(network.state_dict())


def test_weights_are_those_given_and_learn() -> None:
    network, state = _built()
    fill(network, state)
    assert network.get_parameter("weight").data_ptr() == state["weight"].data_ptr()
    network(torch.rand(2, 3)).sum().backward()
    assert network.get_parameter("weight").grad is not None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"bias": None}, "has no weights 'bias'"),
        ({"bias": torch.ones(4, dtype=torch.int64)}, "'bias' are torch.int64"),
        ({"more": torch.ones(1)}, "weights 'more', of which"),
        (
            {"weight": torch.ones(4, 4)},
            r"'weight' are torch.float32 of the shape \(4, 4\), where .* \(4, 3\) were expected",
        ),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change: dict[str, torch.Tensor | None], named: str) -> None:
    network, state = _built()
    changed = {name: each for name, each in {**state, **change}.items() if each is not None}
    with pytest.raises(CorruptFileError, match=named):
        fill(network, changed)
    assert all(each.is_meta for each in network.parameters())


def test_a_buffer_that_nothing_fills_changes_nothing() -> None:
    network, state = _built()
    network.register_buffer("cache", torch.ones(2, device="meta"), persistent=False)
    with pytest.raises(CorruptFileError, match="it has no numbers for 'cache'"):
        fill(network, state)
    assert all(each.is_meta for each in network.parameters())


def test_a_layer_that_was_exchanged_keeps_its_own_weights() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    sent = describe(network, torch.rand(2, 3))
    built = build(sent.said, sent.constants)
    head = nn.Linear(4, 5)
    built.set_submodule("1", head)
    state = {name: each for name, each in network.state_dict().items() if name.startswith("0.")}
    rows = torch.rand(6, 3)
    assert torch.equal(fill(built, state)(rows), head(network[0](rows)))

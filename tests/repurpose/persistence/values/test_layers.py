from typing import Any

import pytest
import torch
from torch import nn

from repurpose.persistence.values.codec import Codec, UnsavableError
from repurpose.persistence.values.layers import network_of_layers, take_layers_apart


def network() -> nn.Module:
    torch.manual_seed(0)
    inner = nn.Sequential(nn.LayerNorm(5, bias=False), nn.ELU(0.5), nn.Dropout(0.3), nn.Identity())
    made = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5, eps=1e-3), nn.GELU("tanh"), inner)
    made.add_module("last", nn.Linear(5, 3, bias=False))
    made(torch.randn(8, 4))  # moves the statistics of BatchNorm
    made[0].weight.requires_grad_(False)
    return made.append(nn.Softmax(dim=1))


def through_a_file(value: Any) -> Any:
    codec = Codec()
    return codec.decode(codec.encode(value, "head"))


@pytest.mark.parametrize("training", [True, False])
def test_a_chain_of_layers_computes_the_same(training: bool) -> None:
    made = network().train(training).requires_grad_(True)
    made[0].weight.requires_grad_(False)
    again = through_a_file(made)
    assert repr(again) == repr(made)
    rows = torch.randn(6, 4)
    for each in (made, again):
        torch.manual_seed(1)
        each.outputs = each(rows)
    assert torch.equal(made.outputs, again.outputs)
    assert [name for name, _ in again.named_modules()] == [name for name, _ in made.named_modules()]
    assert [part.training for part in again.modules()] == [part.training for part in made.modules()]
    assert [each.requires_grad for each in again.parameters()] == [each.requires_grad for each in made.parameters()]


def test_a_layer_keeps_its_precision() -> None:
    for dtype in (torch.float64, torch.bfloat16):
        again = through_a_file(nn.Linear(3, 2).to(dtype))
        assert again.weight.dtype == dtype


def test_classes_that_a_file_may_not_name_are_refused_when_it_is_saved() -> None:
    class Mine(nn.Linear):
        pass

    hooked = nn.Linear(2, 2)
    hooked.register_forward_hook(lambda *_: None)
    for head in (Mine(2, 2), nn.Sequential(nn.Linear(2, 2), Mine(2, 2)), nn.Conv2d(1, 1, 1), hooked):
        with pytest.raises(UnsavableError, match="an object of type"):
            Codec().encode(head, "head")


def test_a_file_that_lies_about_layers_is_refused_without_their_memory() -> None:
    said = take_layers_apart(nn.Linear(3, 2))
    for layers, message in (
        ({"layer": "Linear", "options": {"in_features": 10**9, "out_features": 10**9}, "training": False}, "weights"),
        ({"layer": "Module", "options": {}, "training": False}, "unknown layer 'Module'"),
        ({"layer": "Identity", "options": {}, "training": False}, "weights"),
    ):
        with pytest.raises(ValueError, match=message):
            network_of_layers({**said, "layers": layers})


def test_a_network_of_very_many_layers_is_refused_when_it_is_saved_and_before_it_is_made() -> None:
    assert len(through_a_file(nn.Sequential(*[nn.Identity()] * 999))) == 999
    said = {"layer": "Sequential", "parts": {str(i): {"layer": "Sequential", "parts": {}} for i in range(1000)}}
    with pytest.raises(ValueError, match=r"its network has 1,001 layers, where at most 1,000 were expected"):
        network_of_layers({"layers": said, "state": {}, "frozen": []})
    with pytest.raises(UnsavableError, match=r"a network of 1,001 layers, of which a file holds 1,000"):
        Codec().encode(nn.Sequential(*(nn.Identity() for _ in range(1000))), "head")


def test_a_layer_that_comes_twice_comes_back_twice() -> None:
    torch.manual_seed(0)
    relu, linear = nn.ReLU(), nn.Linear(3, 3).requires_grad_(False)
    made = nn.Sequential(nn.Linear(4, 3), relu, linear, relu, linear, nn.Sequential(relu, nn.Linear(3, 2)), relu)
    again, rows = through_a_file(made), torch.randn(6, 4)
    assert repr(again) == repr(made)
    assert torch.equal(again(rows), made(rows))
    assert not any(parameter.requires_grad for part in (again[2], again[4]) for parameter in part.parameters())

"""What is wrong with an adapter is found, all of it, before anything is plugged in."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from model_handler import ModelHandler
from model_handler.network.states import copied_state
from repurpose.offsite.adapter_files import AdapterContents
from repurpose.offsite.packing import Head
from repurpose.offsite.plugging import adapter_pairs, checked_weights
from tests.repurpose.offsite.networks import images, vit
from tests.repurpose.offsite.packages import contents_of, owners_network

NETWORK = vit(3)
FIRST, LAST = "encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_2"
PAIRS = {"encoder.layers.0": FIRST, "encoder.layers.1": LAST}  # as they may be called in the package
HEAD = Head("heads.head", 16, ("a", "b", "c"))
BIAS = "encoder.layers.1.mlp.0.bias"


def blocks() -> dict[str, Tensor]:
    named = {f"{sent}.{name}": value for sent, own in PAIRS.items() for name, value in part(own).items()}
    return {name: value.detach().clone() for name, value in named.items()}


def part(path: str) -> dict[str, Tensor]:
    return dict(NETWORK.get_submodule(path).named_parameters())


def adapter(**changes: Any) -> AdapterContents:
    head = {"weight": torch.ones(2, 16), "bias": torch.ones(2)}
    return replace(AdapterContents("0" * 64, blocks(), head, ("x", "y")), **changes)


def test_weights_come_under_the_names_of_the_owners_network() -> None:
    found = checked_weights(adapter(), NETWORK, PAIRS, HEAD)
    assert found.blocks.keys() == {
        name for name, _ in NETWORK.named_parameters() if name.startswith((f"{FIRST}.", f"{LAST}."))
    }
    assert torch.equal(found.blocks[f"{LAST}.mlp.0.bias"], NETWORK.encoder.layers[2].mlp[0].bias)
    assert (found.classes, found.head["bias"].tolist()) == (("x", "y"), [1.0, 1.0])


def test_an_adapter_without_a_head_gets_the_owners_and_its_classes() -> None:
    found = checked_weights(adapter(head={}, class_names=None), NETWORK, PAIRS, HEAD)
    assert found.classes == ("a", "b", "c")
    assert torch.equal(found.head["weight"], NETWORK.heads.head.weight)


def test_classes_without_a_name_are_numbers() -> None:
    assert checked_weights(adapter(class_names=None), NETWORK, PAIRS, HEAD).classes == (0, 1)


def changed(change: Callable[[dict[str, Tensor]], Any]) -> AdapterContents:
    own = blocks()
    change(own)
    return adapter(blocks=own)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (changed(lambda own: own.pop(BIAS)), rf"it lacks {BIAS}"),
        (changed(lambda own: own.update(more=torch.ones(1))), "it has further tensors, more"),
        (changed(lambda own: own.update({BIAS: torch.ones(5)})), rf"{BIAS} has the shape \(5,\), where \(32,\)"),
        (
            changed(lambda own: own.update({BIAS: own[BIAS].double()})),
            rf"{BIAS} is of torch.float64, where torch.float",
        ),
        (changed(lambda own: own[BIAS].fill_(torch.nan)), rf"{BIAS} has numbers that are infinite or none"),
        (changed(lambda own: own[BIAS].fill_(-torch.inf)), rf"{BIAS} has numbers that are infinite or none"),
        (adapter(head={"weight": torch.ones(2, 15)}), r"head.weight has the shape \(2, 15\), where \(2, 16\)"),
        (adapter(head={"bias": torch.ones(2)}), "its head has the tensors bias, where weight and bias were expected"),
        (adapter(head={"weight": torch.ones(16)}), r"has the shape \(16,\), where \(n, 16\) was expected"),
        (
            adapter(head={"weight": torch.ones(2, 16).bfloat16()}),
            "head.weight is of torch.bfloat16, where torch.float32 was expected",
        ),
        (adapter(head={"weight": torch.ones(1, 16)}), "its head has 1 outputs, where at least 2"),
        (
            adapter(head={"weight": torch.ones(2, 16), "bias": torch.full((2,), torch.nan)}),
            "head.bias has numbers that",
        ),
        (adapter(class_names=("x", "y", "z")), "it names 3 classes, and its head has 2 outputs"),
        (adapter(class_names=("x",)), "it names 1 classes, and its head has 2 outputs"),
        (adapter(class_names=("x", "x")), "it names the classes x more than once"),
        (adapter(class_names=("x", 1)), "its classes are some of them numbers and some text"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_by_name(given: AdapterContents, message: str) -> None:
    with pytest.raises(ValueError, match=f"this adapter cannot be plugged in: .*{message}"):
        checked_weights(given, NETWORK, PAIRS, HEAD)


def test_every_mistake_is_listed() -> None:
    own = blocks()
    del own[BIAS]
    own["more"] = torch.ones(1)
    with pytest.raises(ValueError, match=r"it lacks .*; it has further tensors, more; head\.weight has the shape"):
        checked_weights(adapter(blocks=own, head={"weight": torch.ones(2, 15)}), NETWORK, PAIRS, HEAD)


def test_the_blocks_of_a_package_are_those_at_both_ends_of_the_owners() -> None:
    network = owners_network()
    handler = ModelHandler(network, torch.rand(2, 4))
    assert adapter_pairs(contents_of(network), handler) == {"blocks.0": "blocks.0", "blocks.3": "blocks.5"}
    with pytest.raises(ValueError, match=r"of another network: blocks\.0\.up\.weight, .* are not what it holds"):
        adapter_pairs(contents_of(owners_network(seed=1)), handler)
    with pytest.raises(ValueError, match="it has more blocks than the 6 that are here"):
        adapter_pairs(contents_of(network, kept=(1, 2, 3, 4, 1)), handler)
    lacking = copied_state(network)
    del lacking["blocks.0.up.bias"]
    with pytest.raises(ValueError, match=r"blocks\.0\.up\.bias"):
        adapter_pairs(replace(contents_of(network), state=lacking), handler)


def test_nothing_of_the_owners_network_was_changed() -> None:
    assert all(torch.equal(value, vit(3).state_dict()[name]) for name, value in NETWORK.state_dict().items())
    assert torch.equal(NETWORK(images()), vit(3)(images()))

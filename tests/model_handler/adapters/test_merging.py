"""Adapters on networks of all families: each begins as nothing, has an effect, and is merged without a trace."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from model_handler import ModelError
from tests.model_handler.adapters.networks import FAMILIES, answer, family, randomise, tiny
from tests.model_handler.networks import handle, saved_and_loaded, snapshot

KINDS = ["lora", "bias", "norm", "scale_shift"]
OF_ALL_KINDS = ["ViT of torchvision", "Swin-V2", "ConvNeXt", "GPT-2"]  # between them every way to be adapted


def in_double(network: nn.Module, inputs: Any) -> tuple[nn.Module, Any]:
    inputs = inputs if isinstance(inputs, dict) else inputs.double()
    return copy.deepcopy(network).double(), inputs


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name in FAMILIES for kind in (KINDS if name in OF_ALL_KINDS else ["lora"])]
)
def test_all_layers_of_a_family_are_adapted_have_an_effect_and_are_merged(name: str, kind: str) -> None:
    network, inputs = family(name)
    before, wanted = snapshot(network), answer(network, inputs)
    handler = handle(network, inputs)
    module = handler.add_adapters("all", kind, rank=1).get_module()
    assert torch.equal(answer(module, inputs), wanted)
    learning = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert learning == {name for adapter in handler.adapters for name in adapter.parameter_names}
    assert set(network.state_dict()) == set(module.state_dict()) - learning
    if kind == "lora":
        assert silent_adapters(module, sorted(learning), inputs, wanted) == []
    randomise(module)
    assert not torch.allclose(answer(module, inputs), wanted)
    module, inputs = in_double(module, inputs)
    merged = handle(module, inputs).merge_adapters().get_module()
    got = answer(module, inputs)
    assert (answer(merged, inputs) - got).abs().max() <= 1e-10 * got.abs().max()
    assert list(merged.state_dict()) == list(network.state_dict())
    assert [name for name, _ in merged.named_buffers()] == [name for name, _ in network.named_buffers()]
    assert [type(part) for part in merged.modules()] == [type(part) for part in network.modules()]
    assert snapshot(network) == before


def silent_adapters(module: nn.Module, names: list[str], inputs: Any, wanted: torch.Tensor) -> list[str]:
    """The factors B, zero at the start, that change nothing when they are not zero any more."""
    silent = []
    for name in names:
        factor = module.get_parameter(name)
        if not factor.any():
            # not one number for all: a norm behind the layer would take it off again
            factor.data.copy_(torch.linspace(1, 2, len(factor))[:, None].square())
            silent += [name] if torch.equal(answer(module, inputs), wanted) else []
            factor.data.zero_()
    return silent


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapted_network_is_copied_saved_and_known_again(kind: str) -> None:
    x = torch.randn(4, 3, 8, generator=torch.Generator().manual_seed(0))
    network = tiny().eval()
    handler = handle(network, x).add_adapters("all", kind, rank=1)
    module = randomise(handler.get_module())
    wanted = answer(module, x)
    for copied in (copy.deepcopy(module), saved_and_loaded(module)):
        assert torch.equal(answer(copied, x), wanted)
        assert handle(copied, x).adapters == handler.adapters
    fresh = handler.get_module()
    assert not torch.equal(answer(fresh, x), wanted)
    fresh.load_state_dict(module.state_dict())
    assert torch.equal(answer(fresh, x), wanted)
    removed = handle(module, x).remove_adapters().get_module()
    assert torch.equal(answer(removed, x), answer(network, x))
    assert list(removed.state_dict()) == list(network.state_dict())


@pytest.mark.parametrize("edit", ["merge_adapters", "remove_adapters"])
def test_without_adapters_there_is_nothing_to_take_off(edit: str) -> None:
    handler = handle(tiny())
    with pytest.raises(ModelError, match=f"{edit} finds no adapter"):
        getattr(handler, edit)()
    assert handler.edits == ()

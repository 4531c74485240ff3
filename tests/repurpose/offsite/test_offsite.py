"""Both sides together: what an owner sends is tuned, comes back, and is plugged in."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from model_handler.network.copying import deep_copy
from model_handler.network.states import copied_state
from repurpose import NeuralNetworkRepurposer, load
from repurpose.offsite import OffsiteOwner, OffsitePackage, OffsiteRepurposer, PluggedInRepurposer
from repurpose.offsite.adapter_files import read_adapter
from tests.repurpose.offsite.exports import outputs
from tests.repurpose.offsite.networks import bert, gpt2, images, resnet, tokens, vit
from tests.repurpose.saved_files import edit

NETWORKS: dict[str, Any] = {
    "vit": (vit, images(8)),
    "resnet": (resnet, images(8, 32)),
    "bert": (bert, tokens(8)),
    "gpt2": (gpt2, tokens(8)),
    "encoder": (lambda: bert(classes=False), tokens(8)),
}
LABELS = ["cat", "dog"] * 4


def sent(folder: Path, name: str, **options: Any) -> tuple[OffsiteOwner, Any]:
    make, X = NETWORKS[name]
    owner = OffsiteOwner(make(), (1, 1), options.pop("emulator", 2), example_inputs=X, random_state=0)
    head = "none" if name == "encoder" else "owner"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of blocks that are sent verbatim
        owner.export(folder / "package", head=head, **options)
    return owner, X


def in_the_middle(owner: OffsiteOwner, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    inside = tuple(f"{block}." for block in owner.split.middle)
    return {name: value for name, value in state.items() if name.startswith(inside)}


def tune(package: Path | OffsitePackage, X: Any, **options: Any) -> OffsiteRepurposer:
    return OffsiteRepurposer(package, num_epochs=2, random_state=0, **options).repurpose(X, LABELS)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "encoder"])
def test_an_untouched_adapter_makes_the_owners_network_bit_for_bit(name: str, tmp_path: Path) -> None:
    owner, X = sent(tmp_path, name)
    OffsiteRepurposer(tmp_path / "package").save_adapter(tmp_path / "adapter")
    plugged = owner.plug_in(tmp_path / "adapter")
    assert torch.equal(outputs(plugged.target_model_, X), outputs(owner.network, X))
    assert plugged.classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_tuned_changes_the_ends_and_neither_emulator_nor_middle(name: str, tmp_path: Path) -> None:
    owner, X = sent(tmp_path, name)
    before = copied_state(owner.network)
    package = OffsitePackage(tmp_path / "package")
    tuned = tune(package, X)
    emulator = {
        key: value
        for key, value in tuned.target_model_.state_dict().items()
        if key.startswith(tuple(f"{block}." for block in package.contents.emulator))
    }
    assert emulator
    assert all(torch.equal(value, package.contents.state[key]) for key, value in emulator.items())
    tuned.save_adapter(tmp_path / "adapter")
    plugged = owner.plug_in(tmp_path / "adapter", tmp_path / "package")
    state = plugged.target_model_.state_dict()
    assert all(torch.equal(state[key], value) for key, value in in_the_middle(owner, before).items())
    assert all(torch.equal(value, before[key]) for key, value in owner.network.state_dict().items())
    block = f"{owner.split.last[0]}."
    moved = [key for key in before if key.startswith(block) and not torch.equal(before[key], state[key])]
    assert moved
    assert not torch.equal(plugged.target_model_.get_parameter(moved[0]), owner.network.get_parameter(moved[0]))
    assert plugged.predict_probability(X).shape == (8, 2)


class _Whole(NeuralNetworkRepurposer):
    """Tunes a network as it is."""

    def _create_target_module(self, example_inputs: Any) -> nn.Module:
        return deep_copy(self.source_model)


def test_the_whole_middle_sent_as_it_is_trains_as_a_frozen_one_does(tmp_path: Path) -> None:
    owner, X = sent(tmp_path, "vit", emulator=1.0)
    first, last = owner.split.adapter
    rates = {first: 1e-3, last: 1e-3, "heads.head": 1e-2, "*": 0}
    options: dict[str, Any] = {"num_epochs": 3, "batch_size": 4, "learning_rates": rates, "random_state": 0}
    codes = [0, 1, 2, 0, 1, 2, 0, 1]
    tuned = OffsiteRepurposer(tmp_path / "package", **options).repurpose(X, codes)
    tuned.save_adapter(tmp_path / "adapter")
    plugged = owner.plug_in(tmp_path / "adapter")
    whole = _Whole(owner.network, **options).repurpose(X, codes)
    wanted = whole.predict_probability(X)
    assert np.abs(wanted - outputs(owner.network, X).softmax(1).numpy()).max() > 1e-2
    assert np.allclose(plugged.predict_probability(X), wanted, atol=1e-5)
    assert np.allclose(tuned.predict_probability(X), wanted, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_no_matrix_of_a_distilled_emulator_is_the_owners(name: str, tmp_path: Path) -> None:
    owner, _ = sent(tmp_path, name, distill_data=NETWORKS[name][1], min_steps=2)
    package = OffsitePackage(tmp_path / "package")
    own = [value for _, value in in_the_middle(owner, owner.network.state_dict()).items() if value.ndim > 1]
    inside = tuple(f"{block}." for block in package.contents.emulator)
    theirs = [value for key, value in package.contents.state.items() if key.startswith(inside) and value.ndim > 1]
    assert theirs
    assert not [1 for value in theirs for other in own if value.shape == other.shape and torch.equal(value, other)]
    found = package.audit(owner=owner)
    assert all(0 < block.distance < 1 for block in found.blocks)
    assert 0 < found.share < 1


def test_by_lora_too(tmp_path: Path) -> None:
    owner, X = sent(tmp_path, "bert")
    tuned = tune(tmp_path / "package", X, kind="lora")
    tuned.save_adapter(tmp_path / "adapter.zip")
    plugged = owner.plug_in(tmp_path / "adapter.zip")
    assert isinstance(plugged, PluggedInRepurposer)
    assert plugged.classes_.tolist() == ["cat", "dog"]
    plugged.save_repurposer(tmp_path / "plugged.zip")
    again = load(tmp_path / "plugged.zip", source_model=owner.network)
    assert np.array_equal(again.predict_probability(X), plugged.predict_probability(X))


def test_a_package_has_no_rows_copied_into_its_adapter(tmp_path: Path) -> None:
    owner, X = sent(tmp_path, "vit")
    package = tmp_path / "package"
    norm = owner.split.first[0] + ".ln_1"

    def copy_rows(content: dict[str, Any]) -> None:
        modules = content["architecture"]["modules"]
        for program in filter(None, modules[""]["programs"]):
            place = program["inputs"] + len(program["steps"])
            program["steps"] += [
                ["weight", f"{norm}.weight", [], {}],
                ["function", "torch.select", [{"value": 0}, 0, 0], {}],
                ["function", "torch.select", [{"value": place + 1}, 0, 0], {}],
                ["function", "torch.select", [{"value": place + 2}, 0, 0], {}],
                ["method", "copy_", [{"value": place}, {"value": place + 3}], {}, "no_grad"],
            ]

    edit(package, copy_rows)
    tuned = OffsiteRepurposer(package, num_epochs=1, random_state=0).repurpose((X, LABELS))
    tuned.save_adapter(tmp_path / "adapter")
    weight = read_adapter(tmp_path / "adapter").blocks[f"{norm}.weight"]
    assert (weight - 1).abs().max() < 0.01  # where it was, but for the one step that was learned

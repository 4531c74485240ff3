"""The emulator network is built of the package, or of a network that is given, and of nothing that does not fit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from model_handler import CorruptFileError
from model_handler.network.copying import deep_copy
from repurpose.offsite.architecture import describe
from repurpose.offsite.emulator_network import emulator_network
from repurpose.offsite.package import OffsitePackage, PackageContents, write_package
from tests.repurpose.offsite.packages import Chain, contents_of, emulator_of, owners_network, without_head

ROWS = torch.linspace(-1, 1, 20).reshape(5, 4)


def as_data(owner: Chain, contents: PackageContents) -> PackageContents:
    """The same with the network as data, dropping nothing of anybody's."""
    return replace(contents, architecture=describe(emulator_of(owner), ROWS), dropped=())


@pytest.mark.parametrize("has_head", [True, False])
def test_a_network_that_travels_as_data_computes_what_was_sent(tmp_path: Path, has_head: bool) -> None:
    owner = owners_network()
    write_package(tmp_path / "p.zip", as_data(owner, contents_of(owner) if has_head else without_head(owner)))
    network, sent = OffsitePackage(tmp_path / "p.zip").network(), emulator_of(owner)
    assert not network.training
    expected = sent(ROWS) if has_head else sent.blocks(torch.tanh(sent.stem(ROWS)))
    assert torch.equal(network(ROWS), expected)
    weights = {name: value.shape for name, value in sent.named_parameters() if has_head or "head" not in name}
    assert {name: value.shape for name, value in network.named_parameters()} == weights


def test_each_network_of_a_package_has_weights_of_its_own() -> None:
    contents = as_data(owner := owners_network(), contents_of(owner))
    first, second = (emulator_network(contents, "p") for _ in range(2))
    with torch.no_grad():
        first.stem.weight.zero_()
    assert torch.equal(second.stem.weight, owner.stem.weight)
    assert torch.equal(contents.state["stem.weight"], owner.stem.weight)


def test_weights_that_were_tied_are_tied_again() -> None:
    given = Chain()
    given.blocks[5].up = given.blocks[0].up
    owner = deep_copy(given).eval()
    network = emulator_network(contents_of(owner), "p", given)
    assert network.blocks[3].up.weight is network.blocks[0].up.weight


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: replace(c, first=("blocks.7",)), r"p is damaged: it has no block 'blocks\.7'"),
        (lambda c: replace(c, classifier="stem"), "p is damaged: 'stem' is no linear layer of 8 inputs"),
        (lambda c: replace(c, classifier="blocks.0"), r"p is damaged: 'blocks\.0' is no linear layer of 8 inputs"),
        (lambda c: replace(c, classifier="neck"), "p is damaged: "),
        (lambda c: replace(c, state={**c.state, "more": torch.ones(1)}), "p is damaged: it has weights 'more'"),
        (
            lambda c: replace(c, state={**c.state, "stem.bias": torch.ones(3)}),
            r"p is damaged: its weights 'stem\.bias'",
        ),
    ],
)
def test_a_package_that_does_not_fit_itself_is_damaged(change: Callable[[Any], Any], message: str) -> None:
    contents = change(as_data(owner := owners_network(), contents_of(owner)))
    with pytest.raises(CorruptFileError, match=message):
        emulator_network(contents, "p")


def test_a_network_is_given_where_it_is_needed_and_nowhere_else() -> None:
    owner = owners_network()
    with pytest.raises(ValueError, match="source_model is needless: p has its network with it"):
        emulator_network(as_data(owner, contents_of(owner)), "p", Chain())
    with pytest.raises(ValueError, match=r"p holds weights alone .*: give the network"):
        emulator_network(contents_of(owner), "p")
    for other, why in ((Chain(n_blocks=5), ""), (nn.Linear(4, 3), r"no module is named 'blocks\.2'$")):
        with pytest.raises(
            ValueError, match=f"source_model is not of the architecture that p was exported from: {why}"
        ):
            emulator_network(contents_of(owner), "p", other)

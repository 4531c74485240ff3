"""What a package gives away."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from repurpose.offsite import OffsiteOwner, OffsitePackage
from tests.repurpose.offsite.exports import exported
from tests.repurpose.offsite.networks import images, vit


def test_blocks_that_were_sent_as_they_are_are_the_owners(tmp_path: Path) -> None:
    network = vit()
    sent = exported(tmp_path, network, images(), emulator=2)
    found = sent.package.audit(owner=sent.owner)
    assert set(found.same) == sent.package.contents.state.keys()
    n_sent = sum(weight.numel() for name, weight in network.named_parameters() if "layer_2." not in name)
    n_sent -= sum(weight.numel() for weight in network.encoder.layers[3].parameters())
    assert found.n_parameters == n_sent
    assert found.share == pytest.approx(n_sent / sum(weight.numel() for weight in network.parameters()))
    assert [(block.of, block.distance) for block in found.blocks] == [
        ("encoder.layers.encoder_layer_1", 0.0),
        ("encoder.layers.encoder_layer_4", 0.0),
    ]
    assert all(block.cosine == pytest.approx(1.0) for block in found.blocks)
    assert "tensors are the owner's bit for bit" in str(found)


def test_distilled_blocks_are_measured(tmp_path: Path) -> None:
    network = vit()
    owner = OffsiteOwner(network, (1, 1), 1, example_inputs=images(), random_state=0)
    owner.export(tmp_path / "package", images(8), min_steps=20, architecture="given")
    package = OffsitePackage(tmp_path / "package")
    found = package.audit(owner=network)  # the network itself will do
    (block,) = found.blocks
    name = "encoder.layers.encoder_layer_2"
    theirs, own = (
        torch.cat([state[f"{name}.{part}"].flatten() for part, _ in network.get_submodule(name).named_parameters()])
        for state in (package.contents.state, network.state_dict())
    )
    theirs, own = theirs.double().numpy(), own.double().numpy()
    assert (block.name, block.of) == (name, name)
    assert block.cosine == pytest.approx(theirs @ own / np.linalg.norm(theirs) / np.linalg.norm(own))
    assert block.distance == pytest.approx(np.linalg.norm(theirs - own) / np.linalg.norm(own))
    assert 0 < block.distance < 0.1
    assert not [same for same in found.same if same.startswith(f"{name}.") and package.contents.state[same].ndim > 1]
    assert f"{block.distance:.4f}" in str(found)


def test_the_emulator_by_itself_is_measured_on_data(tmp_path: Path) -> None:
    sent = exported(tmp_path, vit(), images(), class_names=["a", "b", "c"])
    X = images(9)
    right = sent.package.network(sent.owner.network)(X).argmax(1)
    labels = np.array(["a", "b", "c"])[right]
    labels[:3] = np.where(labels[:3] == "a", "b", "a")
    found = sent.package.audit((X, labels), owner=sent.owner)
    assert found.accuracy == pytest.approx(6 / 9)
    assert "accuracy with the emulator as it is: 0.6667" in str(found)
    by_who_has_the_code = sent.package.audit(X, labels, source_model=vit())
    assert (by_who_has_the_code.accuracy, by_who_has_the_code.n_parameters) == (found.accuracy, found.n_parameters)
    assert by_who_has_the_code.same is None
    with pytest.raises(ValueError, match="give the network that they are of, with any weights, by source_model="):
        sent.package.audit(X, labels)
    with pytest.raises(ValueError, match="the labels came twice"):
        sent.package.audit((X, labels), labels, owner=sent.owner)
    with pytest.raises(ValueError, match="needs labels"):
        sent.package.audit(X, owner=sent.owner)


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    sent = exported(tmp_path, vit(), images(), head="none")
    with pytest.raises(ValueError, match="the package has no head"):
        sent.package.audit((images(), [0, 1, 2, 0]), owner=sent.owner)
    other = vit()
    torch.nn.init.ones_(other.encoder.layers[0].mlp[0].weight)
    with pytest.raises(ValueError, match="the package is of another network"):
        sent.package.audit(owner=other)


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.up(x))


class _Borrowing(nn.Module):
    """A block whose weight is that of a layer elsewhere."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layers = (layer,)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.layers[0](x))


def test_blocks_without_weights_are_left_out(tmp_path: Path) -> None:
    stem = nn.Linear(8, 8)
    network = nn.Sequential(stem, _Layer(), _Layer(), _Borrowing(stem), _Layer(), nn.Linear(8, 2)).eval()
    sent = exported(tmp_path, network, torch.rand(2, 8), emulator=2)
    blocks = sent.package.audit(owner=sent.owner).blocks
    assert blocks is not None
    assert [block.of for block in blocks] == ["2"]

"""What is packed is what the data owner gets, or nothing is written."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from model_handler import ModelError
from repurpose.offsite import OffsiteOwner, OffsitePackage
from tests.repurpose.offsite.exports import exported, outputs
from tests.repurpose.offsite.networks import gpt2, images, tokens, vit
from tests.repurpose.offsite.packages import Chain, owners_network


@pytest.mark.filterwarnings("ignore:without distill_data")
@pytest.mark.parametrize("architecture", ["auto", "given"])
def test_the_network_of_a_package_is_the_thinned_one_bit_for_bit(architecture: str, tmp_path: Path) -> None:
    network, X = owners_network(), torch.rand(2, 4)
    owner = OffsiteOwner(network, (1, 1), 2, example_inputs=X)
    owner.export(tmp_path / "package", architecture=architecture)
    given = owners_network(seed=3) if architecture == "given" else None  # with whatever weights
    got = OffsitePackage(tmp_path / "package").network(given)
    z = torch.tanh(network.stem(X))
    for number in (0, 1, 4, 5):
        z = network.blocks[number](z)
    assert torch.equal(outputs(got, X), network.head(z))


@pytest.mark.filterwarnings("ignore:without distill_data")
def test_a_network_that_is_not_all_in_its_settings_is_refused(tmp_path: Path) -> None:
    network = gpt2()
    for number, block in enumerate(network.transformer.h):
        block.attn.scaling /= number + 1  # as scale_attn_by_inverse_layer_idx does, by the blocks that are left
    owner = OffsiteOwner(network, (1, 1), 2, example_inputs=tokens())
    with pytest.raises(ModelError, match=r"it is another network: its outputs .* are others.*architecture=\"given\""):
        owner.export(tmp_path / "package")
    assert not list(tmp_path.iterdir())
    exported(tmp_path, network, tokens(), emulator=2)  # where the code is there it can be sent


class _Counting(Chain):
    def get_extra_state(self) -> dict[str, int]:
        return {"n": 1}

    def set_extra_state(self, state: dict[str, int]) -> None: ...


@pytest.mark.filterwarnings("ignore:without distill_data")
def test_what_is_no_tensor_is_refused_by_name(tmp_path: Path) -> None:
    owner = OffsiteOwner(_Counting().eval(), (1, 1), 2, example_inputs=torch.rand(2, 4))
    with pytest.raises(ModelError, match="_extra_state are no tensors and cannot be sent"):
        owner.export(tmp_path / "package")


class _ByTheDay(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = vit()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x if x.mean() > 0 else -x)


@pytest.mark.filterwarnings("ignore:without distill_data")
def test_a_network_that_cannot_be_said_as_data_is_refused_with_what_to_do(tmp_path: Path) -> None:
    owner = OffsiteOwner(_ByTheDay().eval(), (1, 1), 2, example_inputs=images())
    with pytest.raises((ModelError, ValueError), match='architecture="given"'):
        owner.export(tmp_path / "package")
    assert not list(tmp_path.iterdir())
    owner.export(tmp_path / "package", architecture="given")
    package = OffsitePackage(tmp_path / "package")
    assert package.contents.emulator == ("inner.encoder.layers.encoder_layer_1", "inner.encoder.layers.encoder_layer_4")

"""Weights of one's own for an architecture by name: they are loaded whole, or refused with what differs."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model_handler import CorruptFileError, load_source
from model_handler.sources import UnknownSourceError

NAME = "torchvision/squeezenet1_1"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return load_source("timm/lcnet_035", pretrained=False).network.state_dict()


def test_an_architecture_gets_the_weights_of_a_file(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    save_file(state, tmp_path / "mine.safetensors")
    name = f"timm/lcnet_035={tmp_path / 'mine.safetensors'}"
    source = load_source(name)
    assert source.name == name
    assert all(torch.equal(tensor, state[key]) for key, tensor in source.network.state_dict().items())
    assert source.transform is not None


def test_the_last_layer_gets_as_many_classes_as_the_file_has(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    own = {key: tensor[:7].clone() if key.startswith("classifier.") else tensor for key, tensor in state.items()}
    save_file(own, tmp_path / "mine.safetensors")
    network = load_source(f"timm/lcnet_035={tmp_path / 'mine.safetensors'}").network
    assert torch.equal(network.classifier.weight, own["classifier.weight"])
    assert network.classifier.weight.shape[0] == 7


def test_a_file_that_does_not_fit_is_refused_with_the_names_of_the_tensors(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    own = {key: tensor for key, tensor in state.items() if key != "bn1.weight"}
    own |= {"other.weight": torch.zeros(1), "conv_stem.weight": torch.zeros(4, 3, 5, 5)}
    save_file(own, tmp_path / "mine.safetensors")
    message = (
        r"not those of 'timm/lcnet_035': it lacks bn1.weight; it has other.weight besides; conv_stem.weight is \(4"
    )
    with pytest.raises(ValueError, match=message):
        load_source(f"timm/lcnet_035={tmp_path / 'mine.safetensors'}")


def test_a_file_that_is_not_there_or_damaged_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnknownSourceError, match=r"there is no file 'mine.safetensors', of which"):
        load_source(f"{NAME}=mine.safetensors")
    (tmp_path / "mine.safetensors").write_text("no weights")
    with pytest.raises(CorruptFileError, match="are damaged"):
        load_source(f"{NAME}={tmp_path / 'mine.safetensors'}")
    with pytest.raises(UnknownSourceError, match=r"give both: 'torchvision/resnet50=mine.safetensors'"):
        load_source("mine.safetensors")

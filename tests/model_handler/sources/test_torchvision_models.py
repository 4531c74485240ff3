"""Weights of torchvision are read as tensors, whatever is in their file."""

from pathlib import Path

import pytest
import torch
from torchvision import models

from model_handler import UnsafeFileError, load_source
from model_handler.sources.cached_weights import file_of_checkpoint

NAME = "torchvision/squeezenet1_1"


class Harmful:
    def __reduce__(self) -> tuple:
        return print, ("this code ran",)


@pytest.fixture
def file(cache: Path) -> Path:
    """The file in the cache that the weights would be in."""
    file = file_of_checkpoint(models.SqueezeNet1_1_Weights.DEFAULT.url)
    file.parent.mkdir()
    return file


def test_a_pickle_in_the_cache_is_refused_and_never_run(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"features.0.weight": Harmful()}, file)
    with pytest.raises(UnsafeFileError, match=f"the weights of '{NAME}' are a pickle that asks for more"):
        load_source(NAME)
    assert "this code ran" not in capsys.readouterr().out


def test_weights_in_the_cache_are_taken_and_torchvisions_own_tags_stay(file: Path) -> None:
    expected = load_source(NAME, pretrained=False).network.state_dict()
    torch.save(expected, file)
    found = load_source(NAME).network.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert "get_state_dict" not in vars(models.SqueezeNet1_1_Weights.DEFAULT)

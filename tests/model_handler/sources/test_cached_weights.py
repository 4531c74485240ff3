"""Weights that would have to be fetched are known from those that are here, without fetching anything."""

from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file

from model_handler.sources import load_source
from model_handler.sources.cached_weights import cached_by_timm, missing_weights


@pytest.fixture(autouse=True)
def empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def put_into_hub_cache(folder: Path, repository: str, file: str) -> Path:
    """Make the place of a file in the cache of the Hub, as its client would."""
    root = folder / "hub" / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("abc")
    (root / "snapshots" / "abc").mkdir(parents=True)
    return root / "snapshots" / "abc" / file


def test_weights_of_torchvision_are_missing_until_they_are_in_its_checkpoints(tmp_path: Path) -> None:
    said = missing_weights("torchvision/squeezenet1_1")
    file = tmp_path / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    assert said == f"{file}, from https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth"
    file.parent.mkdir()
    file.touch()
    assert missing_weights("torchvision/squeezenet1_1") is None


def test_weights_of_timm_are_missing_until_they_are_in_the_cache_of_the_hub(tmp_path: Path) -> None:
    said = missing_weights("timm/lcnet_050")
    assert said == "model.safetensors of timm/lcnet_050.ra2_in1k on the Hugging Face Hub"
    assert cached_by_timm("lcnet_050") is None
    file = put_into_hub_cache(tmp_path, "timm/lcnet_050.ra2_in1k", "model.safetensors")
    file.touch()
    assert missing_weights("timm/lcnet_050") is None
    assert cached_by_timm("lcnet_050") == file


def test_what_the_cache_of_the_hub_has_is_loaded_without_asking_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    monkeypatch.setattr("timm.models._hub.hf_hub_download", refuse)
    state = load_source("timm/lcnet_050", pretrained=False).network.state_dict()
    save_file(state, put_into_hub_cache(tmp_path, "timm/lcnet_050.ra2_in1k", "model.safetensors"))
    loaded = load_source("timm/lcnet_050").network.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("name", ["efficientnet-lite0", "torchvision/mine", "timm/mine", "mine/mine", "", "a/"])
def test_nothing_is_missing_where_nothing_would_be_fetched(name: str) -> None:
    assert missing_weights(name) is None

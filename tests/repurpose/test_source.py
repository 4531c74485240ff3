from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from model_handler import Source
from model_handler.sources import SourceUnavailableError
from repurpose import LrRepurposer, source


def test_networks_are_described_by_class_and_size() -> None:
    assert source.describe_source(nn.Linear(2, 1)) == "Linear (3 parameters)"
    assert source.describe_source(nn.Linear(1000, 10)) == "Linear (10.0 k parameters)"
    assert source.describe_source(nn.Linear(3000, 1000)) == "Linear (3.0 M parameters)"
    assert source.describe_source("timm/vit") == "'timm/vit'"
    assert source.describe_source(Source(nn.Linear(2, 1))) == "Source(Linear (3 parameters))"
    assert source.describe_source(Source(nn.Linear(2, 1), name="mine")) == "Source('mine')"


def test_a_name_is_loaded_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def fake_load(name: str) -> Any:
        loaded.append(name)
        return Source(nn.Identity(), name=name)

    source._load_once.cache_clear()
    monkeypatch.setattr(source, "load_source", fake_load)
    assert source.open_source("a") is source.open_source("a")
    assert loaded == ["a"]
    source._load_once.cache_clear()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            nn.Linear,
            r"source_model must be .*, got the class Linear; call the class to make a network: Linear\(\.\.\.\)",
        ),
        (nn.Linear(2, 1).state_dict(), "got OrderedDict with the keys 'weight', 'bias'; weights are no network"),
        (Path("net.pt"), r"'net.pt' is not a source.*load_state_dict"),
    ],
)
def test_what_is_no_source_is_refused_with_what_to_do(value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        LrRepurposer(value).repurpose(np.eye(2), [0, 1])


def test_a_network_opens_as_itself() -> None:
    network = nn.Identity()
    assert source.open_source(network) is network


def test_weights_that_would_have_to_be_fetched_are_refused_before_that(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(name: str) -> Any:
        raise AssertionError(f"{name} was fetched")

    monkeypatch.setattr(source, "load_source", fetch)
    monkeypatch.setattr(source, "missing_weights", lambda name: f"the file of {name}")
    with pytest.raises(
        SourceUnavailableError, match=r"'mine' are not on this machine.*\(the file of mine\): load\(path"
    ):
        source.refuse_fetching("mine")
    assert not source.weights_are_here("mine")


def test_weights_that_cannot_be_read_are_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(name: str) -> Any:
        raise RuntimeError("PytorchStreamReader failed reading zip archive")

    source._load_once.cache_clear()
    monkeypatch.setattr(source, "load_source", damaged)
    monkeypatch.setattr(source, "missing_weights", lambda name: None)
    assert not source.weights_are_here("mine")
    source.refuse_fetching("mine")
    monkeypatch.setattr(source, "load_source", lambda name: Source(nn.Identity(), name=name))
    assert source.weights_are_here("mine")
    source._load_once.cache_clear()

"""Caches of the Hub and of torch that are empty at first, and a Hub that is out of reach."""

from pathlib import Path

import pytest
import torch


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of the Hub, which cannot be asked."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", out_of_reach)
    return tmp_path / "hub"


def out_of_reach(*_: object, **__: object) -> None:
    raise ConnectionError("no route")

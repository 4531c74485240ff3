"""Fixtures of the command line: images and what was trained on them, by a network that takes no time."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from model_handler.sources import loading
from tests.repurpose.cli.commands import run, tiny_source, write_images


@pytest.fixture(scope="package", autouse=True)
def _tiny() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(loading.LIBRARIES, "tiny", tiny_source)
        yield


@pytest.fixture(scope="package")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images of each of three colours, one sub-folder a class."""
    return write_images(tmp_path_factory.mktemp("photos") / "train", n_per_class=8, seed=0)


@pytest.fixture(scope="package")
def saved(photos: Path) -> Path:
    """What `train` saved."""
    result = run("train", photos, "--source", "tiny/net", "--out", photos.parent / "saved", "--holdout", 0)
    assert result.code == 0, result.text
    return photos.parent / "saved"

"""A model travels as its file and what no file holds, once, and a process loads it once."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from model_handler.errors import CorruptFileError, UnsafeFileError
from repurpose import LrRepurposer
from repurpose.deployment.predictor import saved_model
from tests.repurpose.deployment.models import NAMES, X, of_images, of_numbers
from tests.repurpose.examples import blobs

NEW = blobs(5, seed=1)[0]


@pytest.fixture
def loadings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is loaded from now on, in a process that keeps nothing yet."""
    found: list[Any] = []
    load = saved_model.load
    monkeypatch.setattr(saved_model, "load", lambda path, **options: found.append(path) or load(path, **options))
    monkeypatch.setattr(saved_model, "_kept", type(saved_model._kept)())
    return found


def test_a_process_loads_it_once_however_often_it_comes(loadings: list[Any]) -> None:
    sent = pickle.dumps(of_numbers().predictor())
    for _ in range(3):
        pickle.loads(sent)({"x": NEW})
    assert len(loadings) == 1
    same = pickle.dumps(of_numbers().predictor())
    pickle.loads(same)({"x": NEW})
    assert (len(loadings), same) == (1, sent)


def test_a_process_keeps_the_last_two_models(loadings: list[Any]) -> None:
    predictors = [of_numbers(c=c).predictor() for c in (0.1, 1.0, 10.0)]
    for number in (0, 1, 2, 2, 1, 0):
        predictors[number]({"x": NEW})
    assert len(loadings) == 4
    assert len(saved_model._kept) == 2


def test_functions_that_no_file_holds_go_along_and_keep_models_apart(loadings: list[Any]) -> None:
    first, second = (
        LrRepurposer(nn.Sequential(nn.Linear(4, 3)), ["0"], c=1.0, transform=transform)
        .repurpose((X, NAMES))
        .predictor()
        for transform in (_same, _other)
    )
    assert pickle.loads(pickle.dumps(first)).model.given["transform"] is _same
    for predictor in (first, second):
        predictor({"x": NEW})
    assert len(loadings) == 2


def _same(image: Any) -> Any:
    return image


def _other(image: Any) -> Any:
    return image


def test_a_network_is_pickled_once_and_the_size_is_told() -> None:
    network = nn.Sequential(nn.Linear(4, 1000), nn.ReLU(), nn.Linear(1000, 50))  # 55,050 numbers of 4 bytes
    predictor = LrRepurposer(network, ["2"], c=1.0).repurpose((X, NAMES)).predictor()
    size = len(pickle.dumps(predictor))
    assert 220_200 < predictor.model.n_bytes < size < 330_000
    assert size < predictor.model.n_bytes + 10_000
    assert f"{predictor.model.n_bytes / 1e6:.3g} MB a copy" in repr(predictor)


def test_a_model_at_a_path_does_not_travel_and_may_not_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    repurposer = of_images()
    predictor = repurposer.predictor(path="saved.zip")
    assert predictor.model.contents is None
    assert predictor.model.path == str(tmp_path / "saved.zip")
    assert predictor.model.n_bytes == 0
    assert "beside" in repr(predictor)
    of_numbers().save_repurposer(tmp_path / "saved.zip")
    with pytest.raises((CorruptFileError, UnsafeFileError), match=r"saved\.zip"):
        predictor({"image": np.zeros((1, 8, 8, 3), dtype=np.uint8)})

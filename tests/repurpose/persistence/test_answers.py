"""What is loaded answers every question as what was saved, bit for bit, in a new process too, and without a seed."""

import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from repurpose import load
from tests.repurpose.examples import blobs
from tests.repurpose.persistence.answering import answers, new_rows
from tests.saved import make

# Without those that differ from another in images, or in how they are saved.
NAMES = [name for name, _ in make.repurposers(make.empty_source()) if name != "lr_named" and name not in make.SAVED_BY]

SLOW = ("gp_svgp", "gp_kernel")
QUICK: dict[str, dict[str, Any]] = {"bnn": {"num_epochs": 2, "c": 1.0}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("saved")


@pytest.fixture(scope="module")
def answered(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """What each said before it was saved there, with the weights of its source."""
    torch.manual_seed(3)
    network = make.empty_source()
    rows, labels = blobs(24, seed=9)
    found = {}
    for name, repurposer in make.repurposers(network):
        if name in NAMES:
            repurposer.set_params(random_state=None, **QUICK.get(name, {}))
            with patch("repurpose.meta_model.gp.svgp._STEPS", 10):
                trained = make.learned(name, repurposer, rows, make.NAMES[labels])
            if name in SLOW or not hasattr(trained, "training_features_"):  # else folds are trained to judge by
                trained.conformalize(rows, make.NAMES[labels])
            trained.save_repurposer(folder / name, save_source_model=True)
            found[name] = answers(trained, new_rows())
            trained.save_repurposer(folder.with_name("asked") / name, save_source_model=True)
    return found


@pytest.fixture(scope="module")
def answered_elsewhere(folder: Path, answered: Any) -> Path:
    """Where a new process wrote what each says after it is loaded."""
    command = [sys.executable, "-m", "tests.repurpose.persistence.answering", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def assert_equal(found: Any, expected: dict[str, np.ndarray]) -> None:
    assert {*found} == {*expected}
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].tobytes() == np.ascontiguousarray(array).tobytes(), name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("when", ["saved before it was asked", "saved after it was asked"])
def test_a_loaded_one_gives_the_same_answers(folder: Path, answered: Any, name: str, when: str) -> None:
    where = folder if "before" in when else folder.with_name("asked")
    loaded = load(where / name, make.empty_source(), **make.ASKED_FOR.get(name, dict)())
    assert_equal(answers(loaded, new_rows()), answered[name])


@pytest.mark.parametrize("name", NAMES)
def test_a_new_process_gives_the_same_answers(answered_elsewhere: Path, answered: Any, name: str) -> None:
    assert_equal(np.load(answered_elsewhere / f"{name}.npz"), answered[name])


def test_there_is_an_answer_to_every_question(answered: Any) -> None:
    for question in answered["lr"]:
        assert any(said[question].dtype.kind != "U" or said[question].ndim for said in answered.values()), question

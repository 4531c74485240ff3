"""What an earlier version wrote is read by this one, with the answers that it gave then (`tests.saved.make`)."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from model_handler import Features
from repurpose import load
from tests.saved import make

FOLDERS = sorted(path for path in make.HERE.iterdir() if (path / "source.safetensors").is_file())
SAVED = [pytest.param(saved, id=f"{saved.parts[-3]}-{saved.parts[-2]}") for saved in make.HERE.glob("*/*/saved*")]
# Features, and what is computed from them in double precision, are as exact as the ten or so float32 numbers of each
# sum in the network; another processor sums in another order.
TOLERANCE = 100 * float(np.finfo(np.float32).eps)


def assert_answers(found: dict[str, np.ndarray], folder: Path) -> None:
    """All arrays of the folder, each number within the tolerance of the largest one."""
    assert sorted(found) == sorted(file.stem for file in folder.iterdir())
    for name, array in found.items():
        expected = np.load(folder / f"{name}.npy", allow_pickle=False)
        assert expected.shape == array.shape, name
        if expected.dtype.kind == "f":
            assert np.abs(array - expected).max() <= TOLERANCE * np.abs(expected).max(), name
        else:
            assert np.array_equal(array, expected), name


@pytest.mark.filterwarnings("ignore:.* was saved by an earlier version, without hashes")
@pytest.mark.parametrize("saved", sorted(SAVED, key=lambda each: each.id))
def test_a_saved_repurposer_answers_as_it_did(saved: Path) -> None:
    folder = saved.parent
    network = None if folder.name == "lr_named" else make.source(folder.parent)
    if folder.name == "lr_source_kept":
        network = make.empty_source()  # its weights are in the file
    again = make.ASKED_FOR.get(folder.name, dict)()
    rows = make.inputs(folder.name, np.load(folder.parent / "new_rows.npy"))
    assert_answers(make.answers(load(saved, network, **again), rows), folder / "answers")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_kind_that_a_version_saves_is_there(folder: Path) -> None:
    assert {file.parent.name for file in folder.glob("*/saved")} >= {"lr", "gp", "bnn", "neighbours", "ensemble"}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_saved_features_are_what_they_were(folder: Path) -> None:
    features, rows = Features.load(folder / "features.safetensors"), np.load(folder / "rows.npy")
    assert features.layer_names == ["2", "4"]
    assert np.array_equal(features.matrix, np.hstack([rows, rows[:, :2]]))
    assert np.array_equal(features.labels, np.load(folder / "labels.npy"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_training_goes_on_from_its_checkpoint(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "checkpoints", tmp_path / "checkpoints")
    epochs = []
    resumed = make.whole_network(
        make.source(folder),
        checkpoint_dir=tmp_path / "checkpoints",
        callbacks=[lambda state, record: epochs.append(record["epoch"])],
    )
    resumed.repurpose(np.load(folder / "rows.npy"), np.load(folder / "labels.npy"))
    assert epochs == [1]
    assert_answers(make.answers(resumed, np.load(folder / "new_rows.npy")), folder / "whole_network" / "answers")

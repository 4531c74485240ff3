"""Two processes train what one does with batches as large; what one of them meets, both know."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from repurpose import NeuralNetworkFineTuneRepurposer
from repurpose.training.processes import Alone
from tests.repurpose.examples import blobs, small_network
from tests.repurpose.training import crews

ROOT = Path(__file__).parents[3]
GOOD = list(crews.good(ROOT))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("crews")


@pytest.fixture(scope="module")
def one(folder):
    """What a single process gets."""
    return crews.everything(folder)


@pytest.fixture(scope="module")
def two(folder):
    """What each of two processes that `torchrun` started gets."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launched = subprocess.run(
        [*launcher, "-m", "tests.repurpose.training.crews", folder],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert launched.returncode == 0, launched.stderr[-3000:]
    return [pickle.loads((folder / f"{rank} of 2.pickle").read_bytes()) for rank in (0, 1)]


@pytest.mark.parametrize("name", GOOD)
def test_two_get_what_one_gets_with_batches_as_large_and_the_same_in_both(one, two, name):
    assert isinstance(one[name], dict), one[name]
    for seen in two:
        assert isinstance(seen[name], dict), seen[name]
        assert seen[name]["weights"].keys() == one[name]["weights"].keys()
        for key, weight in one[name]["weights"].items():
            np.testing.assert_allclose(seen[name]["weights"][key], weight, rtol=0, atol=1e-5)
            assert np.array_equal(seen[name]["weights"][key], two[0][name]["weights"][key])
        assert seen[name]["warnings"] == []


@pytest.mark.parametrize("name", GOOD)
def test_losses_accuracies_and_rates_are_those_of_all_rows(one, two, name):
    for seen in two:
        assert seen[name]["ending"] == one[name]["ending"]
        assert seen[name]["history"] == two[0][name]["history"]
        for mine, theirs in zip(seen[name]["history"], one[name]["history"], strict=True):
            assert mine.keys() == theirs.keys()
            for key, value in theirs.items():
                assert mine[key] == pytest.approx(value, abs=1e-5)


def test_training_moved_what_is_compared(one):
    for name in GOOD:
        if one[name]["history"]:
            before = crews.Network().state_dict()["second.weight"].numpy()
            assert np.abs(one[name]["weights"]["0.second.weight"] - before).max() > 1e-3, name


def test_normalisation_of_each_ones_own_rows_warns_once_and_buffers_are_equal(two):
    weights = [seen["normalisation"]["weights"] for seen in two]
    assert all(np.array_equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert [len(seen["normalisation"]["warnings"]) for seen in two] == [1, 0]
    assert "sync_norm=True" in two[0]["normalisation"]["warnings"][0]


@pytest.mark.parametrize("name", ["no seed", "a shuffling loader"])
def test_chance_is_the_same_in_both(two, name):
    weights = [seen[name]["weights"] for seen in two]
    assert all(np.array_equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_each_trains_by_itself_where_it_is_told_to(two):
    weights = [seen["alone"]["weights"] for seen in two]
    assert not np.array_equal(weights[0]["1.weight"], weights[1]["1.weight"])


def test_only_the_first_one_calls_back_and_writes(two):
    assert [seen["written"] for seen in two] == [[1, 1, 1], []]


@pytest.mark.parametrize(
    ("name", "kind", "text", "rank"),
    [
        ("an error of one", "RuntimeError", "no more of this", 1),
        ("an unreadable row of one", "OSError", "row 7 is gone", None),
        ("infinite", "DivergedError", "the inputs of this batch hold NaN or infinite numbers", None),
        ("infinite, sharded", "DivergedError", "the inputs of this batch hold NaN or infinite numbers", None),
        ("too few batches", "ValueError", "fewer batches than there are processes", 1),
        ("a directory", "FileExistsError", "cannot be written to", 0),
    ],
)
def test_the_error_of_one_is_raised_by_both(two, name, kind, text, rank):
    for seen in two:
        assert seen[name][0] == kind, seen[name]
        assert text in seen[name][1]
    noted = [bool(seen[name][2]) for seen in two]
    assert noted.count(True) == 1
    assert rank is None or not noted[rank]


def test_calls_that_differ_are_refused_with_the_difference(two):
    for seen in two:
        kind, text, _ = seen["other data"]
        assert kind == "ModelError"
        assert "- rows: 40 in process 0, 41 in process 1" in text


def test_alone_nothing_is_dealt_or_exchanged():
    alone, data = Alone(), object()
    assert alone.dealt(data) is data
    assert alone.planned(data) is data
    assert alone.told(lambda: data) is data
    assert alone.total(1, 2) == [1, 2]
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("value", ["dp", True, 2])
def test_a_way_that_there_is_none_of_is_refused(value):
    with pytest.raises(ValueError, match="distributed must be 'ddp', 'fsdp' or None"):
        NeuralNetworkFineTuneRepurposer(small_network(), "2", distributed=value).repurpose(*blobs())


def test_what_does_not_go_with_sharded_weights_is_refused_beforehand(tmp_path):
    options = {"distributed": "fsdp", "ema": 0.9, "probe_epochs": 1, "checkpoint_dir": tmp_path}
    with pytest.raises(ValueError, match=r"ema=0.9 does not go .*\nprobe_epochs=1 does not .*\ncheckpoint_dir="):
        NeuralNetworkFineTuneRepurposer(small_network(), "2", **options).repurpose(*blobs())


def test_of_sharded_weights_a_process_holds_its_half(two):
    assert two[0]["parts"][0]["0.first.weight"] == (4, 4)
    assert two[0]["parts"][-1]["1.weight"] == (2, 8)

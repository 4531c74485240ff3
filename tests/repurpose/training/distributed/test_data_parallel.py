"""Two processes train what one does with batches as large; what one of them meets, both know."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from model_handler.processes import Team
from repurpose import NeuralNetworkFineTuneRepurposer
from repurpose.training.distributed.data_parallel import DataParallelGroup
from tests.repurpose.examples import blobs, small_network
from tests.repurpose.training.distributed import torchrun_trainings as trainings

ROOT = Path(__file__).parents[4]
GOOD = list(trainings.good(ROOT))
FROZEN = list(trainings.with_frozen_part(ROOT))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("trainings")


@pytest.fixture(scope="module")
def one(folder):
    """What a single process gets."""
    return trainings.everything(folder)


@pytest.fixture(scope="module")
def two(folder):
    """What each of two processes that `torchrun` started gets."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launched = subprocess.run(
        [*launcher, "-m", "tests.repurpose.training.distributed.torchrun_trainings", folder],
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
        for found, expected in zip(seen[name]["history"], one[name]["history"], strict=True):
            assert found.keys() == expected.keys()
            for key, value in expected.items():
                assert found[key] == pytest.approx(value, abs=1e-5)


def test_training_moved_what_is_compared(one):
    for name in GOOD:
        if one[name]["history"]:
            before = trainings.Network().state_dict()["second.weight"].numpy()
            moved = np.abs(one[name]["weights"]["0.second.weight"] - before).max()
            losses = [record["loss"] for record in one[name]["history"]]
            assert moved > 1e-3 or losses[0] - losses[-1] > 1e-2, name  # the head alone has losses to show for it


@pytest.mark.parametrize("name", FROZEN)
def test_two_that_compute_the_frozen_part_once_get_what_two_get_without(one, two, name):
    for seen in (one, *two):
        kept, whole = seen[f"{name}, kept"], seen[f"{name}, whole"]
        for key, weight in whole["weights"].items():
            np.testing.assert_allclose(kept["weights"][key], weight, rtol=0, atol=1e-6)
        assert [len(kept["history"]), kept["ending"]] == [len(whole["history"]), whole["ending"]]
        assert set(whole["decisions"]) == {"the network is trained whole: cache_frozen=False"}
        assert kept["decisions"] == one[f"{name}, kept"]["decisions"]
        how = "without autograd for each batch" if "each batch" in name else "once: "
        assert all(f"is computed {how}" in decision for decision in kept["decisions"])
        assert len(kept["decisions"]) == (2 if "unfrozen" in name else 1)
        assert ("on disk" in kept["decisions"][0]) == ("on disk" in name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("no room in one", "there is no room for 2.21 kB in memory (full)"), ("sizes of one", "sizes")],
)
def test_what_one_has_against_caching_all_have(two, name, reason):
    for seen in two:
        (decision,) = seen[name]["decisions"]
        assert decision.endswith(f"is computed without autograd for each batch: {reason}")
        for key, weight in seen["the head, whole"]["weights"].items():
            np.testing.assert_allclose(seen[name]["weights"][key], weight, rtol=0, atol=1e-6)


def test_what_one_cannot_keep_none_is_made_to(two):
    for seen in two:
        kind, text, _ = seen["no room in one, wanted"]
        assert kind == "ValueError"
        assert text.startswith("cache_frozen=True cannot be: ")
        assert "(full)" in text


def test_the_least_memory_of_one_is_that_of_all(two):
    for seen in two:
        assert seen["little memory in one"]["decisions"][0].endswith("is computed once: 69 rows, 2.21 kB on disk")


def test_sharded_weights_are_trained_whole(two):
    for seen in two:
        assert seen["sharded, frozen"]["decisions"] == ["the network is trained whole: cache_frozen=False"]
        kind, text, _ = seen["sharded, wanted"]
        assert kind == "ModelError"
        assert "cache_frozen=True does not go with distributed='fsdp'" in text


def test_another_module_with_the_same_names_is_wrapped_anew(tmp_path):
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        process_group, modules = (
            DataParallelGroup(Team(), torch.device("cpu")),
            [torch.nn.Linear(2, 2) for _ in range(2)],
        )
        losses = []
        for module in (modules[0], modules[0], modules[1]):
            process_group.wrap(module, lambda module, inputs, targets: module(inputs).sum())
            losses.append(process_group.loss(torch.ones(1, 2), torch.zeros(1)).item())
        process_group.unwrap()
        assert losses == [module(torch.ones(1, 2)).sum().item() for module in (modules[0], modules[0], modules[1])]
    finally:
        torch.distributed.destroy_process_group()


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
        ("an unreadable row of one", "OSError", "row 8 is gone", None),
        ("an unreadable row of one, frozen", "OSError", "row 38 is gone", 1),
        ("a crash of one", "RuntimeError", "gone", 1),
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


def test_what_gets_no_gradient_is_refused_by_both(two):
    for seen in two:
        assert seen["a stand-in"][0] == seen["unused and named"][0] == "ModelError"
        assert "0.first.weight, 0.first.bias are to learn" in seen["a stand-in"][1]
        assert "learning_rates gives '0.spare' a rate" in seen["unused and named"][1]


def test_calls_that_differ_are_refused_with_the_difference(two):
    for seen in two:
        kind, text, _ = seen["other data"]
        assert kind == "ModelError"
        assert "- rows: 40 in process 0, 41 in process 1" in text


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

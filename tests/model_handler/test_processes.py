"""Two processes give each other what each computed: every row once, in order, and every error to both."""

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from model_handler import ModelHandler, processes
from model_handler.data import Batch
from model_handler.network import device
from model_handler.processes import teamed
from tests.model_handler import extractions
from tests.model_handler.extractions import Network, X

ROOT = Path(__file__).parents[2]
GOOD = list(extractions.good(ROOT))
ORDERS = "the processes read the data in different orders"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    extractions.write_images(folder / "images")
    return folder


@pytest.fixture(scope="module")
def single(folder):
    """What a single process sees."""
    return extractions.everything(folder / "images", 0)


@pytest.fixture(scope="module")
def two(folder):
    """What each of two processes that `torchrun` started sees."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launched = subprocess.run(
        [*launcher, "-m", "tests.model_handler.extractions", folder],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert launched.returncode == 0, launched.stderr[-3000:]
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in (0, 1)]


def assert_same(got, wanted):
    matrix, labels = got
    assert np.array_equal(matrix, wanted[0])
    assert np.array_equal(labels, wanted[1]) if labels is not None else wanted[1] is None


@pytest.mark.parametrize("name", GOOD)
def test_both_have_every_row_once_and_in_order_bit_for_bit(single, two, name):
    assert isinstance(single[name][0], np.ndarray), single[name]
    for seen in two:
        assert_same(seen[name], single[name])


def test_several_poolings_are_computed_by_two_in_one_pass(single, two):
    for seen in two:
        assert seen["poolings"].keys() == single["poolings"].keys()
        for pooling, wanted in single["poolings"].items():
            assert_same(seen["poolings"][pooling], wanted)


def test_what_one_has_kept_is_computed_by_both_where_the_other_has_not_and_by_none_where_both_have(single, two):
    alone, again = single["kept"]
    assert [n_rows for _, n_rows in alone + again] == [201, 0, 0, 0]
    wanted = alone[0][0]
    assert [n_rows for _, n_rows in two[0]["kept"][0]] == [201, 0]  # the first process, without the other
    together = [seen["kept"][-1] for seen in two]
    assert sum(first[1] for first, _ in together) == 201
    assert [second[1] for _, second in together] == [0, 0]
    assert all(np.array_equal(matrix, wanted) for outcomes in together for matrix, _ in outcomes)


def test_a_repurposer_learns_the_same_from_rows_computed_by_two(single, two):
    for seen in two:
        for got, wanted in zip(seen["a repurposer"], single["a repurposer"], strict=True):
            assert np.array_equal(got, wanted)


def test_each_reads_and_computes_its_own_batches_only(single, two):
    assert single["read"] == list(range(30))
    assert [seen["read"] for seen in two] == [[i for i in range(30) if i // 2 % 2 == rank] for rank in (0, 1)]
    assert [seen["computed"] for seen in two] == [16, 14]


def test_both_know_the_files_that_only_one_could_not_read(single, two):
    assert single["skipped"] == ["12.png", "04.png", "05.png", "20.png"]
    for seen in two:
        assert seen["skipped"] == single["skipped"]
        for got, wanted in zip(seen["twice"], single["twice"], strict=True):
            assert_same(got, wanted)


def test_both_draw_from_the_global_generator_what_one_would(single, two):
    assert all(torch.equal(seen["generator"], single["generator"]) for seen in two)


@pytest.mark.parametrize(
    ("name", "kind", "text", "rank"),
    [
        ("an image of the second batch", "UnreadableImageError", "04.png cannot be read", 1),
        ("a layer in the second batch", "ModelError", "layer 'check', Check(), failed on input of shape (1, 6)", 1),
        ("a transform on one process", "TypeError", "has no len()", 1),
        ("a file that one process lacks", "FileNotFoundError", "none.png", 1),
        ("a layer that one process lacks", "UnknownLayerError", "no layer is named 'c'", 1),
    ],
)
def test_the_error_of_one_is_raised_by_both(two, name, kind, text, rank):
    for number, seen in enumerate(two):
        assert seen[name][0] == kind
        assert text in seen[name][1]
        assert bool(seen[name][2]) == (number != rank)
    assert two[1 - rank][name][2] == [f"met by process {rank}, which computed another part of the rows"]


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("a shuffle of each one's own", "ModelError", ORDERS),
        ("a shuffle by global seeds", "ModelError", ORDERS),
        ("a shared-out sampler", "ModelError", ORDERS),
        ("a stream of each one's own", "ModelError", ORDERS),
        ("other data", "ModelError", "process 1: (['a', 'b'], ['flatten'], 'float32', 'Batches of X (9 rows)')"),
        ("no rows", "ValueError", "the dataset Stream is empty"),
        ("rows too many", "ValueError", "gives more rows than the 5 of its length"),
    ],
)
def test_what_cannot_be_put_together_is_refused_by_both(two, name, kind, text):
    for seen in two:
        assert seen[name][0] == kind
        assert text in seen[name][1]


def test_one_computes_alone_where_it_is_told_to(single, two):
    assert_same(two[0]["alone"], single["alone"])


def test_a_process_that_has_left_is_missed(two, folder):
    kind, text, _ = pickle.loads((folder / "left.pickle").read_bytes())
    assert kind == "ModelError"
    assert "process 0 of 2 waited in vain for the others. All of them must make the same call" in text


def launch(monkeypatch):
    variables = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_a_single_process_needs_no_accelerate(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert ModelHandler(Network()).extract(X, ["b"]).shape == (201, 4)


def test_processes_and_threads_of_a_launched_process_work_alone(monkeypatch):
    launch(monkeypatch)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    seen = []

    def see():
        with teamed(True) as team:
            seen.append(team)

    thread = threading.Thread(target=see)
    thread.start()
    thread.join()
    with monkeypatch.context() as patch:
        patch.setattr(device, "parent_process", lambda: "joblib's")
        see()
    with pytest.raises(ImportError):
        see()
    assert seen == [None, None]


def test_an_extraction_within_another_is_each_ones_own(monkeypatch):
    monkeypatch.setattr(processes, "_team", object)
    monkeypatch.setattr(processes, "_ended_together", lambda team: processes.nullcontext())
    with teamed(True) as outer, teamed(True) as inner, teamed(False) as unwanted:
        assert (type(outer), inner, unwanted) == (object, None, None)
    with teamed(True) as again:
        assert type(again) is object


def test_rows_that_a_process_hands_over_know_their_places() -> None:
    batch = Batch(torch.ones(2, 3), np.array([1, 0]), 2, places=np.array([5, 2]))
    (made,) = processes._interleaved([[processes._computed(batch, lambda given: [[given.inputs]])]])
    assert (made.places.tolist(), made.labels.tolist()) == ([5, 2], [1, 0])
    assert torch.equal(made.inputs[0][0], batch.inputs)

"""What several processes keep are the activations of all rows, dealt as the rows themselves would be."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from model_handler.data import Share
from repurpose.training.data.batches import TrainingBatch, TrainingBatches
from repurpose.training.distributed.sharded_batches import ShardedBatches
from repurpose.training.distributed.single_process import SingleProcess
from repurpose.training.frozen.activations import Activations
from repurpose.training.frozen.caching import cache_activations
from repurpose.training.frozen.row_reader import RowReader
from repurpose.training.plan.cache_options import CacheOptions
from tests.repurpose.training.examples import batches, rows

WANTED = CacheOptions(when=True)


class Thread(SingleProcess):
    """One of several threads that work as processes do, and meet at a barrier."""

    def __init__(self, index, barrier, board):
        self.share, self.barrier, self.board = Share(index, len(board)), barrier, board

    def shard(self, data):
        return ShardedBatches(data, self.share)

    def gather(self, find):
        self.board[self.share.index] = find()
        self.barrier.wait(20)
        answers = list(self.board)
        self.barrier.wait(20)
        return answers

    def all_reduce_sum(self, *values):
        return [sum(given) for given in zip(*self.gather(lambda: values))]

    def broadcast_parts(self, parts):
        parts = [list(part) for part in parts]
        given = self.gather(lambda: [piece.clone() for piece in parts[self.share.index]])
        for part, pieces in zip(parts, given, strict=True):
            for own, sent in zip(part, pieces, strict=True):
                own.copy_(sent)


class Doubling:
    """Stands for a frozen part: twice the inputs, and their sum as a whole number; counts the rows it has computed."""

    shapes, dtypes = ((4,), ()), (torch.float32, torch.int64)
    n_rows = 0

    def values(self, inputs, *, folded):
        self.n_rows += len(inputs)
        return inputs * 2, inputs.sum(dim=1).long()


def kept(n_processes, data, frontiers=None, *, options=None, memory=10**6, row_reader=RowReader):
    """What each of the threads gets of `cache_activations`; `data` makes batches, or several by name."""
    barrier, board = Barrier(n_processes), [None] * n_processes
    frontiers = frontiers or [Doubling() for _ in range(n_processes)]
    options = options or [WANTED] * n_processes

    def work(index):
        process_group, made = Thread(index, barrier, board), data()
        streams = made if isinstance(made, dict) else {"": made}
        readers = {name: row_reader(process_group.shard(stream)) for name, stream in streams.items()}
        return cache_activations(frontiers[index], readers, options[index], memory, process_group)

    with ThreadPoolExecutor(n_processes) as threads:
        return list(threads.map(work, range(n_processes)))


@pytest.mark.parametrize("n_processes", [1, 2, 3, 5])
@pytest.mark.parametrize("n_rows", [1, 2, 7, 26])
@pytest.mark.parametrize("memory", [0, 10**6])
def test_activations_are_dealt_as_their_rows_are(n_processes, n_rows, memory):
    def data():
        return batches((rows(26)[0][:n_rows], rows(26)[1][:n_rows]), batch_size=4)

    frontiers = [Doubling() for _ in range(n_processes)]
    for index, (streams, told) in enumerate(kept(n_processes, data, frontiers, memory=memory)):
        assert told.startswith(f"{n_rows} rows, ")
        found = streams[""]
        for epoch in (0, 3):
            wanted = ShardedBatches(data(), Share(index, n_processes)).epoch(epoch)
            for got, plain in zip(found.epoch(epoch), wanted, strict=True):
                assert torch.equal(got.inputs[0], plain.inputs * 2)
                assert torch.equal(got.inputs[1], plain.inputs.sum(dim=1).long())
                assert torch.equal(got.targets, plain.targets)
                assert got.zero_weight == plain.zero_weight
        found.activations.close()
    assert sum(frontier.n_rows for frontier in frontiers) == n_rows
    assert max(frontier.n_rows for frontier in frontiers) <= -(-n_rows // n_processes)


@pytest.mark.parametrize("n_processes", [1, 2, 3])
def test_rows_that_cannot_be_read_leave_the_others_in_their_places(n_processes):
    class Holes(RowReader):
        def read(self, numbers):
            for batch in super().read(numbers):
                readable = ~np.isin(batch.rows, (3, 11))
                inputs, targets = batch.inputs[readable], batch.targets[readable]
                yield replace(batch, inputs=inputs, targets=targets, rows=batch.rows[readable], n_rows=len(inputs))

    X, y = map(torch.from_numpy, rows(20))
    seen = []
    for streams, told in kept(n_processes, lambda: batches(rows(20), batch_size=4), row_reader=Holes):
        assert told.startswith("18 rows, ")
        for batch in streams[""].epoch(0):
            row_of = [int(np.flatnonzero((row == 2 * X).all(dim=1))[0]) for row in batch.inputs[0]]
            assert batch.targets.tolist() == y[row_of].tolist()
            seen += row_of if not batch.zero_weight else []
    assert sorted(seen) == [row for row in range(20) if row not in (3, 11)]


def test_no_room_in_one_is_no_room_in_any(tmp_path):
    there, nowhere = (replace(WANTED, directory=str(tmp_path / name)) for name in ("there", "nowhere"))
    (tmp_path / "there").mkdir()
    found = kept(3, lambda: batches(rows(20)), options=[there, nowhere, there], memory=0)
    assert [streams for streams, _ in found] == [{}, {}, {}]
    assert len({reason for _, reason in found}) == 1
    assert found[0][1].startswith("there is no room for 480 bytes on disk (")
    assert os.listdir(tmp_path / "there") == []


def test_rows_of_another_size_in_one_are_told_by_all_and_nothing_is_kept(monkeypatch):
    class Shorter(Doubling):
        def values(self, inputs, *, folded):
            return inputs[:, :3], inputs.sum(dim=1).long()

    closed, close = [], Activations.close
    monkeypatch.setattr(Activations, "close", lambda self: (closed.append(self), close(self)))
    found = kept(3, lambda: batches(rows(20)), [Doubling(), Doubling(), Shorter()])
    assert found == [({}, "rows differ in size: the frozen part gives (3,) after (4,)")] * 3
    assert len(closed) == 3


def test_what_is_sooner_computed_than_read_is_not_kept():
    quick = SimpleNamespace(shapes=((40,),), dtypes=(torch.float32,), n_flops=lambda inputs: 1599)
    options = [CacheOptions()]
    assert kept(1, lambda: batches(rows(20)), [quick], options=options) == [
        ({}, "reading 160 bytes a row (in memory) would take longer")
    ]


@pytest.mark.parametrize("n_processes", [1, 3])
def test_rows_and_targets_of_each_stream_are_its_own(n_processes):
    class WithoutLabels(TrainingBatches):
        def make_batch(self, batch):
            return TrainingBatch(batch.inputs, torch.full((batch.n_rows,), -1), batch.n_rows, batch.rows)

    def data():
        plain = batches(rows(7, seed=5), seed=1, batch_size=4)
        target = WithoutLabels(
            plain.data[0], plain.classes, rows=plain.rows, n_rows=7, max_batch_size=4, seed=1, batch_size=4
        )
        return {"source": batches(rows(26), batch_size=4), "target": target}

    frontiers = [Doubling() for _ in range(n_processes)]
    for index, (streams, told) in enumerate(kept(n_processes, data, frontiers)):
        assert told == "source: 26 rows, 624 bytes in memory; target: 7 rows, 168 bytes in memory"
        for name, plain in data().items():
            wanted = ShardedBatches(plain, Share(index, n_processes)).epoch(2)
            for got, batch in zip(streams[name].epoch(2), wanted, strict=True):
                assert torch.equal(got.inputs[0], batch.inputs * 2)
                assert torch.equal(got.targets, batch.targets)
                assert np.array_equal(got.targets == -1, [name == "target"] * got.n_rows)
    assert sum(frontier.n_rows for frontier in frontiers) == 26 + 7


def test_streams_share_the_memory_and_what_is_left_over_is_on_disk(tmp_path):
    def data():
        return {"source": batches(rows(20)), "long": batches(rows(30)), "target": batches(rows(5))}

    options = [replace(WANTED, directory=str(tmp_path))]
    ((streams, told),) = kept(1, data, options=options, memory=20 * 24 + 5 * 24)
    assert [part.rpartition(" ")[2] for part in told.split("; ")] == ["memory", "disk", "memory"]
    assert [stream.activations.n_bytes_in_memory for stream in streams.values()] == [480, 0, 120]


def test_no_room_for_one_stream_is_no_room_for_any(tmp_path, monkeypatch):
    closed, close = [], Activations.close
    monkeypatch.setattr(Activations, "close", lambda self: (closed.append(self.n_rows), close(self)))
    options = [replace(WANTED, directory=str(tmp_path / "nowhere"))]
    ((streams, told),) = kept(1, lambda: {"a": batches(rows(20)), "b": batches(rows(30))}, options=options, memory=500)
    assert streams == {}
    assert told.startswith("b: there is no room for 720 bytes on disk (")
    assert closed == [20]


def test_rows_of_one_stream_that_differ_in_size_close_all_of_them(monkeypatch):
    class Changing(Doubling):
        def values(self, inputs, *, folded):
            return super().values(inputs[:, : 4 if self.n_rows < 20 else 3], folded=folded)

    closed, close = [], Activations.close
    monkeypatch.setattr(Activations, "close", lambda self: (closed.append(self.n_rows), close(self)))
    found = kept(1, lambda: {"a": batches(rows(20)), "b": batches(rows(30))}, [Changing()])
    assert found == [({}, "b: rows differ in size: the frozen part gives (3,) after (4,)")]
    assert sorted(closed) == [20, 30]

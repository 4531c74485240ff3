"""The shares of several processes are the whole, each batch once; workers that each give all rows are noticed."""

import warnings

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, TensorDataset, get_worker_info

from model_handler.data import as_batches
from model_handler.data.batch import ALL, Share
from model_handler.data.process_shards import NOTHING, read_share

ROWS = TensorDataset(torch.arange(23))


class Stream(IterableDataset):
    def __init__(self, n_rows=23, offset=0):
        self.rows = range(offset, n_rows + offset)

    def __iter__(self):
        return iter(self.rows)


class Uneven(BatchSampler):
    """Batches of several sizes from a sampler that names one size."""

    def __iter__(self):
        yield from ([0, 1, 2, 3], [4], [5, 6], [7, 8, 9, 10])


LOADERS = {
    "plain": lambda: DataLoader(ROWS, batch_size=4),
    "drops the last": lambda: DataLoader(ROWS, batch_size=4, drop_last=True),
    "uneven": lambda: DataLoader(ROWS, batch_sampler=Uneven(range(23), 4, False)),
    "shuffled": lambda: DataLoader(ROWS, batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(1)),
    "a row at a time": lambda: DataLoader(ROWS, batch_size=None),
    "a stream": lambda: DataLoader(Stream(), batch_size=4),
    "a stream with a worker": lambda: DataLoader(Stream(), batch_size=4, num_workers=1),
    "one batch": lambda: DataLoader(ROWS, batch_size=30),
}


def flat(batch):
    return (batch[0] if isinstance(batch, (list, tuple)) else batch).reshape(-1).tolist()


@pytest.mark.parametrize("n_processes", [1, 2, 3, 5])
@pytest.mark.parametrize("name", LOADERS)
def test_one_of_each_share_in_turn_is_what_the_loader_gives(name, n_processes):
    expected = [flat(batch) for batch in LOADERS[name]()]
    shares = [
        [(batch, order) for batch, order in read_share(LOADERS[name](), Share(index, n_processes))]
        for index in range(n_processes)
    ]
    together = []
    for turn in range(max(map(len, shares))):
        present = [share[turn] for share in shares if turn < len(share)]
        assert len({order for _, order in present}) == 1
        together += [flat(batch) for batch, _ in present if batch is not NOTHING]
    assert together == expected


@pytest.mark.parametrize("loader", [DataLoader(ROWS, batch_size=4, shuffle=True), DataLoader(Stream(), batch_size=4)])
def test_the_whole_needs_no_checksum_and_leaves_the_loader_alone(loader):
    assert [order for _, order in read_share(loader, ALL)] == [0] * 6


def test_a_share_leaves_the_users_sampler_alone():
    loader = DataLoader(ROWS, batch_size=4, shuffle=True)
    list(read_share(loader, Share(1, 2)))
    assert loader.sampler.generator is None


@pytest.mark.parametrize(
    "others",
    [
        DataLoader(ROWS, batch_size=3),
        DataLoader(ROWS, batch_size=4, sampler=range(22, -1, -1)),
        DataLoader(Stream(offset=1), batch_size=4),
        DataLoader(Stream(24), batch_size=4),
    ],
)
def test_another_order_or_other_rows_have_another_checksum(others):
    loader_before = (
        DataLoader(Stream(), batch_size=4) if isinstance(others.dataset, Stream) else DataLoader(ROWS, batch_size=4)
    )
    ends = [list(read_share(loader, Share(0, 2)))[-1][1] for loader in (loader_before, others)]
    assert ends[0] != ends[1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.bool, torch.int8])
def test_every_dtype_and_structure_has_a_checksum(dtype):
    def orders(last):
        rows = [{"x": torch.ones(2, dtype=dtype), "y": (torch.zeros(()), "text", 1)}] * 3 + [{"x": last, "y": None}]
        loader = DataLoader(Stream(), batch_size=None)
        loader.dataset.rows = rows
        return [order for _, order in read_share(loader, Share(0, 2))]

    assert orders(torch.ones(2, dtype=dtype)) == orders(torch.ones(2, dtype=dtype))
    assert orders(torch.ones(2, dtype=dtype)) != orders(torch.zeros(2, dtype=dtype))


class TwelveRows(IterableDataset):
    """Twelve rows; a class of the module, so that workers can receive it."""

    def __init__(self, shared=False):
        self.shared = shared

    def __iter__(self):
        info = get_worker_info() if self.shared else None
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        return ((torch.full((2,), float(row)), row) for row in range(first, 12, step))


def test_rows_that_come_from_two_workers_are_told():
    with pytest.warns(
        UserWarning, match=r"DataLoader of TwelveRows .*several times.*get_worker_info\(\).*num_workers=1"
    ):
        assert sum(batch.n_rows for batch in as_batches(DataLoader(TwelveRows(), batch_size=4, num_workers=2))) == 24
    with pytest.warns(UserWarning, match="get_worker_info"):
        list(as_batches(TwelveRows(), num_workers=2, batch_size=20))


@pytest.mark.parametrize(("shared", "num_workers"), [(True, 2), (False, 1), (False, 0)])
def test_rows_that_come_once_are_not_suspected(shared, num_workers):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = list(as_batches(DataLoader(TwelveRows(shared), batch_size=4, num_workers=num_workers)))
    assert sorted(label for batch in read for label in batch.labels) == list(range(12))

"""Workers that each give all rows of a stream are noticed; those that share them out are not suspected."""

import warnings

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from model_handler.data import as_batches


class Stream(IterableDataset):
    """Twelve rows; a class of the module, so that workers can receive it."""

    def __init__(self, shared=False):
        self.shared = shared

    def __iter__(self):
        info = get_worker_info() if self.shared else None
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        return ((torch.full((2,), float(row)), row) for row in range(first, 12, step))


def test_rows_that_come_from_two_workers_are_told():
    with pytest.warns(UserWarning, match=r"DataLoader of Stream .*several times.*get_worker_info\(\).*num_workers=1"):
        assert sum(batch.n_rows for batch in as_batches(DataLoader(Stream(), batch_size=4, num_workers=2))) == 24
    with pytest.warns(UserWarning, match="get_worker_info"):
        list(as_batches(Stream(), num_workers=2, batch_size=20))


@pytest.mark.parametrize(("shared", "num_workers"), [(True, 2), (False, 1), (False, 0)])
def test_rows_that_come_once_are_not_suspected(shared, num_workers):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = list(as_batches(DataLoader(Stream(shared), batch_size=4, num_workers=num_workers)))
    assert sorted(label for batch in read for label in batch.labels) == list(range(12))

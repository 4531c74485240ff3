"""A loader that fails says which row is missing and what to do; what was raised there is the cause."""

import os
import time

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from model_handler.data import RowError, as_batches, data_name, watching_workers


class Failing(Dataset):
    """Row 7 of 12 fails in a way of its own; a class of the module, so that workers can receive it."""

    def __init__(self, how):
        self.how = how

    def __len__(self):
        return 12

    def __getitem__(self, row):
        if row == 7 and self.how == "raises":
            raise KeyError("no such file")
        if row == 7 and self.how == "dies":
            os._exit(1)
        if row == 7 and self.how == "sleeps":
            time.sleep(1)
        if row == 7 and self.how == "stops":
            next(iter(()))
        if row == 7 and self.how == "no memory":
            raise MemoryError
        return torch.zeros(2 if self.how != "ragged" or row < 7 else 3), row % 2


class InBulk(Failing):
    def __getitems__(self, idx):
        return list(map(self.__getitem__, idx))


class FailingStream(IterableDataset):
    def __iter__(self):
        yield from ((torch.zeros(2), row) for row in range(7))
        raise KeyError("no such file")


def read(data, **options):
    return list(as_batches(data, **options))


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("kind", [Failing, InBulk, FailingStream])
def test_the_row_that_cannot_be_read_is_named_with_its_error(kind, num_workers):
    dataset = kind() if kind is FailingStream else kind("raises")
    wanted = r"of the DataLoader of \w+ cannot be read: KeyError: 'no such file'"
    row = "row 7 " if kind is not FailingStream or not num_workers else "a row from number 6 on "
    with pytest.raises(KeyError, match=f"^{row}{wanted}$") as caught:
        read(DataLoader(dataset, batch_size=3, num_workers=num_workers))
    assert isinstance(caught.value.__cause__, KeyError)


def test_it_is_the_row_of_the_dataset_in_any_order():
    for loader in (
        DataLoader(Failing("raises"), batch_size=4, sampler=[9, 3, 7, 1]),
        DataLoader(Failing("raises"), batch_size=4, shuffle=True),
        DataLoader(Failing("raises"), batch_sampler=[[0, 1], [2, 7]]),
        DataLoader(Failing("raises"), batch_size=None, sampler=[7, 9]),
    ):
        with pytest.raises(KeyError, match="row 7 of"):
            read(loader)
    with pytest.raises(KeyError, match=r"row 7 of Failing cannot be read"):
        read(Failing("raises"), batch_size=5, rows=torch.tensor([3, 8, 7]).numpy())
    with pytest.raises(KeyError, match=r"row 7 of Failing cannot be read"):
        read(Failing("raises"), batch_size=5, num_workers=1)
    with pytest.raises(KeyError, match=r"row 3 of Subset cannot be read"):  # by its number in the subset
        read(Subset(Failing("raises"), [4, 5, 6, 7]), batch_size=4)


def test_a_worker_that_dies_is_told_with_the_first_row_that_is_missing():
    loader = DataLoader(Failing("dies"), batch_size=3, num_workers=1)
    with pytest.raises(RowError, match=r"worker process of the DataLoader of Failing died.*num_workers=0") as caught:
        read(loader)
    assert any(f"row {row} of its order" in str(caught.value) for row in (0, 3, 6))  # what was read may be lost too
    assert isinstance(caught.value.__cause__, (RuntimeError, ConnectionError, EOFError))  # as torch noticed it


class DyingTransform:
    def __call__(self, image):
        os._exit(1)


def test_a_worker_that_dies_over_an_image_is_told_too():
    pixels = [np.zeros((4, 4, 3), np.uint8)] * 2
    with pytest.raises(RowError, match="worker process of the list of images died, so row 0 of its order"):
        read(pixels, transform=DyingTransform(), num_workers=1)


def test_a_worker_that_takes_too_long_is_told():
    with pytest.raises(RowError, match=r"DataLoader of Failing gave no batch in time, so row [036] .*timeout"):
        read(DataLoader(Failing("sleeps"), batch_size=3, num_workers=1, timeout=0.3))


def test_a_worker_lost_while_something_else_is_done_is_told():
    lost = RuntimeError("DataLoader worker (pid 5) is killed by signal: Killed. Details are lost.")
    loader = DataLoader(TensorDataset(torch.zeros(4, 2)), batch_size=2)
    batches = as_batches(loader)
    next(iter(batches))
    with (
        pytest.raises(RowError, match=r"the DataLoader of TensorDataset died, so row 2 of its order"),
        batches.watched(),
    ):
        raise lost
    with pytest.raises(RowError, match="the list died, so rows are missing"), watching_workers(data_name([])):
        raise lost
    with pytest.raises(RuntimeError, match="something else"), watching_workers("X"):
        raise RuntimeError("something else")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_rows_of_several_lengths_ask_for_a_collate_fn(num_workers):
    with pytest.raises(RowError, match=r"rows 6 to 8 of the DataLoader of Failing differ in shape.*collate_fn"):
        read(DataLoader(Failing("ragged"), batch_size=3, num_workers=num_workers))
    with pytest.raises(ValueError, match=r"the shapes \(2,\) and \(3,\); pad them .*collate_fn"):
        read(Failing("ragged"), batch_size=3)


@pytest.mark.parametrize("labels", [[None] * 4, [1, None, 2, 3]])
def test_labels_that_are_none_are_told_what_to_be_instead(labels):
    rows = list(zip(torch.zeros(4, 2), labels))
    for data in (rows_of(rows), DataLoader(rows)):
        with pytest.raises((RuntimeError, TypeError), match=r"NoneType.*give items without one .* NaN, beside floats"):
            read(data, batch_size=4)


def rows_of(rows):
    """A dataset of these rows."""
    return torch.utils.data.ConcatDataset([rows])


def test_a_collate_fn_of_the_users_own_that_fails_is_told():
    def collate(items):
        raise ZeroDivisionError("of mine")

    with pytest.raises(ZeroDivisionError, match=r"rows 0 to 3 .* make no batch: ZeroDivisionError: of mine"):
        read(DataLoader(Failing(""), batch_size=4, collate_fn=collate))


def test_errors_that_take_more_than_a_message_become_one_of_ours():
    class Picky(Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, row):
            b"\xff".decode()

    with pytest.raises(RowError, match=r"row 0 of Picky cannot be read: UnicodeDecodeError: 'utf-8'") as caught:
        read(Picky())
    assert isinstance(caught.value.__cause__, UnicodeDecodeError)


def test_want_of_memory_and_what_is_no_rows_fault_pass():
    with pytest.raises(MemoryError):
        read(DataLoader(Failing("no memory"), batch_size=3))

    class Sampler(list):
        def __iter__(self):
            raise ZeroDivisionError("of the sampler")

    with pytest.raises(ZeroDivisionError, match="of the sampler"):
        read(DataLoader(Failing(""), sampler=Sampler([1, 2])))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_dataset_that_stops_before_its_last_row_loses_none_in_silence(num_workers):
    with pytest.raises(RowError, match=r"ended after 6 rows, 2 of its 4 batches, so row 6 .* raised StopIteration"):
        read(DataLoader(Failing("stops"), batch_size=3, num_workers=num_workers))
    with pytest.raises(RowError, match=r"^Failing ended after 0 rows"):
        read(Failing("stops"))


def test_a_collate_fn_may_leave_rows_out():
    loader = DataLoader(
        Failing("not at all"), batch_size=3, collate_fn=lambda rows: (torch.stack([x for x, _ in rows[:2]]),)
    )
    assert sum(batch.n_rows for batch in read(loader)) == 8


def test_a_loader_with_an_iteration_of_its_own_may_leave_batches_out():
    class Thinned(DataLoader):
        def __iter__(self):
            yield from list(super().__iter__())[::2]

    assert sum(batch.n_rows for batch in read(Thinned(Failing("not at all"), batch_size=3))) == 6

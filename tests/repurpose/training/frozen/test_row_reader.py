"""Rows are asked for by number, and it is noticed where they are not the same again."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, SubsetRandomSampler, TensorDataset

from repurpose.training.data.batches import TrainingBatches
from repurpose.training.data.seeding import drawing_from
from repurpose.training.frozen.row_reader import RowReader, why_rows_differ

X = torch.arange(24.0).view(12, 2)
Y = np.arange(12) % 3


def batches(data=(X, Y), rows=None, **options):
    return TrainingBatches(
        data,
        np.arange(3),
        rows=rows,
        n_rows=12,
        n_batches=3,
        max_batch_size=5,
        seed=options.pop("seed", 7),
        batch_size=5,
        **options,
    )


def loader(**options):
    return DataLoader(TensorDataset(X, torch.tensor(Y)), batch_size=5, **options)


class Noisy(Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, number):
        return X[number] + torch.rand(()), int(Y[number])


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(X[number], int(Y[number])) for number in range(12)])


def test_rows_are_read_by_their_numbers():
    for data, rows in (((X, Y), np.arange(12)), (loader(shuffle=True), None)):
        read = list(RowReader(batches(data, rows)).read(np.array([7, 2, 3, 11, 0, 5])))
        assert torch.equal(torch.cat([batch.inputs for batch in read]), X[[7, 2, 3, 11, 0, 5]])
        assert np.concatenate([batch.rows for batch in read]).tolist() == [7, 2, 3, 11, 0, 5]


@pytest.mark.parametrize("kind", ["array", "loader", "loader with a generator", "part of the rows"])
def test_places_come_in_the_order_in_which_the_rows_would(kind):
    def made():
        if kind == "array":
            return batches(rows=np.arange(12))
        if kind == "part of the rows":
            return batches(rows=np.array([1, 3, 4, 8, 9, 11]))
        generator = torch.Generator().manual_seed(3) if "generator" in kind else None
        return batches(loader(shuffle=True, generator=generator))

    plain, ours = made(), made()
    row_reader = RowReader(ours)
    place_of = np.full(12, -1)
    place_of[row_reader.numbers] = np.arange(len(row_reader.numbers))
    codes = Y[row_reader.numbers]
    for epoch in (0, 1):
        with drawing_from(epoch):
            wanted = [(batch.inputs, batch.targets) for batch in plain.epoch(epoch)]
        with drawing_from(epoch):
            got = [(batch.inputs, batch.targets) for batch in row_reader.places(epoch, place_of, codes).epoch(epoch)]
        assert len(got) == len(wanted)
        for (places, targets), (inputs, codes_wanted) in zip(got, wanted):
            assert torch.equal(X[row_reader.numbers[places]], inputs)
            assert torch.equal(targets, codes_wanted)


def test_rows_without_a_place_are_left_out():
    row_reader = RowReader(batches(rows=np.arange(12)))
    place_of = np.arange(12) - 1  # row 0 could not be read
    found = torch.cat([batch.inputs for batch in row_reader.places(0, place_of, Y[1:]).epoch(0)])
    assert sorted(found.tolist()) == list(range(11))


def test_a_subset_that_a_loader_draws_from_is_all_that_is_read():
    data = loader(sampler=SubsetRandomSampler([4, 1, 8]))
    assert RowReader(
        TrainingBatches(data, np.arange(3), rows=None, n_rows=3, n_batches=1, max_batch_size=5, seed=0, batch_size=5)
    ).numbers.tolist() == [1, 4, 8]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (DataLoader(Stream(), batch_size=5), "an IterableDataset, whose rows have no numbers"),
        (Stream(), "a stream, whose rows have no numbers"),
        (DataLoader([(X, torch.tensor(Y))], batch_size=None), "makes its own batches"),
        (DataLoader(TensorDataset(torch.zeros(40, 2), torch.zeros(40).long())), "12 of the 40 rows"),
    ],
)
def test_rows_that_cannot_be_asked_for_again_are_told(data, reason):
    with pytest.raises(ValueError, match=reason):
        RowReader(batches(data))


def test_data_that_stay_the_same_are_taken_as_such():
    for made in (batches(rows=np.arange(12)), batches(loader())):
        assert why_rows_differ(RowReader(made), made) == ""


def test_data_that_change_are_noticed_and_leave_chance_alone():
    before = torch.get_rng_state()
    for made in (batches(Noisy(), np.arange(12)), batches(DataLoader(Noisy(), batch_size=5))):
        assert why_rows_differ(RowReader(made), made) == "rows are not the same when they are read again, each alone"
    assert torch.equal(torch.get_rng_state(), before)


def test_augmentation_and_random_transforms_are_known_without_reading():
    from torchvision.transforms import v2

    made = batches(rows=np.arange(12), augment=lambda row: row)
    assert why_rows_differ(RowReader(made), made) == "augmentation draws anew each epoch"

    class Transformed(TensorDataset):
        transform = None

    data = Transformed(X, torch.tensor(Y))
    data.transform = v2.Compose([v2.Identity(), v2.RandomHorizontalFlip(0.01)])
    made = batches(data, np.arange(12))
    assert why_rows_differ(RowReader(made), made) == "RandomHorizontalFlip in the data draws anew each epoch"

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    TensorDataset,
)

from model_handler.data import ImageFolderData, as_batches, look_through, unmoved_generators

X = np.arange(20, dtype=np.float32).reshape(10, 2)
Y = np.arange(10) % 3


class Items(Dataset):
    def __init__(self) -> None:
        self.reads = 0

    def __len__(self) -> int:
        return 10

    def __getitem__(self, row: int) -> Any:
        self.reads += 1
        return torch.from_numpy(X[row]), int(Y[row])


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        yield from zip(torch.from_numpy(X), Y.tolist())


PAIRS = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))


@pytest.mark.parametrize(
    "data", [(X, Y), {"a": X, "labels": Y}, Items(), PAIRS], ids=["pair", "dict", "items", "pairs"]
)
def test_labels_rows_and_an_example_of_what_has_numbered_rows(data: Any) -> None:
    seen = look_through(data, batch_size=4)
    assert np.array_equal(seen.labels, Y)
    assert np.array_equal(seen.rows, np.arange(10))
    assert (seen.n_rows, seen.n_batches, seen.max_batch_size) == (10, 3, 4)
    example = seen.example["a"] if isinstance(seen.example, dict) else seen.example
    assert np.array_equal(example.numpy(), X[:2])


def test_a_subset_has_the_labels_of_its_rows() -> None:
    seen = look_through(Subset(PAIRS, [7, 3, 5]), batch_size=4)
    assert seen.labels.tolist() == Y[[7, 3, 5]].tolist()


@pytest.mark.parametrize("data", [DataLoader(Items(), batch_size=4), Stream()], ids=["loader", "stream"])
def test_what_has_an_order_of_its_own_is_read_through_once_and_has_no_numbers(data: Any) -> None:
    seen = look_through(data, batch_size=4)
    assert np.array_equal(seen.labels, Y)
    assert seen.rows is None
    assert (seen.n_rows, seen.n_batches, seen.max_batch_size) == (10, 3, 4)


def test_labels_beside_the_inputs_are_read_without_them() -> None:
    items = Items()
    look_through(items, batch_size=4)
    assert items.reads == 10
    assert look_through((X, Y), batch_size=4).n_rows == 10


def test_generators_of_a_loader_stay_as_they_were() -> None:
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(PAIRS, 4, shuffle=True, generator=generator)
    before = generator.get_state()
    look_through(loader, batch_size=4)
    assert torch.equal(generator.get_state(), before)


def test_data_without_labels_say_so() -> None:
    assert look_through(X, batch_size=4).labels is None


@pytest.mark.parametrize("data", [(X, Y), Items(), PAIRS], ids=["pair", "items", "pairs"])
def test_rows_come_in_the_order_asked_for_with_their_labels(data: Any) -> None:
    wanted = np.array([9, 0, 4, 4, 2])
    batches = list(as_batches(data, batch_size=2, rows=wanted))
    assert np.concatenate([batch.rows for batch in batches]).tolist() == wanted.tolist()
    assert np.array_equal(torch.cat([batch.inputs for batch in batches]).numpy(), X[wanted])
    assert np.concatenate([batch.labels for batch in batches]).tolist() == Y[wanted].tolist()


def test_rows_of_a_loader_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="a DataLoader come in its own order"):
        as_batches(DataLoader(PAIRS), rows=np.array([1]))


def test_files_keep_their_numbers_when_one_turns_out_unreadable(tmp_path: Path) -> None:
    from PIL import Image
    from torchvision.transforms import ToTensor

    for number in range(4):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (number * 50, 0, 0)).save(tmp_path / "ab"[number % 2] / f"{number}.png")
    (tmp_path / "a" / "0.png").write_bytes(b"broken")
    folder = ImageFolderData(tmp_path, on_error="skip")
    assert folder.rows.tolist() == [0, 1, 2, 3]
    with pytest.warns(UserWarning, match="1 of 4"):
        first = list(as_batches(folder, transform=ToTensor(), rows=np.array([3, 0, 1])))
    assert np.concatenate([batch.rows for batch in first]).tolist() == [3, 1]
    assert folder.rows.tolist() == [1, 2, 3]
    second = list(as_batches(folder, transform=ToTensor(), rows=np.array([3, 0, 1])))
    assert torch.equal(second[0].inputs, first[0].inputs)
    assert second[0].labels.tolist() == ["b", "a"]


def test_augmentation_is_done_to_each_row_and_to_an_image_before_its_transform() -> None:
    from torchvision.transforms import ToTensor
    from torchvision.transforms.functional import hflip

    pixels = np.random.RandomState(0).randint(0, 255, (3, 4, 6, 3)).astype(np.uint8)
    for data in (pixels, list(pixels)):
        (batch,) = as_batches(data, transform=ToTensor(), augment=hflip)
        expected = torch.from_numpy(pixels[:, :, ::-1].copy()).permute(0, 3, 1, 2) / 255
        torch.testing.assert_close(batch.inputs, expected)
    for data in ((X, Y), PAIRS, DataLoader(PAIRS, batch_size=4)):
        inputs = torch.cat([batch.inputs for batch in as_batches(data, batch_size=4, augment=torch.neg)])
        assert np.array_equal(inputs.numpy(), -X)


def test_augmentation_that_changes_the_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must keep the shape \(2,\) of a row"):
        list(as_batches(X, augment=lambda row: row[:1]))
    with pytest.raises(TypeError, match="inputs of several parts"):
        list(as_batches({"a": X}, augment=torch.neg))


def test_workers_draw_from_the_seed() -> None:
    class Drawing(Items):
        def __getitem__(self, row: int) -> Any:
            return torch.rand(2), int(Y[row])

    def drawn(seed: int) -> torch.Tensor:
        options = {"batch_size": 10, "num_workers": 1, "seed": seed}
        return next(iter(as_batches(Drawing(), **options))).inputs

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_generators_of_a_loader_are_put_back() -> None:
    pairs = TensorDataset(torch.arange(50.0), torch.arange(50))
    generator = torch.Generator().manual_seed(1)
    for loader in (
        DataLoader(pairs, 10, shuffle=True, generator=generator),
        DataLoader(pairs, 10, sampler=RandomSampler(pairs, generator=generator)),
        DataLoader(pairs, batch_sampler=BatchSampler(RandomSampler(pairs, generator=generator), 10, drop_last=False)),
    ):
        before = generator.get_state()
        with unmoved_generators(loader):
            assert len(list(loader)) == 5
            assert not torch.equal(generator.get_state(), before)
        assert torch.equal(generator.get_state(), before)

"""The reader of rows of training data by their numbers, and whether rows are the same each time they are read.

Rows of most data have numbers; those of a `DataLoader` are the indices of its dataset, and its sampler gives their
order in each epoch without loading anything. A stream has none.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SubsetRandomSampler

from model_handler.data import Batch, random_part
from model_handler.network.outputs import tensors_in
from repurpose.training.data.batches import BatchSource, TrainingBatch, TrainingBatches
from repurpose.training.data.seeding import drawing_from

__all__ = ["RowReader", "checksum_of_rows", "checksums_of_streams", "why_rows_differ"]

_N_COMPARED = 16


class RowReader:
    """The rows of `batches` by number: `numbers` is all that an epoch may ask for.

    Raises ValueError, saying why, where rows cannot be asked for again.
    """

    def __init__(self, batches: TrainingBatches) -> None:
        self.batches = batches
        self._loader = batches.data if isinstance(batches.data, DataLoader) else None
        if self._loader is not None:
            self.numbers = _numbers_of(self._loader, batches.n_rows)
        elif batches.rows is not None:
            self.numbers = np.asarray(batches.rows)
        else:
            raise ValueError("the data is a stream, whose rows have no numbers")

    def read(self, numbers: np.ndarray, batch_size: int | None = None) -> Iterator[TrainingBatch]:
        """Yield the rows of these numbers, in batches, without augmentation; unreadable ones may be left out.

        The batches of a loader are as large as its own, or of `batch_size`. Raises ValueError where it gives more or
        fewer rows than it is asked for.
        """
        start, size = 0, self._batch_size if batch_size is None else batch_size
        for batch in self._again(numbers, size).epoch(0):
            if batch.rows is None:
                rows = numbers[start : start + size]
                if len(rows) != batch.n_rows:
                    raise ValueError("the DataLoader gives other rows than it is asked for")
                batch, start = replace(batch, rows=rows), start + size
            yield batch

    def sizes(self) -> list[tuple[int, ...]]:
        """Return the shape that each part of the inputs has in a row."""
        first = next(self.read(self.numbers[:1]))
        return [tuple(part.shape[1:]) for part in tensors_in(first.inputs)]

    def places(self, epoch: int, place_of: np.ndarray, codes: np.ndarray) -> TrainingBatches:
        """Make the batches of one epoch, whose inputs are the places of their rows, by number in `place_of`.

        A row without a place (-1) is left out. `codes` are the targets of the rows by their places.
        """
        if self._loader is not None:
            # the loader's own sampler and generator: epochs come in the order that they would have without the cache
            data: Any = DataLoader(
                _Places(place_of, codes), batch_sampler=self._loader.batch_sampler, generator=self._loader.generator
            )
            return self._of_places(data, None, self.batches.n_rows)
        places = place_of[self.batches.order(epoch)]
        places = places[places >= 0]
        return self._of_places((np.arange(len(codes)), codes), places, len(places))

    @property
    def _batch_size(self) -> int:
        own = None if self._loader is None else self._loader.batch_size
        return own or self.batches.batch_size

    def _again(self, numbers: np.ndarray, batch_size: int) -> TrainingBatches:
        data: Any = self.batches.data
        if self._loader is not None:
            data = DataLoader(
                self._loader.dataset,
                sampler=numbers.tolist(),
                batch_size=batch_size,
                num_workers=self._loader.num_workers,
                collate_fn=self._loader.collate_fn,
                worker_init_fn=self._loader.worker_init_fn,
                generator=torch.Generator(),  # the loader draws a seed: not from the generator of the training
            )
        options = {name: value for name, value in self.batches.options.items() if name != "augment"}
        rows = None if self._loader is not None else numbers
        return self.batches.of(data, rows=rows, n_rows=len(numbers), options=options)

    def _of_places(self, data: Any, rows: np.ndarray | None, n_rows: int) -> TrainingBatches:
        return _PlaceBatches(
            data,
            self.batches.classes,
            rows=rows,
            n_rows=n_rows,
            n_batches=self.batches.n_batches,
            max_batch_size=self.batches.max_batch_size,
            seed=None,
            batch_size=self.batches.batch_size,
        )


class _PlaceBatches(TrainingBatches):
    """Batches of places, with their targets as they are."""

    def make_batch(self, batch: Batch) -> TrainingBatch:
        """Take the targets for what they are: they were made of labels when the rows were read."""
        targets = torch.from_numpy(np.asarray(batch.labels, dtype=np.int64))
        return TrainingBatch(batch.inputs, targets, batch.n_rows, batch.rows)


class _Places(Dataset):
    """The places and targets of rows, in the place of a dataset that loads them."""

    def __init__(self, place_of: np.ndarray, codes: np.ndarray) -> None:
        self.place_of, self.codes = place_of, codes

    def __len__(self) -> int:
        return len(self.place_of)

    def __getitem__(self, number: int) -> tuple[int, int]:
        place = int(self.place_of[number])
        return place, int(self.codes[place])


def why_rows_differ(row_reader: RowReader, batches: TrainingBatches) -> str:
    """Say why rows may be others each time they are read; "" where nothing speaks for it.

    Some are read twice, of a loader in batches and then each alone, as a `collate_fn` may fill rows up to the longest.
    Transforms of random kinds are looked for by their names, as they may spare these. Raises ValueError where rows
    cannot be read so.
    """
    if batches.why_unlike:
        return batches.why_unlike
    if batches.options.get("augment") is not None:
        return "augmentation draws anew each epoch"
    if name := random_part((batches.data, batches.options.get("transform"))):
        return f"{name} in the data draws anew each epoch"
    readings = [_sample_rows(row_reader, seed, batch_size) for seed, batch_size in ((0, None), (1, 1))]
    if not all(map(_is_code, (target for _, target in readings[0]))):
        return "targets are of another kind than int64 (n_rows,)"
    return "" if _equal_tensors(*readings) else "rows are not the same when they are read again, each alone"


def checksums_of_streams(what: str, batches: BatchSource) -> dict[str, str]:
    """Compute the checksum of some rows of each stream that batches are made of, by what it is of."""
    streams = batches.streams.items()
    return {f"{what} of {name}" if name else what: checksum_of_rows(stream) for name, stream in streams}


def checksum_of_rows(batches: TrainingBatches) -> str:
    """Compute a checksum of some rows before augmentation, to tell other inputs; "" if rows cannot be read again."""
    try:
        row_reader = RowReader(batches)
        readings = [_sample_rows(row_reader, 0, None) for _ in range(2)]
    except ValueError:
        return ""
    checksums = set()
    for rows in readings:
        checksum = sha256()
        for inputs, _ in rows:
            for part in tensors_in(inputs):
                checksum.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        checksums.add(f"SHA-256 {checksum.hexdigest()}")
    return checksums.pop() if len(checksums) == 1 else ""


def _numbers_of(loader: DataLoader, n_rows: int) -> np.ndarray:
    if isinstance(loader.dataset, IterableDataset):
        raise ValueError("the data is an IterableDataset, whose rows have no numbers")
    if loader.batch_sampler is None:
        raise ValueError("the dataset makes its own batches, whose rows have no numbers")
    sampler = getattr(loader.batch_sampler, "sampler", None)
    if type(loader.batch_sampler) is BatchSampler and isinstance(sampler, SubsetRandomSampler):
        return np.unique(np.asarray(sampler.indices, dtype=np.int64))
    if 2 * n_rows < len(loader.dataset):  # type: ignore[arg-type]
        raise ValueError(f"an epoch has {n_rows} of the {len(loader.dataset)} rows of the dataset")  # type: ignore[arg-type]
    return np.arange(len(loader.dataset))  # type: ignore[arg-type]


def _sample_rows(row_reader: RowReader, seed: int, batch_size: int | None) -> tuple[Any, ...]:
    """Return inputs and targets of rows from all over the data, with all random draws from one seed.

    Raises ValueError with what the data raise.
    """
    spread = np.unique(np.linspace(0, len(row_reader.numbers) - 1, _N_COMPARED).astype(np.int64))
    try:
        with drawing_from(seed):
            read = list(row_reader.read(row_reader.numbers[spread], batch_size))
    except Exception as error:  # of a dataset or a `collate_fn`; its own batches may be well
        raise ValueError(f"rows cannot be read by their numbers: {error}") from error
    return tuple((row.inputs, row.targets) for batch in read for row in batch.pieces(1))


def _is_code(target: object) -> bool:
    """Return whether the targets of one row are a single whole number."""
    return isinstance(target, Tensor) and target.dtype == torch.int64 and target.shape == (1,)


def _equal_tensors(first: object, second: object) -> bool:
    """Return whether two tensors, or nested tuples and dicts of tensors, are equal."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(_equal_tensors(first[key], second[key]) for key in first)
    if isinstance(first, tuple) and isinstance(second, tuple):
        return len(first) == len(second) and all(map(_equal_tensors, first, second))
    return isinstance(first, Tensor) and isinstance(second, Tensor) and torch.equal(first, second)

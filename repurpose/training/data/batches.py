"""Batches for training are made of labelled data of every kind, reshuffled each epoch by a seed, all rows each time.

Reading the data is `model_handler.data`'s. A DataLoader keeps its own batches and its own order.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from model_handler.data import Batch, as_batches, generators_of
from repurpose.data.folds import deal_share
from repurpose.data.labels import label_array, label_codes
from repurpose.data.padding import equally_long, without_padding_alone
from repurpose.training.data.pieces import bounds_of_pieces, rows_of
from repurpose.training.data.seeding import SeedPurpose, seed_of

__all__ = ["BatchSource", "EpochBatches", "TrainingBatch", "TrainingBatches", "n_batches_of", "split_rows"]


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """Some rows: `inputs` (a tensor, or several), `targets`, codes of shape (n_rows,), and their numbers in the data.

    `rows` is None where the data has an order of its own. After mixing, `targets` are shares (n_rows, n_outputs). What
    a `BatchSource` of a method makes may be anything that its objective understands, cut by rows in `pieces`.
    A `zero_weight` batch adds nothing to losses and gradients: a process without rows computes with one, as all
    take part in each step.
    """

    inputs: Any
    targets: Any
    n_rows: int
    rows: np.ndarray | None = None
    zero_weight: bool = False

    def pieces(self, size: int | None) -> "list[TrainingBatch]":
        """Cut the batch into as few batches of at most `size` rows as can be; None leaves it whole."""
        bounds = bounds_of_pieces(self.n_rows, size)
        return [self] if len(bounds) == 1 else [self._rows(rows) for rows in bounds]

    def _rows(self, rows: slice) -> "TrainingBatch":
        return replace(
            self,
            inputs=rows_of(self.inputs, rows),
            targets=rows_of(self.targets, rows),
            n_rows=rows.stop - rows.start,
            rows=None if self.rows is None else self.rows[rows],
        )


class EpochBatches(Protocol):
    """An object that gives the batches of each epoch."""

    def epoch(self, number: int) -> Iterator[TrainingBatch]:
        """Give the batches of one epoch, from 0."""


class BatchSource(ABC):
    """What makes the batches of a training out of one or several streams of labelled data.

    A method that trains on several streams at once (source and target data, say) derives a class from this one, whose
    `epoch` puts a batch of each stream into one `TrainingBatch`. All else the training does with the streams: it
    describes them to checkpoints, and deals them to processes, for which it asks for the same source of other streams.

    Parameters
    ----------
    streams : dict of str to TrainingBatches
        At least one. Raises TypeError for anything else.

    Attributes
    ----------
    n_rows, n_batches, max_batch_size : int
        How many rows and batches an epoch has, and how many rows the largest batch: those of the first stream, unless a
        derived class sets others in its `__init__`. Schedules go by `n_batches`.
    rows_are_unchanged : bool
        Whether each batch is rows of the streams, as these give them, put together for one call of the network. What a
        frozen part computes of each row may then stand in the place of its inputs.
    """

    n_rows: int
    n_batches: int
    max_batch_size: int
    rows_are_unchanged: bool = False

    def __init__(self, streams: "Mapping[str, TrainingBatches]") -> None:
        given = streams if isinstance(streams, Mapping) else {}
        if not given or any(not isinstance(stream, TrainingBatches) for stream in given.values()):
            kinds = {name: type(stream).__name__ for name, stream in given.items()}
            got = kinds if isinstance(streams, Mapping) else type(streams).__name__
            raise TypeError(f"{type(self).__name__} needs a dict of one or several TrainingBatches, got {got}")
        self._streams = dict(streams)
        first = next(iter(self._streams.values()))
        self.n_rows = first.n_rows
        self.n_batches = first.n_batches
        self.max_batch_size = first.max_batch_size

    @property
    def streams(self) -> "Mapping[str, TrainingBatches]":
        """The streams of data that the batches are made of."""
        return self._streams

    @abstractmethod
    def epoch(self, number: int) -> Iterator[TrainingBatch]:
        """Give the batches of one epoch, from 0; the same number gives the same batches."""

    def with_streams(self, streams: "Mapping[str, TrainingBatches]") -> "BatchSource":
        """Make the same of other streams of these names, such as the parts of them that one process reads.

        A class whose `__init__` takes more than the streams overrides this.
        """
        return type(self)(streams)

    def describe(self) -> dict[str, object]:
        """Name what must be the same when a training is resumed."""
        described = {name: stream.describe() for name, stream in self.streams.items()}
        of_streams = {f"{key} of {name}": value for name, found in described.items() for key, value in found.items()}
        return {"batches": type(self), **of_streams}

    def state_dict(self) -> dict[str, Any]:
        """Return what the streams have reached, as a checkpoint keeps it."""
        return {name: stream.state_dict() for name, stream in self.streams.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set what `state_dict` returned, in place."""
        for name, stream in self.streams.items():
            stream.load_state_dict(state[name])


class TrainingBatches(BatchSource):
    """The batches of each epoch, given by `epoch(number)`; the same number gives the same batches.

    Parameters
    ----------
    data : any kind that `as_batches` takes
    classes : ndarray of shape (n_classes,)
        What the codes of targets stand for.
    rows : int array or None
        The numbers of the rows to train on; None for data in an order of its own, and for all.
    n_rows, n_batches, max_batch_size : int
        How many there are in an epoch, and rows in the largest batch; rows with numbers tell how many batches.
    seed : int or None
        The seed of the shuffling; None leaves the order as it is, for validation.
    batch_size : int
    labels : str
        A checksum of the labels, by which a checkpoint knows the data.
    **options
        Further ones of `as_batches`.

    Attributes
    ----------
    why_unlike : str
        Why a row is not the same in each epoch, or in a batch of other rows, where that is known without reading any:
        what a frozen part gives for it is then not kept. "" otherwise.
    """

    rows_are_unchanged = True
    why_unlike: str = ""

    def __init__(
        self,
        data: Any,
        classes: np.ndarray,
        *,
        rows: np.ndarray | None,
        n_rows: int,
        n_batches: int = 0,
        max_batch_size: int,
        seed: int | None,
        batch_size: int,
        labels: str = "",
        **options: Any,
    ) -> None:
        self.data = data
        self.classes = classes
        self.rows = rows
        self.n_rows = n_rows
        self.max_batch_size = max_batch_size
        self.n_batches = n_batches if rows is None else n_batches_of(n_rows, batch_size)
        self.seed = seed
        self.batch_size = batch_size
        self.labels = labels
        self.options = options

    @property
    def streams(self) -> "dict[str, TrainingBatches]":
        """The batches themselves."""
        return {"": self}

    def with_streams(self, streams: "Mapping[str, TrainingBatches]") -> "TrainingBatches":
        """Take the one stream that is given."""
        return streams[""]

    def describe(self) -> dict[str, object]:
        """Name classes, rows, labels and how rows are read; not the workers, which change nothing."""
        options = {name: value for name, value in self.options.items() if name not in ("num_workers", "pin_memory")}
        return {
            "classes": self.classes,
            "rows": self.n_rows,
            "labels": self.labels,
            "batches": f"{self.n_batches} an epoch, of up to {self.max_batch_size} rows",
            **{f"data, {name}": value for name, value in options.items()},
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the states of a DataLoader's generators; all else depends on the seed and the number of the epoch."""
        return {"generators": [generator.get_state() for generator in generators_of(self.data)]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set the generators, in place."""
        for generator, own in zip(generators_of(self.data), state["generators"], strict=True):
            generator.set_state(own)

    def epoch(self, number: int) -> Iterator[TrainingBatch]:
        """Give the batches of one epoch.

        Raises ValueError for labels that are not among the classes, for a text that is padding alone, and for no row.
        """
        options: dict[str, Any] = {"batch_size": self.batch_size, "rows": self.order(number), **self.options}
        if self.seed is not None:
            options["seed"] = seed_of(self.seed, SeedPurpose.WORKERS, number)
        batches = iter(as_batches(self.data, **options))
        kept = batches if self.rows is None or self.batch_size == 1 else _without_single_rows(batches)
        for batch in without_padding_alone(kept):
            yield self.make_batch(batch)

    def order(self, number: int) -> np.ndarray | None:
        """Return the numbers of the rows in the order of an epoch; None where the data has an order of its own."""
        if self.rows is None or self.seed is None:
            return self.rows
        generator = torch.Generator().manual_seed(seed_of(self.seed, SeedPurpose.SHUFFLING, number))
        return self.rows[torch.randperm(len(self.rows), generator=generator, device="cpu").numpy()]

    def of(self, data: Any, *, rows: np.ndarray | None, n_rows: int, options: Mapping[str, Any]) -> "TrainingBatches":
        """Make batches as large as these, with targets of the same kind, out of other data in its order."""
        return _InOrder(
            self,
            data,
            self.classes,
            rows=rows,
            n_rows=n_rows,
            n_batches=self.n_batches,
            max_batch_size=self.max_batch_size,
            seed=None,
            batch_size=self.batch_size,
            **options,
        )

    def make_batch(self, batch: Batch) -> TrainingBatch:
        """Make a batch to train on of one that was read: here, codes of classes of its labels.

        A stream with targets of another kind overrides this. Where they are int64 (n_rows,) the frozen part is cached,
        and each row's target with it: one whose targets change as it learns sets `rows_are_unchanged` to False.
        What is read as labels are numbers or texts. Targets that are no array, such as the boxes of an image, are
        looked up by the numbers of the rows, ``[self.boxes[row] for row in batch.rows]``, or are among the inputs; data
        without labels have `labels` None.
        """
        if batch.labels is None:
            raise ValueError("training needs one label a row, and a batch of the data has none")
        codes, unseen_labels = label_codes(label_array(batch.labels), self.classes)
        if unseen_labels:
            unseen, known = (
                ", ".join(map(repr, labels[:5])) for labels in (list(unseen_labels), self.classes.tolist())
            )
            raise ValueError(
                f"labels that are not among the classes: {unseen}; the first pass over the training data had {known}. "
                "Leave such rows out, or see that every class is in each pass (a sampler may miss one)"
            )
        return TrainingBatch(batch.inputs, torch.from_numpy(codes), batch.n_rows, batch.rows)


class _InOrder(TrainingBatches):
    """Batches of data in its order, whatever order of their own those have that make their targets."""

    def __init__(self, made_by: TrainingBatches, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._made_by = made_by

    def make_batch(self, batch: Batch) -> TrainingBatch:
        """Make a batch as the others do."""
        return self._made_by.make_batch(batch)


def n_batches_of(n_rows: int, batch_size: int) -> int:
    """Count the batches that rows with numbers make: a last row alone joins the batch before it."""
    n_whole, left = divmod(n_rows, batch_size)
    return max(1, n_whole + (left > 1))


def split_rows(
    codes: np.ndarray, fraction: float, seed: int, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draw indices to train on and to validate by, stratified by class; every class keeps one row to train on.

    Rows of one of the `groups` (n_rows,) are all among the one or the other. Raises ValueError if no row would be left
    for validation.
    """
    validation = deal_share(codes, fraction, np.random.RandomState(seed % 2**32), groups)
    if not len(validation):
        of_groups = "" if groups is None else f" in {len(np.unique(groups))} groups"
        raise ValueError(
            f"validation_fraction={fraction:g} of {len(codes)} rows{of_groups} leaves none for validation; raise it, "
            "or give validation_data"
        )
    return np.setdiff1d(np.arange(len(codes)), validation), validation


def _without_single_rows(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Join a last batch of one row, for which BatchNorm has no statistics, to the one before it."""
    held = next(batches, None)
    for batch in batches:
        if held is not None:
            if batch.n_rows == 1:
                held = _joined(held, batch)
                continue
            yield held
        held = batch
    if held is not None:
        yield held


def _joined(first: Batch, second: Batch) -> Batch:
    join: Callable[[Any, Any], Any] = lambda a, b: torch.cat([a, b])  # noqa: E731
    if isinstance(first.inputs, dict):
        one, other = equally_long([first.inputs, second.inputs])
        inputs: Any = {name: join(one[name], other[name]) for name in one}
    elif isinstance(first.inputs, tuple):
        inputs = tuple(join(a, b) for a, b in zip(first.inputs, second.inputs))
    else:
        inputs = join(first.inputs, second.inputs)
    labels = None if first.labels is None else np.concatenate([first.labels, second.labels])
    rows = None if first.rows is None else np.concatenate([first.rows, second.rows])
    return Batch(inputs, labels, first.n_rows + second.n_rows, rows=rows)

"""Batches of two domains: rows of each source domain and of the target in step, as one batch for the network."""

from collections.abc import Callable, Generator, Iterator, Mapping
from itertools import count
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model_handler.data import Batch
from repurpose.data.padding import equally_long
from repurpose.training.data.batches import BatchSource, TrainingBatch, TrainingBatches
from repurpose.training.data.pieces import rows_of

__all__ = ["CODES", "IS_SOURCE", "PROGRESS", "TARGET", "WEIGHTS", "DomainBatches", "DomainStream"]

CodesOf = Callable[[Any], np.ndarray]
TARGET = "target"  # the stream of the target; all others are source domains
CODES, IS_SOURCE, WEIGHTS, PROGRESS = "codes", "is_source", "weights", "progress"  # what is known of each row


class DomainStream(TrainingBatches):
    """The batches of one domain, whose targets are codes of classes, int64, -1 for rows without a label.

    `codes_of` makes these of what the data have as labels (n_rows,); data without any have rows without.
    """

    def __init__(self, data: Any, classes: np.ndarray, *, codes_of: CodesOf, **options: Any) -> None:
        super().__init__(data, classes, **options)
        self.codes_of = codes_of

    def make_batch(self, batch: Batch) -> TrainingBatch:
        """Make codes of the labels of a batch."""
        codes = np.full(batch.n_rows, -1) if batch.labels is None else self.codes_of(batch.labels)
        return TrainingBatch(batch.inputs, torch.from_numpy(codes), batch.n_rows, batch.rows)


class DomainBatches(BatchSource):
    """Batches with a batch of each domain, their rows mixed evenly, so that any piece of one has both domains.

    An epoch is as many batches as the domain with the most has; every other one is repeated, in another order each
    time. Inputs are one batch for the network. Targets are, of each row (n_rows,): "codes", -1 without a label;
    "is_source"; "weights" of its label, by which the source domains in a batch count alike; and "progress", how many
    epochs are done. Rows of a source whose classes are left out are not in the batches.

    Parameters
    ----------
    streams : dict of str to TrainingBatches
        "target", if it takes part, and the source domains under any other names.
    with_unlabelled : bool, default=True
        Whether rows of the target without a label are in the batches.
    """

    rows_are_unchanged = True

    def __init__(self, streams: Mapping[str, TrainingBatches], *, with_unlabelled: bool = True) -> None:
        super().__init__(streams)
        self.with_unlabelled = with_unlabelled
        self.n_batches = max(stream.n_batches for stream in streams.values())
        self.n_rows = sum(_n_rows_in(stream, self.n_batches) for stream in streams.values())
        self.max_batch_size = sum(stream.max_batch_size for stream in streams.values())

    def epoch(self, number: int) -> Iterator[TrainingBatch]:
        """Give the batches of one epoch, from 0. Raises ValueError for domains whose rows cannot be in one batch."""
        longest = max(self.streams, key=lambda name: self.streams[name].n_batches)
        others = {name: self._repeated(name, number) for name in self.streams if name != longest}
        try:
            for place, batch in enumerate(self.streams[longest].epoch(number)):
                batches = {name: batch if name == longest else next(others[name]) for name in self.streams}
                kept = {name: batch if self._keeps_all(name) else _with_class(batch) for name, batch in batches.items()}
                if any(batch.n_rows for batch in kept.values()):
                    yield _joined(kept, number + place / self.n_batches)
        finally:
            for batches_of_other in others.values():
                batches_of_other.close()

    def with_streams(self, streams: Mapping[str, TrainingBatches]) -> "DomainBatches":
        """Make the same of other streams."""
        return DomainBatches(streams, with_unlabelled=self.with_unlabelled)

    def _keeps_all(self, name: str) -> bool:
        return name == TARGET and self.with_unlabelled

    def _repeated(self, name: str, number: int) -> Generator[TrainingBatch, None, None]:
        """Give batches of a shorter stream without end; each of its passes has a number of its own."""
        stream = self.streams[name]
        for passed in count(number * ceil(self.n_batches / max(1, stream.n_batches))):
            n_given = 0
            for batch in stream.epoch(passed):
                n_given += 1
                yield batch
            if not n_given:
                raise ValueError(f"the domain {name!r} gave no batch to train on")


def _n_rows_in(stream: TrainingBatches, n_batches: int) -> int:
    """Count the rows that a stream gives in `n_batches` batches, nearly where it is repeated."""
    return round(stream.n_rows * n_batches / max(1, stream.n_batches))


def _joined(batches: Mapping[str, TrainingBatch], progress: float) -> TrainingBatch:
    """Put batches of several domains together as one."""
    n_sources = sum(name != TARGET and batch.n_rows > 0 for name, batch in batches.items())
    n_source_rows = sum(batch.n_rows for name, batch in batches.items() if name != TARGET)
    weights, places = [], []
    for name, batch in batches.items():
        alike = 1.0 if name == TARGET else n_source_rows / (n_sources * batch.n_rows or 1)
        weights.append(torch.full((batch.n_rows,), alike, dtype=torch.float32, device="cpu"))
        places.append((np.arange(batch.n_rows) + 0.5) / max(1, batch.n_rows))
    n_rows = sum(batch.n_rows for batch in batches.values())
    of_source = [torch.full((batch.n_rows,), name != TARGET, device="cpu") for name, batch in batches.items()]
    targets = {
        CODES: torch.cat([batch.targets for batch in batches.values()]),
        IS_SOURCE: torch.cat(of_source),
        WEIGHTS: torch.cat(weights),
        PROGRESS: torch.full((n_rows,), progress, dtype=torch.float32, device="cpu"),
    }
    order: Any = torch.from_numpy(np.argsort(np.concatenate(places), kind="stable"))
    inputs = _put_together({name: batch.inputs for name, batch in batches.items() if batch.n_rows})
    is_weightless = any(batch.zero_weight for batch in batches.values())
    return TrainingBatch(rows_of(inputs, order), rows_of(targets, order), n_rows, zero_weight=is_weightless)


def _with_class(batch: TrainingBatch) -> TrainingBatch:
    """Leave out the rows that have no class."""
    if bool((batch.targets >= 0).all()):
        return batch
    rows: Any = torch.nonzero(batch.targets >= 0)[:, 0]
    return TrainingBatch(rows_of(batch.inputs, rows), batch.targets[rows], len(rows), zero_weight=batch.zero_weight)


def _put_together(inputs: Mapping[str, Any]) -> Any:
    """Put inputs of several domains, by their names, under each other: tensors, or tuples or dicts of tensors."""
    first = next(iter(inputs.values()))
    if isinstance(first, Mapping):
        filled = dict(zip(inputs, equally_long([*inputs.values()])))
        return {part: _rows_together({name: given[part] for name, given in filled.items()}) for part in first}
    if isinstance(first, tuple):
        return tuple(_rows_together({name: given[k] for name, given in inputs.items()}) for k in range(len(first)))
    return _rows_together(inputs)


def _rows_together(parts: Mapping[str, Tensor]) -> Tensor:
    """Put rows under each other. Raises ValueError, naming the shapes, for rows that do not go into one tensor."""
    if len({(part.shape[1:], part.dtype) for part in parts.values()}) > 1:
        shapes = {name: tuple(part.shape[1:]) for name, part in parts.items()}
        kinds = [str(part.dtype) for part in parts.values()]
        raise ValueError(
            f"the rows of the domains have other shapes or kinds, {shapes} of {kinds}, and cannot be one batch for the "
            "network; bring them to one, such as by a transform that resizes both"
        )
    return torch.cat([*parts.values()])

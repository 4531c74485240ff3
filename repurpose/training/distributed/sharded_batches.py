"""Sharded batches hold the rows of each batch that one of several processes trains on.

A batch of all processes is as large as one of each together. Where rows have numbers it is split evenly; of a
DataLoader each process takes every n-th batch. Each process has as many batches as any other: one without rows of its
own repeats some of another process with weight zero.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from model_handler.data import Batch, Share, as_batches
from repurpose.training.data.batches import TrainingBatch, TrainingBatches, n_batches_of
from repurpose.training.data.seeding import SeedPurpose, seed_of

__all__ = ["ShardedBatches", "zero_weight_batch"]

_LEAST = 2  # rows a process, for normalisation


class ShardedBatches(TrainingBatches):
    """One process's share of the batches of an epoch; `n_batches` and `max_batch_size` are those of all together."""

    def __init__(self, batches: TrainingBatches, share: Share) -> None:
        vars(self).update(vars(batches))
        self._whole_batches = batches
        self.rows_are_unchanged = batches.rows_are_unchanged
        self.share = share
        n_rows, size = batches.n_rows, batches.batch_size * share.of
        self.n_batches = -(-batches.n_batches // share.of) if batches.rows is None else n_batches_of(n_rows, size)
        self.max_batch_size = min(batches.max_batch_size * share.of, batches.n_rows)

    def of(self, data: Any, *, rows: np.ndarray | None, n_rows: int, options: Mapping[str, Any]) -> TrainingBatches:
        """Make batches of other data, which are not a share."""
        return self._whole_batches.of(data, rows=rows, n_rows=n_rows, options=options)

    def make_batch(self, batch: Batch) -> TrainingBatch:
        """Make a batch as the batches do of which this is a share."""
        return self._whole_batches.make_batch(batch)

    def epoch(self, number: int) -> Iterator[TrainingBatch]:
        """Give this process's batches of one epoch."""
        order = self.order(number)
        if order is None:
            batches = as_batches(self.data, batch_size=self.batch_size, **self.options)
            return (self.make_batch(batch) for batch in batches.share(self.share) if batch.n_rows)
        return self._numbered(order, number)

    def _numbered(self, order: np.ndarray, number: int) -> Iterator[TrainingBatch]:
        size = self.batch_size * self.share.of
        n_whole = len(order) // size * size
        if len(order) - n_whole == 1 and n_whole:  # as in one process, a last row alone joins the batch before it
            n_whole -= size
        whole_batches, last = order[:n_whole].reshape(-1, size), order[n_whole:]
        first = self.batch_size * self.share.index
        own_rows = whole_batches[:, first : first + self.batch_size].ravel()
        rows, is_own = self._share_of_last(last)
        return chain(self._read(own_rows, self.batch_size, number), self._last(rows, number, is_own))

    def _share_of_last(self, rows: np.ndarray) -> tuple[np.ndarray, bool]:
        """Return this process's part of the last rows, none of fewer than two, or two that another process has."""
        n_parts = max(1, min(self.share.of, len(rows) // _LEAST))  # BatchNorm has no variance of a single row
        if self.share.index < n_parts:
            return np.array_split(rows, n_parts)[self.share.index], True
        return rows[:_LEAST], False

    def _last(self, rows: np.ndarray, number: int, is_own: bool) -> Iterator[TrainingBatch]:
        for batch in self._read(rows, max(1, len(rows)), number):
            yield batch if is_own else zero_weight_batch(batch)

    def _read(self, rows: np.ndarray, size: int, number: int) -> Iterator[TrainingBatch]:
        if not len(rows):
            return
        options = {**self.options, "batch_size": size, "rows": rows}
        if self.seed is not None:
            options["seed"] = seed_of(self.seed, SeedPurpose.READING, number, self.share.index)
        for batch in as_batches(self.data, **options):
            yield self.make_batch(batch)


def zero_weight_batch(batch: TrainingBatch | None) -> TrainingBatch:
    """Return the batch with a weight of zero. Raises ValueError where there is none."""
    if batch is None:
        raise ValueError(
            "the DataLoader gives fewer batches than there are processes; give smaller batches, or the dataset itself"
        )
    return replace(batch, zero_weight=True)

"""The plan of rows: which rows of the data are which shard.

Where rows have numbers, shard i has those from i times `rows_per_shard` on, and those of finished shards are not
read. Data that comes in an order of its own is read from its beginning, whole batches a shard.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from model_handler.data import Batch, Batches, Share

__all__ = ["PlannedShard", "RowPlan"]


@dataclass(frozen=True, eq=False)
class PlannedShard:
    """One shard before it is computed: its number, the number of its first row, and its batches, read as they come.

    `n_rows` is how many rows it will have, at most; None where that is not known.
    """

    number: int
    first: int
    n_rows: int | None
    batches: Iterator[Batch]


class RowPlan:
    """Shards of `rows_per_shard` rows of the data that `batches` reads.

    A stream that can be begun at another row, which `starting_at` does, is not read where its shards are finished.

    Attributes
    ----------
    n_rows, n_shards : int or None
        How many there are; None for a stream until it has been read to its end.
    """

    def __init__(
        self, batches: Batches, rows_per_shard: int, starting_at: Callable[[int], Batches] | None = None
    ) -> None:
        self._batches, self._rows_per_shard, self._starting_at = batches, rows_per_shard, starting_at
        self.n_rows = batches.n_rows if batches.has_numbers else None
        self.n_shards = None if self.n_rows is None else -(-self.n_rows // rows_per_shard)

    def rows_of(self, number: int) -> int:
        """Return how many rows a shard will have, at most, of data whose rows have numbers."""
        return min(self._rows_per_shard, (self.n_rows or 0) - number * self._rows_per_shard)

    def shards(
        self, is_wanted: Callable[[int], bool], first_row: Callable[[int], int | None]
    ) -> Iterator[PlannedShard]:
        """Yield the shards that are wanted, in order; each is to be read before the next one is asked for.

        `first_row` is the number of the first row of a shard that is finished, None for one that is not.
        """
        if self.n_rows is None or self.n_shards is None:
            yield from self._of_stream(is_wanted, first_row)
            return
        for number in filter(is_wanted, range(self.n_shards)):
            rows = np.arange(number * self._rows_per_shard, min((number + 1) * self._rows_per_shard, self.n_rows))
            part = self._batches.at(rows)
            with part.watched():
                yield PlannedShard(number, int(rows[0]), len(rows), part.share(Share()))

    def _of_stream(
        self, is_wanted: Callable[[int], bool], first_row: Callable[[int], int | None]
    ) -> Iterator[PlannedShard]:
        number = n_rows = 0
        batches = iter(self._batches)
        if self._starting_at is not None:
            while (following := first_row(number + 1)) is not None:  # so that the last finished one is read again,
                number, n_rows = number + 1, following  # as nothing else tells whether rows follow it
            batches = iter(self._starting_at(n_rows))
        with closing(batches):  # type: ignore[type-var]
            for first in batches:
                counted = _Counted(first, batches, self._rows_per_shard)
                if is_wanted(number):
                    yield PlannedShard(number, n_rows, None, iter(counted))
                for _ in counted:  # what is left of it
                    pass
                number, n_rows = number + 1, n_rows + counted.n_rows
        self.n_rows, self.n_shards = n_rows, number


class _Counted:
    """The batches of one shard: as few as have so many rows together; it goes on where it was left."""

    def __init__(self, first: Batch, following: Iterator[Batch], most_rows: int) -> None:
        self.n_rows = 0
        self._left = self._take(first, following, most_rows)

    def __iter__(self) -> Iterator[Batch]:
        return self._left

    def _take(self, batch: Batch | None, following: Iterator[Batch], most_rows: int) -> Iterator[Batch]:
        while batch is not None:
            self.n_rows += batch.n_rows
            yield batch
            batch = next(following, None) if self.n_rows < most_rows else None

"""Activations of the frozen part are computed once for all rows and cached, and give the batches to train on.

Each process of a group computes the activations of its part of the rows, consecutive ones, and broadcasts them: all
keep all rows, as each epoch shards them in another way. If one process objects, none caches; an error of one all raise.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from torch import Tensor

from model_handler.frozen_prefix.frontier import Frontier
from model_handler.network.outputs import tensors_in
from repurpose.training.data.batches import TrainingBatch
from repurpose.training.distributed.process_group import ProcessGroup
from repurpose.training.frozen.activations import Activations, size_text
from repurpose.training.frozen.row_reader import RowReader
from repurpose.training.plan.cache_options import CacheOptions

__all__ = ["CachedBatches", "cache_activations"]

_LOG = logging.getLogger(__name__)

# How many FLOPs a processor does while a byte is read: about 50 GFLOPS beside 5 GB/s from memory, 0.5 GB/s from disk.
_FLOPS_PER_BYTE = {"in memory": 10, "on disk": 100}


@dataclass(frozen=True, eq=False)
class CachedBatches:
    """Batches of cached activations, in the order that the data would come in, sharded as the data would be.

    `place_of` has the place of each row by its number, -1 for none, and `codes` the targets by place.
    """

    activations: Activations
    row_reader: RowReader
    place_of: np.ndarray
    codes: np.ndarray
    description: str
    process_group: ProcessGroup

    def epoch(self, number: int) -> Iterator[TrainingBatch]:
        """Give the batches of one epoch, with activations in the place of the inputs."""
        places = self.row_reader.places(number, self.place_of, self.codes)
        for batch in self.process_group.shard(places).epoch(number):
            values = self.activations.read(cast(Tensor, batch.inputs))  # the places of its rows
            yield replace(batch, inputs=values[0] if len(values) == 1 else values)  # a loss may call module(inputs)


def cache_activations(
    frontier: Frontier, row_reader: RowReader, options: CacheOptions, memory: int, process_group: ProcessGroup
) -> tuple[CachedBatches | None, str]:
    """Compute the activations of all rows, or return None and why not; all processes do the same of both.

    Past `memory` bytes they are on disk.
    """
    n_bytes = Activations.n_bytes(len(row_reader.numbers), frontier.shapes, frontier.dtypes, options.kept_dtype)
    on_disk = n_bytes > memory
    where = "on disk" if on_disk else "in memory"
    _LOG.info("activations of %s rows take %s %s", f"{len(row_reader.numbers):,}", size_text(n_bytes), where)
    room = f"{size_text(n_bytes)} {where}"
    if options.when is not True:
        _, reason = process_group.gather_first_objection(
            lambda: (None, _why_not_worth_it(frontier, row_reader, where, n_bytes))
        )
        if reason:
            return None, reason
    with ExitStack() as undoing:
        activations, reason = process_group.gather_first_objection(
            lambda: _allocate(frontier, row_reader, options, on_disk, room)
        )
        if activations is not None:  # room here is given back where another process has none
            undoing.callback(activations.close)
        if reason or activations is None:
            return None, reason
        parts, reason = _fill(activations, frontier, row_reader, options.folded, process_group)
        if reason:
            return None, reason
        undoing.pop_all()
    place_of, codes = _places(row_reader, parts)
    n_rows = sum(len(part.rows) for part in parts)
    return CachedBatches(activations, row_reader, place_of, codes, f"{n_rows:,} rows, {room}", process_group), ""


@dataclass(frozen=True, eq=False)
class _Part:
    """The rows that one process computed, by number, whose places are consecutive, and their targets."""

    first: int
    rows: np.ndarray
    codes: np.ndarray


def _why_not_worth_it(frontier: Frontier, row_reader: RowReader, where: str, n_bytes: int) -> str:
    """Say why `n_bytes` of all rows are computed sooner than they are read; "" where they are not."""
    size = n_bytes / len(row_reader.numbers)
    inputs = next(row_reader.read(row_reader.numbers[:1])).inputs
    if size <= sum(part.nbytes for part in tensors_in(inputs)):  # the inputs would be read in any case
        return ""
    if frontier.n_flops(inputs) >= size * _FLOPS_PER_BYTE[where]:
        return ""
    return f"reading {size_text(size)} a row ({where}) would take longer"


def _allocate(
    frontier: Frontier, row_reader: RowReader, options: CacheOptions, on_disk: bool, room: str
) -> tuple[Activations | None, str]:
    """Allocate room for all rows, or say why there is none."""
    try:
        return Activations(
            len(row_reader.numbers),
            frontier.shapes,
            frontier.dtypes,
            dtype=options.kept_dtype,
            on_disk=on_disk,
            directory=options.directory,
        ), ""
    except (OSError, RuntimeError) as error:
        return None, f"there is no room for {room} ({error})"


def _fill(
    activations: Activations, frontier: Frontier, row_reader: RowReader, folded: bool, process_group: ProcessGroup
) -> tuple[list[_Part], str]:
    """Compute and broadcast the activations of all readable rows; return which, by process, and the first objection."""
    # consecutive rows, so that each process broadcasts slices of its tensors without copying
    bounds = np.linspace(0, len(row_reader.numbers), process_group.share.of + 1).astype(int).tolist()
    first, last = bounds[process_group.share.index], bounds[process_group.share.index + 1]
    numbers = row_reader.numbers[first:last]
    rows, codes = [numbers[:0]], [np.empty(0, np.int64)]

    def computed() -> Iterator[int]:
        start = first
        for batch in row_reader.read(numbers) if len(numbers) else ():
            activations.write(start, frontier.values(batch.inputs, folded=folded))
            codes.append(batch.targets.numpy())
            rows.append(np.asarray(batch.rows))
            start += batch.n_rows
            yield start

    if reason := _run_in_lockstep(computed(), process_group):
        return [], reason
    parts = process_group.gather(lambda: _Part(first, np.concatenate(rows), np.concatenate(codes)))
    process_group.broadcast_parts([activations.pieces(part.first, part.first + len(part.rows)) for part in parts])
    return parts, ""


def _run_in_lockstep(work: Iterator[int], process_group: ProcessGroup) -> str:
    """Do all work in lockstep with the other processes; the first ValueError of any ends it, and is returned."""
    n_left, n_errors, reason = 1.0, 0.0, ""
    while n_left and not n_errors:
        is_left = False
        with process_group.raise_on_all():
            try:
                is_left = next(work, None) is not None
            except ValueError as error:
                reason = str(error)
        n_left, n_errors = process_group.all_reduce_sum(is_left, bool(reason))
    return process_group.gather_first_objection(lambda: (None, reason))[1] if n_errors else ""


def _places(row_reader: RowReader, parts: list[_Part]) -> tuple[np.ndarray, np.ndarray]:
    """Return the place of each row by its number, -1 where it has none, and the targets by place."""
    place_of = np.full(int(row_reader.numbers.max()) + 1, -1)
    codes = np.zeros(len(row_reader.numbers), np.int64)
    for part in parts:
        places = np.arange(part.first, part.first + len(part.rows))
        place_of[part.rows], codes[places] = places, part.codes
    return place_of, codes

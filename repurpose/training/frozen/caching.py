"""Activations of the frozen part are computed once for all rows of all streams and cached, and are trained on.

Each process of a group computes the activations of its part of the rows, consecutive ones, and broadcasts them: all
keep all rows, as each epoch shards them in another way. If one process objects, none caches; an error of one all raise.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from torch import Tensor

from model_handler.frozen_prefix.frontier import Frontier
from model_handler.network.outputs import tensors_in
from repurpose.training.data.batches import TrainingBatch, TrainingBatches
from repurpose.training.distributed.process_group import ProcessGroup
from repurpose.training.frozen.activations import Activations, size_text
from repurpose.training.frozen.row_reader import RowReader
from repurpose.training.plan.cache_options import CacheOptions

__all__ = ["CachedBatches", "cache_activations", "of_stream"]

_LOG = logging.getLogger(__name__)

# How many FLOPs a processor does while a byte is read: about 50 GFLOPS beside 5 GB/s from memory, 0.5 GB/s from disk.
_FLOPS_PER_BYTE = {"in memory": 10, "on disk": 100}


class CachedBatches(TrainingBatches):
    """Batches of cached activations, in the order that the data would come in, sharded as the data would be.

    `place_of` has the place of each row by its number, -1 for none, and `codes` the targets by place.
    """

    def __init__(
        self,
        row_reader: RowReader,
        activations: Activations,
        place_of: np.ndarray,
        codes: np.ndarray,
        process_group: ProcessGroup,
    ) -> None:
        vars(self).update(vars(row_reader.batches))
        self.activations = activations
        self._row_reader = row_reader
        self._place_of = place_of
        self._codes = codes
        self._process_group = process_group

    @property
    def n_cached(self) -> int:
        """How many rows have activations."""
        return int((self._place_of >= 0).sum())

    def epoch(self, number: int) -> Iterator[TrainingBatch]:
        """Give the batches of one epoch, with activations in the place of the inputs."""
        places = self._row_reader.places(number, self._place_of, self._codes)
        for batch in self._process_group.shard(places).epoch(number):
            values = self.activations.read(cast(Tensor, batch.inputs))  # the places of its rows
            yield replace(batch, inputs=values[0] if len(values) == 1 else values)  # a loss may call module(inputs)


def cache_activations(
    frontier: Frontier,
    row_readers: Mapping[str, RowReader],
    options: CacheOptions,
    memory: int,
    process_group: ProcessGroup,
) -> tuple[dict[str, CachedBatches], str]:
    """Compute the activations of all rows of all streams, and say how many, or return {} and why not.

    All processes do the same of both. `row_readers` are by the names of the streams; what would take more than is left
    of `memory` bytes is on disk.
    """
    rooms = {}
    for name, row_reader in row_readers.items():
        n_rows = len(row_reader.numbers)
        n_bytes = Activations.n_bytes(n_rows, frontier.shapes, frontier.dtypes, options.kept_dtype)
        rooms[name] = _Room(row_reader, n_bytes, on_disk=n_bytes > memory)
        memory -= 0 if rooms[name].on_disk else n_bytes
        _LOG.info("%s", of_stream(name, f"activations of {n_rows:,} rows take {rooms[name]}"))
    if options.when is not True:
        _, reason = process_group.gather_first_objection(lambda: (None, _why_not_worth_it(frontier, rooms)))
        if reason:
            return {}, reason
    cached = {}
    with ExitStack() as undoing:
        activations, reason = process_group.gather_first_objection(lambda: _allocate(frontier, rooms, options, undoing))
        if reason:  # room here is given back where another process has none
            return {}, reason
        for name, row_reader in row_readers.items():
            parts, reason = _fill(activations[name], frontier, row_reader, options.folded, process_group)
            if reason:
                return {}, of_stream(name, reason)
            cached[name] = CachedBatches(row_reader, activations[name], *_places(row_reader, parts), process_group)
        undoing.pop_all()
    counts = [of_stream(name, f"{stream.n_cached:,} rows, {rooms[name]}") for name, stream in cached.items()]
    return cached, "; ".join(counts)


def of_stream(name: str, text: str) -> str:
    """Write what is told of a stream; one that is alone has no name."""
    return f"{name}: {text}" if name else text


@dataclass(frozen=True, eq=False)
class _Room:
    """The room that the activations of the rows of a stream take."""

    row_reader: RowReader
    n_bytes: int
    on_disk: bool

    def __str__(self) -> str:
        return f"{size_text(self.n_bytes)} {self.where}"

    @property
    def where(self) -> str:
        return "on disk" if self.on_disk else "in memory"


@dataclass(frozen=True, eq=False)
class _Part:
    """The rows that one process computed, by number, whose places are consecutive, and their targets."""

    first: int
    rows: np.ndarray
    codes: np.ndarray


def _why_not_worth_it(frontier: Frontier, rooms: Mapping[str, _Room]) -> str:
    """Say of which stream the activations are computed sooner than they are read; "" where of none."""
    for name, room in rooms.items():
        numbers = room.row_reader.numbers
        size, inputs = room.n_bytes / len(numbers), next(room.row_reader.read(numbers[:1])).inputs
        if size <= sum(part.nbytes for part in tensors_in(inputs)):  # the inputs would be read in any case
            continue
        if frontier.n_flops(inputs) < size * _FLOPS_PER_BYTE[room.where]:
            return of_stream(name, f"reading {size_text(size)} a row ({room.where}) would take longer")
    return ""


def _allocate(
    frontier: Frontier, rooms: Mapping[str, _Room], options: CacheOptions, undoing: ExitStack
) -> tuple[dict[str, Activations], str]:
    """Allocate the room of each stream, which `undoing` gives back, or say why there is none."""
    found = {}
    for name, room in rooms.items():
        try:
            found[name] = Activations(
                len(room.row_reader.numbers),
                frontier.shapes,
                frontier.dtypes,
                dtype=options.kept_dtype,
                on_disk=room.on_disk,
                directory=options.directory,
            )
        except (OSError, RuntimeError) as error:
            return {}, of_stream(name, f"there is no room for {room} ({error})")
        undoing.callback(found[name].close)
    return found, ""


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

"""Keeping: what the frozen part of a network gives for all rows, computed once, and the batches of it to train on.

Of several processes each computes the activations of its part of the rows, consecutive ones, and hands them to the
others: all keep all rows, as each epoch deals them anew. What one has against it, all have; an error of one all raise.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np

from model_handler.frozen_prefix.splitting import Frontier
from model_handler.network.outputs import tensors_in
from repurpose.training.data.batches import TrainingBatch
from repurpose.training.distributed.single_process import Alone
from repurpose.training.frozen.activations import Activations, size_text
from repurpose.training.frozen.row_reader import Rereading
from repurpose.training.plan.cache_options import CacheOptions

__all__ = ["KeptBatches", "keep"]

_LOG = logging.getLogger(__name__)

# How many FLOPs a processor does while a byte is read: about 50 GFLOPS beside 5 GB/s from memory, 0.5 GB/s from disk.
_FLOPS_PER_BYTE = {"in memory": 10, "on disk": 100}


@dataclass(frozen=True, eq=False)
class KeptBatches:
    """Batches of kept activations, in the order that the data would come in, dealt as the data would be.

    `place_of` has the place of each row by its number, -1 for none, and `codes` the targets by place.
    """

    activations: Activations
    rereading: Rereading
    place_of: np.ndarray
    codes: np.ndarray
    description: str
    crew: Alone

    def epoch(self, number: int) -> Iterator[TrainingBatch]:
        """The batches of one epoch: activations in the place of the inputs."""
        places = self.rereading.places(number, self.place_of, self.codes)
        for batch in self.crew.dealt(places).epoch(number):
            yield replace(batch, inputs=self.activations.read(batch.inputs))


def keep(
    frontier: Frontier, rereading: Rereading, options: CacheOptions, memory: int, crew: Alone
) -> tuple[KeptBatches | None, str]:
    """The activations of all rows, computed now, or None and why they are not kept; which of both, all processes agree.

    Past `memory` bytes they are on disk.
    """
    n_bytes = Activations.n_bytes(len(rereading.numbers), frontier.shapes, frontier.dtypes, options.kept_dtype)
    on_disk = n_bytes > memory
    where = "on disk" if on_disk else "in memory"
    _LOG.info("activations of %s rows take %s %s", f"{len(rereading.numbers):,}", size_text(n_bytes), where)
    room = f"{size_text(n_bytes)} {where}"
    if options.when is not True:
        _, reason = crew.agreed(lambda: (None, _why_dear(frontier, rereading, where, n_bytes)))
        if reason:
            return None, reason
    with ExitStack() as undoing:
        activations, reason = crew.agreed(lambda: _reserved(frontier, rereading, options, on_disk, room))
        if activations is not None:
            undoing.callback(activations.close)
        if reason or activations is None:
            return None, reason
        parts, reason = _fill(activations, frontier, rereading, options.folded, crew)
        if reason:
            return None, reason
        undoing.pop_all()
    place_of, codes = _places(rereading, parts)
    n_rows = sum(len(part.rows) for part in parts)
    return KeptBatches(activations, rereading, place_of, codes, f"{n_rows:,} rows, {room}", crew), ""


@dataclass(frozen=True, eq=False)
class _Part:
    """What one process computed: the numbers of its rows, whose places are consecutive, and their targets."""

    first: int
    rows: np.ndarray
    codes: np.ndarray


def _why_dear(frontier: Frontier, rereading: Rereading, where: str, n_bytes: int) -> str:
    """Why `n_bytes` of all rows are computed sooner than they are read; "" where they are not."""
    size = n_bytes / len(rereading.numbers)
    inputs = next(rereading.read(rereading.numbers[:1])).inputs
    if size <= sum(part.nbytes for part in tensors_in(inputs)):
        return ""
    if frontier.n_flops(inputs) >= size * _FLOPS_PER_BYTE[where]:
        return ""
    return f"reading {size_text(size)} a row ({where}) would take longer"


def _reserved(
    frontier: Frontier, rereading: Rereading, options: CacheOptions, on_disk: bool, room: str
) -> tuple[Activations | None, str]:
    """Room for all rows, or why there is none."""
    try:
        return Activations(
            len(rereading.numbers),
            frontier.shapes,
            frontier.dtypes,
            dtype=options.kept_dtype,
            on_disk=on_disk,
            directory=options.directory,
        ), ""
    except (OSError, RuntimeError) as error:
        return None, f"there is no room for {room} ({error})"


def _fill(
    activations: Activations, frontier: Frontier, rereading: Rereading, folded: bool, crew: Alone
) -> tuple[list[_Part], str]:
    """Compute the activations of all rows that can be read: the parts of all processes, and what one has against it."""
    bounds = np.linspace(0, len(rereading.numbers), crew.share.of + 1).astype(int).tolist()
    first, last = bounds[crew.share.index], bounds[crew.share.index + 1]
    numbers = rereading.numbers[first:last]
    rows, codes = [numbers[:0]], [np.empty(0, np.int64)]

    def computed() -> Iterator[int]:
        start = first
        for batch in rereading.read(numbers) if len(numbers) else ():
            activations.write(start, frontier.values(batch.inputs, folded=folded))
            codes.append(batch.targets.numpy())
            rows.append(np.asarray(batch.rows))
            start += batch.n_rows
            yield start

    if reason := _in_step(computed(), crew):
        return [], reason
    parts = crew.answers(lambda: _Part(first, np.concatenate(rows), np.concatenate(codes)))
    crew.spread([activations.pieces(part.first, part.first + len(part.rows)) for part in parts])
    return parts, ""


def _in_step(work: Iterator[int], crew: Alone) -> str:
    """Do all work, piece by piece as the others do theirs; the first ValueError of any ends it, and is returned."""
    n_left, n_errors, reason = 1.0, 0.0, ""
    while n_left and not n_errors:
        is_left = False
        with crew.together():
            try:
                is_left = next(work, None) is not None
            except ValueError as error:
                reason = str(error)
        n_left, n_errors = crew.total(is_left, bool(reason))
    return crew.agreed(lambda: (None, reason))[1] if n_errors else ""


def _places(rereading: Rereading, parts: list[_Part]) -> tuple[np.ndarray, np.ndarray]:
    """The place of each row by its number, -1 where it has none, and the targets by place."""
    place_of = np.full(int(rereading.numbers.max()) + 1, -1)
    codes = np.zeros(len(rereading.numbers), np.int64)
    for part in parts:
        places = np.arange(part.first, part.first + len(part.rows))
        place_of[part.rows], codes[places] = places, part.codes
    return place_of, codes

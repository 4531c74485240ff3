"""Distributed extraction: processes started by `torchrun` or `accelerate launch` compute the features of data together.

Process r of n computes the batches r, r + n, r + 2n, ... After every few batches all of them meet and hand each other
the rows, so that each has all rows in the order of the data. What one of them raises is raised by all. accelerate finds
the device and starts the group of processes; what each reads of the data is in `data.process_shards`.
"""

import atexit
import pickle
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import cache
from itertools import islice, zip_longest
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor

from model_handler.data import Batch, Batches, Share
from model_handler.errors import ModelError
from model_handler.network.device import is_launched

__all__ = ["Team", "teamed"]

_ROUND = 2**24  # bytes of rows that a process hands over at a time, as far as whole batches allow
_MAX_BATCHES = 32  # ... and batches, so that an error is soon known to all
_SECONDS_AT_EXIT = 0.1
_MEETING = threading.Lock()  # held by an extraction in common; one within it, by a dataset, is each process's own


@contextmanager
def teamed(wanted: bool) -> Iterator["Team | None"]:
    """Give the processes that compute together, or None where this one computes alone.

    Only the main thread works in a team: in others the order of the calls is left to chance. An error inside is raised
    by every process. Raises ModelError if the processes lose each other.
    """
    if not wanted or threading.current_thread() is not threading.main_thread() or not _MEETING.acquire(blocking=False):
        yield None
        return
    try:
        team = _team()
        with nullcontext() if team is None else _ended_together(team):
            yield team
    finally:
        _MEETING.release()


class Team:
    """This process and the others: every process calls the same methods in the same order."""

    def __init__(self) -> None:
        _wait_at_exit()
        self.share = Share(torch.distributed.get_rank(), torch.distributed.get_world_size())
        self.is_over = False

    @property
    def is_main_process(self) -> bool:
        """Whether this is the process that shows progress."""
        return self.share.index == 0

    def check_same_on_all(self, what: object) -> None:
        """Raise ModelError unless every process is about to do the same."""
        plans = self.exchange(what)
        if any(plan != plans[0] for plan in plans):
            listed = "\n".join(f"process {rank}: {plan}" for rank, plan in enumerate(plans))
            raise ModelError(
                f"the processes extract different things:\n{listed}\nall of them must make the same call with the same "
                "data; ModelHandler(..., share=False) computes in one process alone"
            )

    def union(self, places: list[int]) -> list[int]:
        """Return the places that any process gives, sorted."""
        return sorted({place for given in self.exchange(places) for place in given})

    def compute(self, batches: Batches, rows_of: Callable[[Batch], Iterable[list[Tensor]]]) -> Batches:
        """Return batches whose inputs are their rows, as `rows_of` gives them, each computed by one process.

        Beside the rows of a batch or two, a process holds those of one round: at most 16 MB, or one batch, for itself
        and every other. Iterating raises ModelError if the processes read the data in different orders.
        """
        return batches.put_together(lambda: self._in_rounds(batches, rows_of))

    def exchange(self, value: object = None, *, error: Exception | None = None) -> list[Any]:
        """Return what every process gives, by rank. Raises the error of the first one that gives an error instead.

        A process that gives its own error raises none here.
        """
        messages: list[Any] = [None] * self.share.of
        try:
            torch.distributed.all_gather_object(messages, (value, None if error is None else _packed(error)))
        except RuntimeError as problem:
            self.is_over = True
            raise ModelError(
                f"process {self.share.index} of {self.share.of} waited in vain for the others. All of them must make "
                f"the same call; ModelHandler(..., share=False) computes in one process alone. {problem}"
            ) from problem
        for rank, (_, packed) in enumerate(messages):
            if packed is not None and error is None:
                self.is_over = True
                raise _unpacked(packed, rank)
        return [value for value, _ in messages]

    def _in_rounds(self, batches: Batches, rows_of: Callable[[Batch], Iterable[list[Tensor]]]) -> Iterator[Batch]:
        computed = (_computed(batch, rows_of) for batch in batches.share(self.share))
        n_batches = 1  # at first, to see their size
        while any(parts := self.exchange(list(islice(computed, n_batches)))):
            yield from _interleaved(parts)
            largest = max(_n_bytes(batch) for part in parts for batch in part)
            n_batches = min(_MAX_BATCHES, max(1, _ROUND // max(1, largest)))


def _team() -> Team | None:
    """Return the team, where there is one; the group of processes is started where a launcher meant one."""
    if not torch.distributed.is_available():
        return None
    if not torch.distributed.is_initialized() and is_launched():
        from accelerate import PartialState

        accelerator = torch.accelerator.current_accelerator()
        PartialState(cpu=accelerator is None or accelerator.type == "mps")  # starts the group, by gloo on CPUs
    several = torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1
    return Team() if several else None


@contextmanager
def _ended_together(team: Team) -> Iterator[None]:
    """Let every process leave when all are done, or raise the error of one."""
    try:
        yield
    except Exception as error:
        if not team.is_over:
            with suppress(ModelError):
                team.exchange(error=error)
        raise
    team.exchange()


@cache
def _wait_at_exit() -> None:
    """Let gloo's thread give back the tensors of the last collective before the interpreter, which it needs, goes.

    Where it comes too late, the process aborts ("terminate called without an active exception").
    """
    atexit.register(time.sleep, _SECONDS_AT_EXIT)


def _computed(batch: Batch, rows_of: Callable[[Batch], Iterable[list[Tensor]]]) -> Batch:
    """Return the batch with its rows in the place of its inputs, as arrays of float32."""
    blocks = [[_array(part) for part in rows] for rows in rows_of(batch)] if batch.n_rows else []
    return replace(batch, inputs=blocks, rows=None)


def _array(rows: Tensor) -> np.ndarray:
    """Return the rows as float32, copied: a view would keep all that the layer computed until the round is over."""
    return rows.to("cpu", torch.float32, copy=True).numpy()


def _n_bytes(batch: Batch) -> int:
    return sum(part.nbytes for rows in batch.inputs for part in rows)


def _interleaved(parts: list[list[Batch]]) -> Iterator[Batch]:
    """Yield the batches of all processes, one of each in turn. Raises ModelError if they are not of one order."""
    for turn in zip_longest(*parts):
        batches = [batch for batch in turn if batch is not None]
        if len({batch.order for batch in batches}) > 1:
            raise ModelError(
                "the processes read the data in different orders, so their rows cannot be put together: take out what "
                "shares rows between processes (a DistributedSampler), and give whatever shuffles or draws at random "
                "the same seed in each, such as DataLoader(..., generator=torch.Generator().manual_seed(0)); "
                "ModelHandler(..., share=False) computes in one process alone"
            )
        for batch in batches:
            blocks = [[torch.from_numpy(part) for part in rows] for rows in batch.inputs]
            yield replace(batch, inputs=blocks, order=0)


def _packed(error: Exception) -> bytes:
    """Pickle an error for other processes; as a ModelError with its text where it cannot be pickled."""
    try:
        packed = pickle.dumps(error)
        pickle.loads(packed)
    except Exception:
        packed = pickle.dumps(ModelError(f"{type(error).__name__}: {error}"))
    return packed


def _unpacked(packed: bytes, rank: int) -> Exception:
    error = pickle.loads(packed)
    error.add_note(f"met by process {rank}, which computed another part of the rows")
    return error

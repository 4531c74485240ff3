"""Work on few rows gets one thread, all other work as many as the user gives: torch's, OpenMP's and those of BLAS.

Threads that wait for each other spin, torch's (OpenMP) as well as those of the BLAS below numpy and scikit-learn. While
another process has one of their cores, each wait lasts as long as its turn does, and a fit of a tenth of a second takes
seconds; where all cores are free, several threads gain little on few rows (`python -m benchmarks threads`). With one
thread the last bits of a result do not depend on what the user has set either.

Several threads may be inside at once, to fit or to answer a service, and what is set belongs to different owners:

- torch's count is the calling thread's, and what threads begin with whose first use of torch is still to come. A thread
  that finds 1 while others are inside may have that from them: it leaves with the count that the first one in found.
- OpenMP's, by which scikit-learn finds nearest rows, is the calling thread's alone.
- BLAS has one count a library for the whole process, which the first one in sets and the last one out puts back. In
  between all threads have it. What is 1 already is left alone: scikit-learn sets it in other threads, for a moment. It
  does so among many rows too, and puts back what it found, which may be our 1: so who leaves those puts it right.

Two things nobody can put right from here: a thread whose first use of torch falls inside another's block, and that
never enters one itself, stays at 1; and limits of threadpoolctl that are entered while another thread is inside and
left after it put our 1 back.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from threadpoolctl import LibController, get_cached_controller

__all__ = ["threads_for"]

# With as many of 1,280 features LR took 6 s with one thread and 105 s with two on busy cores, a GP's posterior .8 s and
# 4.4 s. Where all cores are free, what two could gain grows from here on.
_FEW = 2000

Counts = list[tuple[LibController, int]]  # libraries, and the threads that each had


@contextmanager
def threads_for(n_rows: int, n_others: int | None = None) -> Iterator[None]:
    """Compute with one thread where rows are few, and with the user's threads where they are not.

    Few are rows of which at most four million pairs are compared: 2,000 rows with one another, or `n_rows` with
    `n_others`. A context within one of few rows changes nothing. A generator must not yield inside: its user would go
    on with one thread. As a decorator, ``@threads_for(...)``, it is for a number of rows that is known beforehand.
    """
    if _here.has_few:
        yield
        return
    is_few = n_rows * (n_rows if n_others is None else n_others) <= _FEW**2
    with _limits.for_few() if is_few else _limits.for_many():
        yield


class _Here(threading.local):
    has_few = False


class _Limits:
    """How many threads have few or many rows at hand, and the counts that the first one with few found."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_few = self._n_many = 0
        self._torch = 1
        self._blas: Counts = []

    def hold_for_fork(self) -> None:
        """Let no process be forked while a count is being changed."""
        self._lock.acquire()

    def release_after_fork(self, *, in_child: bool) -> None:
        """Take the limits off in the child, where no other thread is left that could leave."""
        if in_child:
            _set_blas(self._blas)
            self._n_few = self._n_many = 0
            self._blas = []
            _here.has_few = False
        self._lock.release()

    @contextmanager
    def for_few(self) -> Iterator[None]:
        with self._lock:
            own_torch, own_openmp = torch.get_num_threads(), _several("openmp")
            _set_all(own_openmp, 1)
            if self._n_few == 0:
                self._torch, blas = own_torch, _several("blas")
                _set_blas(blas, 1)
                # Where another thread holds a limit of its own, threadpoolctl sets nothing, and nothing is put back.
                self._blas = [(library, count) for library, count in blas if library.num_threads == 1] or self._blas
            if own_torch > 1:
                torch.set_num_threads(1)
            self._n_few += 1
        _here.has_few = True
        try:
            yield
        finally:
            _here.has_few = False
            with self._lock:
                self._n_few = max(0, self._n_few - 1)  # a process that was forked inside begins with none
                self._put_blas_back()
                _set_all(own_openmp)
                # Setting sets what later threads begin with, too: a thread that has 1 of its own sets nothing.
                if (before := own_torch if own_torch > 1 else self._torch) > 1:
                    torch.set_num_threads(before)

    @contextmanager
    def for_many(self) -> Iterator[None]:
        with self._lock:
            self._n_many += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_many = max(0, self._n_many - 1)
                self._put_blas_back()

    def _put_blas_back(self) -> None:
        if self._n_few == 0:
            _set_blas(self._blas)
            if self._n_many == 0:
                self._blas = []


_here, _limits = _Here(), _Limits()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_limits.hold_for_fork,
        after_in_parent=partial(_limits.release_after_fork, in_child=False),
        after_in_child=partial(_limits.release_after_fork, in_child=True),
    )


def _several(user_api: str) -> Counts:
    """Return the libraries that have several threads now, BLAS or OpenMP."""
    counts = [(lib, lib.num_threads) for lib in get_cached_controller().lib_controllers if lib.user_api == user_api]
    return [(library, count) for library, count in counts if count is not None and count > 1]


def _set_all(counts: Counts, n_threads: int | None = None) -> None:
    """Set each library to the same number, or to what it had."""
    for library, count in counts:
        library.set_num_threads(count if n_threads is None else n_threads)


def _set_blas(counts: Counts, n_threads: int | None = None) -> None:
    """Set the threads of BLAS, which threadpoolctl lets no other thread set until this one leaves a block of limits."""
    _set_all(counts, n_threads)
    if counts:
        with get_cached_controller().select(user_api="blas").limit():
            pass

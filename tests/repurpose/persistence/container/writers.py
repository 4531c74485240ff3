"""Processes that write without an end, to be killed."""

import itertools
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["forks", "writing"]

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@contextmanager
def writing(write: Callable[[Path, int], object], path: Path, first: int, step: int = 1) -> Iterator[None]:
    """Have a process call `write` with one number after the other; it has begun, and is killed behind the block."""
    context = multiprocessing.get_context("fork")  # in no time
    begins = context.Event()
    process = context.Process(target=_write_on, args=(write, path, first, step, begins), daemon=True)
    process.start()
    try:
        assert begins.wait(60)
        yield
    finally:
        process.kill()
        process.join()


def _write_on(write: Callable[[Path, int], object], path: Path, first: int, step: int, begins: Any) -> None:
    begins.set()
    for number in itertools.count(first, step):
        write(path, number)
        time.sleep(0.001)  # without a lock, for another writer

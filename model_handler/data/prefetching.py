"""Prefetching loads the next item in a thread while one batch is worked on.

A thread is enough, as decoding and resizing images release Python's lock; what it loads must not belong to the thread
that iterates.
"""

import contextvars
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, TypeVar

import torch

from model_handler.errors import ModelError

__all__ = ["prefetched", "refuse_in_prefetching"]

T = TypeVar("T")
DEPTH = 2  # items loaded, or being loaded, ahead of the one that is worked on
_END: Any = object()
_here = threading.local()


def prefetched(items: Iterator[T]) -> Iterator[T]:
    """Yield the items in their order, loaded by a thread, except for the first.

    The first is loaded here: what works on it may have to be set up by it, which is not to run beside other work. An
    error comes out where its item would have come. Where the iteration is broken off, the item being loaded is waited
    for, and `items` is closed. If the work on the first draws from torch's generator, all are loaded here: a transform
    that draws as well would find it in a state that is left to chance.
    """
    first = next(items, _END)
    if first is _END:
        return
    generator = torch.get_rng_state()
    yield first
    if not torch.equal(generator, torch.get_rng_state()):
        yield from items
        return
    load = _in_the_mode_of_here(items)
    with ThreadPoolExecutor(1, thread_name_prefix="loading_ahead") as thread:
        coming: deque[Future[T]] = deque(thread.submit(load) for _ in range(DEPTH))
        try:
            while (item := coming.popleft().result()) is not _END:
                coming.append(thread.submit(load))
                yield item
        finally:
            thread.shutdown(cancel_futures=True)
            items.close()  # type: ignore[attr-defined]


def refuse_in_prefetching() -> None:
    """Raise ModelError in a thread that loads ahead: the network it asks for waits for what it loads."""
    if getattr(_here, "loading", False):
        raise ModelError(
            "the transform itself extracts features, which cannot run beside the extraction that it serves; give a "
            "DataLoader, whose batches are loaded when it is their turn"
        )


def _in_the_mode_of_here(items: Iterator[T]) -> Any:
    """Loads the next item as it would be loaded in this thread: torch's modes and context variables are a thread's."""
    context = contextvars.copy_context()
    inference, grad, device = torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.get_default_device()

    def load() -> T:
        _here.loading = True
        elsewhere = nullcontext() if device.type == "cpu" else device
        with torch.inference_mode(inference), torch.set_grad_enabled(grad), elsewhere:
            return next(items, _END)

    return lambda: context.run(load)

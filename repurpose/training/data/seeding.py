"""Seeds decide everything random in a training, so that the same seed gives the same bits.

Each epoch has a seed of its own, so that what it draws does not depend on what came before it, such as an interruption.
The generators of torch, numpy and Python belong to the process: they are set for a while and put back.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch

from model_handler.extraction.engine import NETWORK_LOCK

__all__ = ["SeedPurpose", "drawing_from", "seed_of"]


class SeedPurpose(IntEnum):
    """The purpose that a seed is derived for. The numbers are frozen: they decide which bits a seed gives."""

    SHUFFLING = 1  # the order of the rows in an epoch
    WORKERS = 2  # what the workers of a DataLoader draw
    EPOCH = 3  # dropout, augmentation and mixing in an epoch
    READING = 4  # what the workers of one of several processes draw
    STREAM = 5  # the order of the rows of a further stream, and what its workers draw
    FIRST_PASS = 10  # the first pass over the data, which finds labels and shapes
    NEW_LAYERS = 11  # the initial weights of a head
    VALIDATION_SPLIT = 12
    ENSEMBLE_MEMBER = 13
    DROPOUT_DRAWS = 20  # Monte Carlo dropout at prediction


def seed_of(seed: int, purpose: SeedPurpose, *numbers: int) -> int:
    """Derive a seed of 63 bits for one purpose of a training, such as an epoch of that number."""
    return int(np.random.SeedSequence([seed, purpose, *numbers]).generate_state(1, np.uint64)[0] >> 1)


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Draw from `seed` inside this block, and leave all generators as they were; one thread at a time.

    Two trainings in two threads would draw from one generator in an order left to chance; and no network may run while
    another is traced.
    """
    gpus = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)  # the network may be on any
    with NETWORK_LOCK, torch.random.fork_rng(devices=gpus):
        python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (users' transforms draw from it)
        try:
            torch.default_generator.manual_seed(seed)  # torch.manual_seed formats a traceback for each kind of device
            for gpu in gpus:
                torch.cuda.default_generators[gpu].manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002

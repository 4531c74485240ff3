"""Settings that must stand before torch is imported, here and in the processes that tests start, and the seeds."""

import os
import random
from typing import Any

# One thread each: two of them wait for each other, spinning, whenever something else keeps a core busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Seed every global generator before each test, so that it draws the same whichever tests ran before."""
    _seed()


def pytest_collectstart(collector: Any) -> None:
    """The same before each test file is read, since some make networks at once."""
    _seed()


def _seed() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (scikit-learn draws from it where no random_state is given)
    torch.manual_seed(0)

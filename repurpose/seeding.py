"""Seeds of a training, and of draws after it, which come out the same each time, are settled here.

An integer `random_state` is the seed itself. Otherwise one is drawn when training begins and kept in `prediction_seed_`
with what was learned: folds, posterior draws and bootstraps are then the same in every thread and after loading.
"""

from copy import deepcopy
from numbers import Integral
from typing import Protocol

import numpy as np
from sklearn.utils import check_random_state

__all__ = ["RandomState", "Seeded", "draw_seed", "new_prediction_seed", "rng_at_prediction", "seed_at_prediction"]

_OF_OLDER_FILES = 0  # which kept no seed

RandomState = int | np.random.RandomState | None


class Seeded(Protocol):
    """A trained Repurposer, whose `prediction_seed_` there is unless `random_state` is an integer."""

    random_state: RandomState


def draw_seed(random_state: RandomState) -> int:
    """Return a seed of 31 bits; the same integer gives the same, a generator is moved on."""
    return int(check_random_state(random_state).randint(2**31 - 1))


def new_prediction_seed(random_state: RandomState) -> int | None:
    """Choose the seed of draws after the training that starts; None for an integer, which is the seed itself.

    The state of a generator stays as it is.
    """
    if isinstance(random_state, Integral):
        return None
    return draw_seed(deepcopy(check_random_state(random_state)))


def seed_at_prediction(repurposer: Seeded) -> int:
    """Return the integer that stands for the `random_state` of a trained Repurposer."""
    if isinstance(repurposer.random_state, Integral):
        return int(repurposer.random_state)
    return getattr(repurposer, "prediction_seed_", _OF_OLDER_FILES)


def rng_at_prediction(repurposer: Seeded) -> np.random.RandomState:
    """Return the generator that a trained Repurposer draws from, each time in the same state."""
    return np.random.RandomState(seed_at_prediction(repurposer))

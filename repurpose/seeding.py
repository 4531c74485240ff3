"""Chance: seeds of trainings, and where draws after a training come from, which come out the same each time.

An integer `random_state` is the seed itself. Otherwise one is drawn when training begins and kept in `prediction_seed_`
with what was learned: folds, posterior draws and bootstraps are then the same in every thread and after loading.
"""

from copy import deepcopy
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

__all__ = ["chance_at_prediction", "draw_seed", "keep_seed", "seed_at_prediction"]

_OF_OLDER_FILES = 0  # which kept no seed


def draw_seed(random_state: Any) -> int:
    """A seed of 31 bits; the same integer gives the same, a generator is moved on."""
    return int(check_random_state(random_state).randint(2**31 - 1))


def keep_seed(repurposer: Any) -> None:
    """Settle what draws after the training that begins come from, in place; no generator is moved on by it."""
    if not isinstance(repurposer.random_state, Integral):
        repurposer.prediction_seed_ = draw_seed(deepcopy(check_random_state(repurposer.random_state)))


def seed_at_prediction(repurposer: Any) -> int:
    """The integer that stands for the `random_state` of a trained Repurposer."""
    if isinstance(repurposer.random_state, Integral):
        return int(repurposer.random_state)
    return vars(repurposer).get("prediction_seed_", _OF_OLDER_FILES)


def chance_at_prediction(repurposer: Any) -> np.random.RandomState:
    """What a trained Repurposer draws from, each time from the same state."""
    return np.random.RandomState(seed_at_prediction(repurposer))

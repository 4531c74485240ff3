"""Out-of-fold heads are trained again without each of five folds, and judge training rows that they did not see."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_handler.errors import with_fix
from repurpose.data.folds import deal_folds
from repurpose.data.groups import why_none_held_out
from repurpose.uncertainty.head import Head

__all__ = ["Fold", "deal_out", "folds_with_heads", "learn_without_folds"]


@dataclass(frozen=True, eq=False)
class Fold:
    """A head that was trained without the rows `held_out`, indices (n_held_out,) into the training rows."""

    head: Head
    held_out: np.ndarray


def deal_out(codes: np.ndarray, rng: np.random.RandomState, groups: np.ndarray | None = None) -> np.ndarray:
    """Return the fold in which each training row is held out, or -1 for the only one of its class: (n_samples,).

    Rows of one of the `groups` (n_samples,) are in one fold. Raises ValueError where no row can be held out.
    """
    folds = deal_folds(codes, rng, groups)
    if folds is None:
        raise with_fix(
            ValueError,
            f"{why_none_held_out(groups, 'training example')}, so none can be held out",
            python="give labelled rows that were not used in training",
            shell="train again with two images or more of a class",
        )
    return folds


def learn_without_folds(head: Head, folds: np.ndarray) -> list[dict[str, Any]]:
    """Train heads like this one without each fold: what each learned, in the time of as many trainings."""
    return [head.learn_from(np.flatnonzero(folds != fold)) for fold in range(folds.max() + 1)]


def folds_with_heads(head: Head, folds: np.ndarray, learned: Sequence[Mapping[str, Any]]) -> Iterator[Fold]:
    """Pair each fold with the head that was trained without it, made of what `learn_without_folds` gave."""
    for fold, of_fold in enumerate(learned):
        yield Fold(head.with_learned(of_fold), np.flatnonzero(folds == fold))

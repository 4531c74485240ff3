"""Batches whose targets are the numbers of their rows, by which a loss looks up what is known of each row."""

from dataclasses import replace
from typing import Self

import numpy as np
import torch

from model_handler.data import Batch
from repurpose.training.data.batches import TrainingBatch, TrainingBatches

__all__ = ["NumberedBatches"]


class NumberedBatches(TrainingBatches):
    """The batches of data whose rows have numbers, which are their targets: int64 (n_rows,).

    The frozen part of a network is cached as for codes of classes, since these are whole numbers too.
    """

    @classmethod
    def like(cls, batches: TrainingBatches) -> Self:
        """Make the same batches with numbers for targets."""
        made = cls.__new__(cls)
        vars(made).update(vars(batches))
        return made

    def make_batch(self, batch: Batch) -> TrainingBatch:
        """Make a batch of one that was read. Raises ValueError for labels that are not among the classes."""
        return replace(super().make_batch(batch), targets=torch.from_numpy(np.asarray(batch.rows, dtype=np.int64)))

"""The options of reading data: batch size, workers, which rows in which order, and the seed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

__all__ = ["Reading", "reading_options"]


@dataclass(frozen=True, eq=False)
class Reading:
    """What `as_batches` was asked for, beside the data and the transform; see there."""

    batch_size: int = 32
    num_workers: int = 0
    pin_memory: bool = False
    rows: np.ndarray | None = None
    augment: Callable[[Any], Any] | None = None
    seed: int | None = None
    by_length: bool = False

    def numbers(self, n_rows: int) -> np.ndarray:
        """Return the numbers of the rows to read, of `n_rows` that there are."""
        return np.arange(n_rows) if self.rows is None else np.asarray(self.rows)

    def loader_options(self) -> dict[str, Any]:
        """Return the options of a `DataLoader`; the seed of its workers is not drawn from the global generator."""
        generator = torch.Generator()
        if self.seed is not None:
            generator.manual_seed(self.seed)
        return {
            "batch_size": self.batch_size,
            "num_workers": self.num_workers,
            "pin_memory": self.pin_memory,
            "generator": generator,
        }


def reading_options(
    transform: Callable[[Any], Any] | None, batch_size: int, num_workers: int, device: torch.device
) -> dict[str, Any]:
    """Return the options of `as_batches` for a network on a device; memory is pinned where a GPU fetches from it."""
    return {
        "transform": transform,
        "batch_size": batch_size,
        "num_workers": num_workers,
        "pin_memory": device.type == "cuda",
    }

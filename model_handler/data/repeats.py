"""Repeats: workers that each give all rows of a stream, as torch lets them unless the stream shares its rows out."""

import warnings
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from model_handler.data.checksums import checksum
from model_handler.data.loader_errors import called

__all__ = ["read_once"]


def read_once(loader: DataLoader) -> Iterator[Any]:
    """The batches of a loader; a UserWarning where two of its workers begin with the same batch of a stream."""
    if loader.num_workers < 2 or not isinstance(loader.dataset, IterableDataset):
        yield from loader
        return
    firsts: list[int] = []
    for batch in loader:
        if len(firsts) < loader.num_workers and not isinstance(batch, Exception):
            firsts.append(checksum(batch))
            if len(firsts) == loader.num_workers and len(set(firsts)) < len(firsts):
                warnings.warn(
                    f"workers of {called(loader)} begin with the same rows, so each "
                    "row seems to come several times: let the dataset share its rows out, by "
                    "torch.utils.data.get_worker_info(), or set num_workers=1",
                    UserWarning,
                    stacklevel=2,
                )
        yield batch

"""Shards of a `DataLoader` by process: several processes together read each batch once.

accelerate's `prepare_data_loader` is not used: even with `even_batches=False` it repeats rows of an iterable dataset,
loses batches where the loader drops its last rows or its sampler gives batches of several sizes, and puts a generator
into the user's sampler. How processes hand each other their rows is in `processes`.
"""

import warnings
import zlib
from collections.abc import Generator, Iterable, Iterator
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, Sampler

from model_handler.data.batch import ALL, Share
from model_handler.data.checksums import checksum
from model_handler.data.loader_errors import data_name

__all__ = ["NOTHING", "read_share"]

NOTHING = object()  # what stands in for a batch where the last round of batches has none for this process


def read_share(loader: DataLoader, share: Share) -> Generator[tuple[Any, int], None, None]:
    """Yield the loader's batches that belong to a share, each with a checksum of the order in which all are read.

    A loader that draws its batches from a sampler reads nothing but its share; any other is read as a whole, and the
    rest is dropped. Processes that read the same have the same checksums, batch for batch.
    """
    if share == ALL:
        yield from ((batch, 0) for batch in _read_once(loader))
    elif isinstance(loader.dataset, IterableDataset) or type(loader).__iter__ is not DataLoader.__iter__:
        yield from _every_nth(loader, share)
    else:
        plan = _Plan(loader.sampler if loader.batch_sampler is None else loader.batch_sampler, share)
        yield from ((batch, plan.order) for batch in _loader_with(loader, plan))


class _Plan(Sampler):
    """The share of what a sampler gives; `order` is a checksum of the whole, known once it is iterated."""

    def __init__(self, sampler: Iterable[Any], share: Share) -> None:
        self.sampler = sampler
        self.share = share
        self.order = 0

    def __iter__(self) -> Iterator[Any]:
        indices = list(self.sampler)  # here and not before: a loader draws its own seed before its sampler does
        self.order = zlib.crc32(repr(indices).encode())
        yield from self.share.take(indices)


def _loader_with(loader: DataLoader, plan: _Plan) -> DataLoader:
    options: dict[str, Any] = {"batch_size": None, "sampler": plan}
    if loader.batch_sampler is not None:
        options = {"batch_sampler": plan}
    return DataLoader(
        loader.dataset,
        **options,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
    )


def _every_nth(loader: DataLoader, share: Share) -> Iterator[tuple[Any, int]]:
    """Yield one batch of each round of `share.of` batches; NOTHING where the last round ends before it."""
    own, order, position = NOTHING, 0, 0
    for number, batch in enumerate(_read_once(loader)):
        position = number % share.of
        order = checksum(batch, order)
        if position == share.index:
            own = batch
        if position == share.of - 1:
            yield own, order
            own = NOTHING
    if position != share.of - 1:
        yield own, order


def _read_once(loader: DataLoader) -> Iterator[Any]:
    """Yield the batches of a loader; a UserWarning where two of its workers begin with the same batch of a stream.

    torch lets each worker give all rows of a stream, unless the stream itself shares its rows out.
    """
    if loader.num_workers < 2 or not isinstance(loader.dataset, IterableDataset):
        yield from loader
        return
    firsts: list[int] = []
    for batch in loader:
        if len(firsts) < loader.num_workers and not isinstance(batch, Exception):
            firsts.append(checksum(batch))
            if len(firsts) == loader.num_workers and len(set(firsts)) < len(firsts):
                warnings.warn(
                    f"workers of {data_name(loader)} begin with the same rows, so each "
                    "row seems to come several times: let the dataset share its rows out, by "
                    "torch.utils.data.get_worker_info(), or set num_workers=1",
                    UserWarning,
                    stacklevel=2,
                )
        yield batch

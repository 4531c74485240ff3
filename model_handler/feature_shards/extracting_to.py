"""Extraction into a directory of shards: the method of `ModelHandler` that outlives a night.

A shard is computed, written under another name, synced and renamed, before the next one is begun. So what was finished
stays, whatever happens, and the same call goes on behind it.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model_handler.data import (
    Batch,
    Batches,
    ImageFolderData,
    data_name,
    named_classes,
    names_beside_inputs,
    opened,
    refuse_dropped_rows,
    refuse_in_prefetching,
    shuffling_sampler,
)
from model_handler.data.text.text_transform import reads_text
from model_handler.extraction.engine import NETWORK_LOCK
from model_handler.extraction.extracting import extract_features
from model_handler.extraction.pooling import Pooling, check_poolings
from model_handler.feature_cache.caching import Request
from model_handler.feature_shards.directory import ShardDirectory, writing_alone
from model_handler.feature_shards.fingerprint import fingerprint
from model_handler.feature_shards.ranks import own_rank
from model_handler.feature_shards.row_plan import PlannedShard, RowPlan
from model_handler.features import Features, ShardedFeatures
from model_handler.features.manifests import Manifest
from model_handler.features.shard_files import Shard, write_shard
from model_handler.network.ambient_modes import undisturbed
from model_handler.network.device import check_device
from model_handler.progress import Progress
from model_handler.user_warnings import warn_user

__all__ = ["ROWS_PER_SHARD", "ShardedExtractionMixin"]

ROWS_PER_SHARD = 10_000  # 50 MB of 1,280 features; what a break costs at most
_MOST_TOLD = 20  # images that were skipped, in a warning
_LOG = logging.getLogger(__name__)

RowsOf = Callable[[Batch], Iterator[list[Tensor]]]


class ShardedExtractionMixin:
    """Features of more data than fits into memory, or than one call can be sure to live through."""

    batches: Callable[[Any], Batches]

    @undisturbed()
    def extract_to(
        self,
        path: str | PathLike[str],
        data: Any,
        layer_names: Sequence[str],
        *,
        pooling: Pooling = "flatten",
        rows_per_shard: int = ROWS_PER_SHARD,
        key: str | None = None,
        judge: Callable[[Any], None] | None = None,
    ) -> ShardedFeatures | None:
        """Extract the features of `data` at the named layers into a directory, shard by shard.

        Where it was broken off, by whatever, the same call goes on: finished shards are not computed again, and their
        rows are not decoded. One batch and one shard are in memory at most. Of several processes that `torchrun`
        started, on one machine or on many that see the same directory, each takes the shards of its rank and waits for
        no other; shards of a lost one are found missing by the next call.

        Parameters
        ----------
        path : str or path
            The directory. One that holds features of other data, another network, other layers, pooling or settings is
            refused, and what differs is named.
        data : any data
            As `extract` takes it; also a `TarShards`. Files are known by their names, sizes and times. Data that comes
            in an order of its own (a DataLoader, a stream) is read from its beginning when a call goes on.
        layer_names, pooling, judge
            As in `extract`.
        rows_per_shard : int
            How many rows a shard has; the last one may have fewer. A stream is cut between batches.
        key : str, optional
            What to know those things by that cannot be known otherwise: a network, a transform or a pooling that
            nothing identifies, and the rows of a Dataset or a DataLoader, of which a few are looked at.

        Returns
        -------
        ShardedFeatures or None
            The features, opened; None where shards of other processes are missing yet.

        Raises
        ------
        NotADirectoryError
            If `path` is a file.
        ValueError
            If the directory holds something else; if `rows_per_shard` is no whole number above 0, the data is empty, a
            DataLoader shuffles, or something cannot be known and there is no `key`.
        TimeoutError
            If another process writes these shards.
        OSError
            If a shard cannot be written, with the bytes that it needs; the finished ones stay.
        TypeError, UnknownLayerError, ModelError
            As by `extract`.

        Examples
        --------
        >>> import torch
        >>> from model_handler import ModelHandler
        >>> handler = ModelHandler(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()))
        >>> images = torch.rand(5, 3, 8, 8)
        >>> handler.extract_to("features_of_five", (images, [0, 1, 0, 1, 1]), ["1"], pooling="avg", rows_per_shard=2)
        ShardedFeatures('features_of_five': 5 rows in 3 shards; 1: 4; with labels)
        """
        refuse_in_prefetching()
        _check_options(rows_per_shard, key, data)
        with NETWORK_LOCK:
            names = self._check_names(layer_names)  # type: ignore[attr-defined]
            check_poolings([pooling])
            check_device(self.device)  # type: ignore[attr-defined]
            data = _unread(opened(data, self.transform))  # type: ignore[attr-defined]
            batches = self.batches(data)
            plan = RowPlan(batches, rows_per_shard, self._starting_at(data))
            self._engine.follow_source(batches.n_rows)  # type: ignore[attr-defined]
            request: Request = self._request(data, names)  # type: ignore[attr-defined]
            directory = ShardDirectory(
                path, _manifest(request, plan, rows_per_shard, fingerprint(request, pooling, key))
            )
            is_complete = directory.is_complete
            if not is_complete:
                rows_of = self._rows_of(names, [pooling])  # type: ignore[attr-defined]
                is_complete = self._write_shards(directory, plan, _Shards(request, rows_of, judge))
        return ShardedFeatures(path) if is_complete else None

    def _write_shards(self, directory: ShardDirectory, plan: RowPlan, shards: "_Shards") -> bool:
        """Write the shards of this process that are missing, and tell whether all are there then."""
        rank = own_rank(self.share)  # type: ignore[attr-defined]

        def is_missing(number: int) -> bool:
            return rank.owns(number) and directory.first_row(number) is None

        with writing_alone(directory.path, rank):
            own = None if plan.n_shards is None else set(filter(is_missing, range(plan.n_shards)))
            n_left = None if own is None else sum(map(plan.rows_of, own))
            planned = plan.shards(is_missing if own is None else own.__contains__, directory.first_row)
            with (
                Progress("Extracting features", n_left, self.verbose) as progress,  # type: ignore[attr-defined]
                torch.no_grad(),  # not in inference mode, where no forward could differentiate
                closing(planned),  # type: ignore[type-var]
            ):
                for each in planned:
                    _write(directory, each, shards.computed(each, progress))
                progress.finish()
            is_complete = directory.complete(plan.n_shards or 0, plan.n_rows or 0)
        if not is_complete:
            _LOG.info("%s: %s has written its shards; those of others are missing yet", directory.path, rank)
        if shards.skipped:
            warn_user(f"{len(shards.skipped)} images were skipped: " + "\n".join(shards.skipped[:_MOST_TOLD]))
        return is_complete

    def _starting_at(self, data: Any) -> Callable[[int], Batches] | None:
        skip = getattr(data, "skip", None)
        return None if skip is None else lambda n_rows: self.batches(skip(n_rows))


class _Shards:
    """Computes shards of what a request asks for."""

    def __init__(self, request: Request, rows_of: RowsOf, judge: Callable[[Any], None] | None) -> None:
        self._names, self._rows_of, self._judge = request.layer_names, rows_of, judge
        self.skipped: list[str] = []
        self._row_names = None if reads_text(request.transform) else names_beside_inputs(request.data)

    def computed(self, planned: PlannedShard, progress: Progress) -> Shard:
        """Return the shard, having read its batches."""
        skipped: dict[int, str] = {}
        rows: list[np.ndarray | None] = []

        def watched() -> Iterator[Batch]:
            for batch in planned.batches:
                skipped.update(batch.skipped)
                progress.advance(batch.n_rows + len(batch.skipped))
                if batch.n_rows:
                    rows.append(batch.rows)
                    if self._judge is not None:
                        self._judge(batch.inputs)
                    yield batch

        features = self._extracted(watched(), planned.n_rows, skipped)
        names = None
        if self._row_names is not None and all(part is not None for part in rows):
            numbers = sorted(int(row) for part in rows if part is not None for row in part)
            names = [self._row_names[number] for number in numbers]
        end = planned.first + len(features) + len(skipped)
        reasons = [skipped[row] for row in sorted(skipped)]
        self.skipped += reasons
        return Shard(planned.first, end, features, names, reasons)

    def _extracted(self, batches: Iterator[Batch], n_rows: int | None, skipped: dict[int, str]) -> Features:
        try:
            return extract_features(batches, self._rows_of, self._names, n_rows)[0]
        except ValueError:
            if len(skipped) != n_rows:
                raise
            return Features({name: np.empty((0, 0), np.float32) for name in self._names})  # of no image that is whole


def _write(directory: ShardDirectory, planned: PlannedShard, shard: Shard) -> None:
    try:
        write_shard(directory.path, planned.number, shard, directory.manifest)
    except OSError as error:
        text = f"{error.strerror or error}; the shards that are finished stay, and the same call goes on behind them"
        raise (OSError(text) if error.errno is None else OSError(error.errno, text)) from error


def _manifest(request: Request, plan: RowPlan, rows_per_shard: int, computed_by: dict[str, Any]) -> Manifest:
    classes = named_classes(request.data)
    names = None if classes is None else list(classes)
    return Manifest(request.layer_names, rows_per_shard, plan.n_rows, plan.n_shards, names, computed_by)


def _unread(data: Any) -> Any:
    """Return a folder of which images were skipped before as it was when it was new: rows are counted before that."""
    if isinstance(data, ImageFolderData) and data.skipped:
        return ImageFolderData(data.path, data.transform, data.on_error)
    return data


def _check_options(rows_per_shard: object, key: object, data: object) -> None:
    if isinstance(rows_per_shard, bool) or not isinstance(rows_per_shard, int | np.integer) or rows_per_shard < 1:
        raise ValueError(f"rows_per_shard must be a whole number of at least 1, got {rows_per_shard!r}")
    if key is not None and not isinstance(key, str):
        raise ValueError(f"key must be text that names what cannot be known, got {key!r}")
    refuse_dropped_rows(data)
    if (sampler := shuffling_sampler(data)) is not None:
        raise ValueError(
            f"{data_name(data)} shuffles ({type(sampler).__name__}), so that a later call could not go on: set "
            "shuffle=False, or give the dataset itself"
        )

"""Extraction runs batches through a program and collects their rows in one float32 matrix.

One allocation where the number of rows is known; each layer's features are columns of it. On a CPU a batch of images is
computed in chunks that fit its caches, with channels innermost in memory, whatever the size of the batch:
`benchmarks/chunks.py` has the measurements.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model_handler.data import Batch
from model_handler.data.batch import in_order
from model_handler.errors import ModelError
from model_handler.features import Features

__all__ = ["chunks", "extract_features", "refuse_other_rows"]

_CHUNK_NUMBERS = 4 * 3 * 224 * 224


def extract_features(
    batches: Iterable[Batch],
    rows_of: Callable[[Batch], Iterable[list[Tensor]]],
    layer_names: list[str],
    n_rows: int | None,
    class_names: Sequence[str] | None = None,
    n_poolings: int = 1,
) -> list[Features]:
    """Run `rows_of` on every batch and lay the results side by side, in the order of the data.

    `rows_of` gives a batch's rows in blocks, one array a layer, and those of one pooling after those of another: a
    `Features` each. `n_rows` is the number of rows where it is known, or an upper bound of it. Raises ValueError if
    there is no batch, and ModelError where batches give features of different widths.
    """
    tables = [_Table(n_rows) for _ in range(n_poolings)]
    n_layers = len(layer_names)
    labels: list[np.ndarray] = []
    places: list[np.ndarray | None] = []
    for batch in batches:
        for rows in rows_of(batch):
            for number, table in enumerate(tables):
                table.append(rows[number * n_layers : (number + 1) * n_layers])
        if batch.labels is not None:
            labels.append(batch.labels)
        places.append(batch.places)
    all_labels = in_order(_all_labels(labels), places) if labels else None
    columns = [table.columns(places) for table in tables]
    return [Features(dict(zip(layer_names, each, strict=True)), all_labels, class_names) for each in columns]


def chunks(inputs: Mapping[str, Any], n_rows: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield inputs in pieces of about four photographs' worth of numbers, each with its number of rows.

    Only images are cut: one image of 224 x 224 makes activations of megabytes.
    """
    sizes = [part[0].numel() for part in inputs.values() if isinstance(part, Tensor) and part.ndim >= 4 and len(part)]
    step = max(1, _CHUNK_NUMBERS // max(sizes)) if sizes else n_rows
    for start in range(0, n_rows, step):
        rows = slice(start, min(start + step, n_rows))
        piece = {name: part[rows] if _has_rows(part, n_rows) else part for name, part in inputs.items()}
        yield piece, rows.stop - rows.start


def refuse_other_rows(name: str, rows: Tensor, wanted: int) -> None:
    """Raise ModelError if a layer did not give one row an input."""
    if len(rows) != wanted:
        raise ModelError(
            f"layer {name!r} gives {len(rows)} rows for {wanted} inputs, so its output has no row for each input; "
            "take a layer before or behind it"
        )


class _Table:
    """Rows arriving in blocks; grows by doubling only where their number is not known."""

    def __init__(self, n_rows: int | None) -> None:
        self.capacity = n_rows
        self.filled = 0
        self.widths: list[int] = []
        self._storage: np.ndarray | None = None

    def columns(self, places: list[np.ndarray | None]) -> list[np.ndarray]:
        """Return each layer's rows, `in_order`, as views of one matrix. Raises ValueError if there are none."""
        if self._storage is None:
            raise ValueError("the data is empty: there is no input to compute features of")
        return np.split(in_order(self._storage[: self.filled], places), np.cumsum(self.widths)[:-1], axis=1)

    def append(self, blocks: list[Tensor]) -> None:
        end = self.filled + len(blocks[0])
        self._make_room(end, [block.shape[1] for block in blocks])
        start_column = 0
        for block, width in zip(blocks, self.widths, strict=True):
            # straight into its place: concatenating blocks at the end would need the memory twice
            target = self._storage[self.filled : end, start_column : start_column + width]  # type: ignore[index]
            torch.from_numpy(target).copy_(block)
            start_column += width
        self.filled = end

    def _make_room(self, end: int, widths: list[int]) -> None:
        if self._storage is None:
            self.widths = widths
            self._storage = np.empty((max(self.capacity or 0, end), sum(widths)), dtype=np.float32)
        if widths != self.widths:
            raise ModelError(
                f"a batch gives features of widths {widths} where the ones before gave {self.widths}: inputs differ in "
                "size; resize them, or pool with 'avg' or 'max'"
            )
        if end > len(self._storage):
            grown = np.empty((max(2 * len(self._storage), end), sum(widths)), dtype=np.float32)
            grown[: self.filled] = self._storage[: self.filled]
            self._storage = grown


def _all_labels(labels: list[np.ndarray]) -> np.ndarray:
    if len({part.dtype.kind in "US" for part in labels}) > 1:
        raise ValueError("some batches have text for labels and others numbers; make them all one or the other")
    return np.concatenate(labels)


def _has_rows(part: object, n_rows: int) -> bool:
    return isinstance(part, Tensor) and part.ndim > 0 and len(part) == n_rows

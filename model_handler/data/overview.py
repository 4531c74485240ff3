"""An overview of data is read before any work on them: labels, row numbers, and two rows as an example.

Where labels stand beside the inputs nothing is loaded; elsewhere the data is read through once.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from model_handler.data.batch import Batches, as_labels
from model_handler.data.batches import as_batches
from model_handler.data.image_folder import ImageFolderData
from model_handler.data.loaders import has_numbered_rows, split_labels
from model_handler.data.tables.table_data import TableData, as_table
from model_handler.data.tar.tar_shards import TarShards, names_tars
from model_handler.data.text.text_transform import reads_text

__all__ = [
    "Overview",
    "generators_of",
    "labels_beside_inputs",
    "look_through",
    "names_beside_inputs",
    "opened",
    "unmoved_generators",
]


@dataclass(frozen=True, eq=False)
class Overview:
    """Labels of shape (n_rows,), or None; the number of each row, or None where rows come in the data's own order.

    `n_batches` is how many batches the data gives in a pass, `max_batch_size` the rows of the largest, `example` the
    inputs of up to two rows.
    """

    labels: np.ndarray | None
    rows: np.ndarray | None
    n_rows: int
    n_batches: int
    max_batch_size: int
    example: Any


def opened(data: object, transform: Callable[[Any], Any] | None = None) -> Any:
    """Return the folder that a path leads to, which is then listed once, tar shards, or rows of a Hugging Face dataset.

    Any other data comes back as it is, and so does a text, which a string is where `transform` reads such.
    """
    if isinstance(data, (str, PathLike)) and not reads_text(transform) and os.path.isdir(data):
        return ImageFolderData(data)
    if names_tars(data) and not reads_text(transform):
        return TarShards(data)
    return as_table(data)


def look_through(data: Any, *, batch_size: int, **options: Any) -> Overview:
    """Read the labels of any data; `options` are those of `as_batches`. Generators of a loader stay as they were."""
    data = opened(data, options.get("transform"))
    batches = as_batches(data, batch_size=batch_size, **options)
    labels = labels_beside_inputs(data)
    if labels is None:
        with unmoved_generators(data):
            return _from_pass(batches)
    rows = data.rows if isinstance(data, ImageFolderData) else np.arange(len(labels))
    first = next(iter(as_batches(data, batch_size=2, **{**options, "rows": rows[:2]})))
    n_batches, max_batch_size = math.ceil(len(labels) / batch_size), min(batch_size, len(labels))
    return Overview(labels, rows, len(labels), n_batches, max_batch_size, _few(first.inputs))


def generators_of(data: object) -> list[torch.Generator]:
    """Return the generators that a DataLoader draws from, but for torch's own; none for any other data."""
    if not isinstance(data, DataLoader):
        return []
    samplers = (data.sampler, data.batch_sampler, getattr(data.batch_sampler, "sampler", None))
    found = [data.generator, *(getattr(sampler, "generator", None) for sampler in samplers)]
    return [
        generator
        for generator in {id(generator): generator for generator in found}.values()
        if isinstance(generator, torch.Generator)
    ]


@contextmanager
def unmoved_generators(data: object) -> Iterator[None]:
    """Leave the generators that a DataLoader draws from, but for torch's own, as they were before this block."""
    states = [(generator, generator.get_state()) for generator in generators_of(data)]
    try:
        yield
    finally:
        for generator, state in states:
            generator.set_state(state)


def _from_pass(batches: Batches) -> Overview:
    example, read = None, []
    for batch in batches:
        example = _few(batch.inputs) if example is None else example
        read.append((batch.labels, batch.rows, batch.n_rows))
    labels, rows, counts = zip(*read)
    return Overview(
        None if labels[0] is None else np.concatenate(labels),
        None if rows[0] is None else np.concatenate(rows),
        sum(counts),
        len(counts),
        max(counts),
        example,
    )


def _few(inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return {name: part[:2] for name, part in inputs.items()}
    return tuple(part[:2] for part in inputs) if isinstance(inputs, tuple) else inputs[:2]


def labels_beside_inputs(data: object) -> np.ndarray | None:
    """Return labels that can be read without an input; None where there are none, or they come with the inputs."""
    if isinstance(data, (ImageFolderData, TableData)):
        return data.labels
    if isinstance(data, Dataset):
        labels = _of_dataset(data) if has_numbered_rows(data) else None
    elif isinstance(data, (tuple, Mapping)):
        labels = split_labels(data, "the data")[1]
    else:
        labels = None
    return None if labels is None else as_labels(labels)


def names_beside_inputs(data: object) -> Sequence[str] | None:
    """Return what the rows of data are called: paths of images, below the folder of a folder, or keys in tar files.

    They are those of all rows by number, before any is skipped; None where rows have no names.
    """
    if isinstance(data, ImageFolderData):
        return [str(path.relative_to(data.path)) for path in data.paths]
    if isinstance(data, TarShards):
        return data.names
    if isinstance(data, TableData):
        cells = data.written
    else:
        cells = data[0] if isinstance(data, tuple) and len(data) == 2 else data  # type: ignore[assignment]
    if not isinstance(cells, list) or not all(isinstance(cell, str | PathLike) for cell in cells):
        return None
    return [os.fspath(cell) for cell in cells]


def _of_dataset(dataset: Any) -> Any:
    """Return the labels of datasets that are known to keep them as they give them."""
    if type(dataset) is Subset:
        labels = _of_dataset(dataset.dataset)
        return None if labels is None else as_labels(labels)[np.asarray(dataset.indices, dtype=np.int64)]
    if type(dataset) is TensorDataset:
        return dataset.tensors[1] if len(dataset.tensors) == 2 else None
    from_torchvision = type(dataset).__module__.startswith("torchvision.datasets")
    return dataset.targets if from_torchvision and _gives_targets(dataset) else None


def _gives_targets(dataset: Any) -> bool:
    targets, changes = getattr(dataset, "targets", None), getattr(dataset, "target_transform", None)
    return changes is None and isinstance(targets, (list, torch.Tensor)) and len(targets) == len(dataset)

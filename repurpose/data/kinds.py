"""Kinds of data are told apart here and nowhere else in `repurpose`: all else asks this module what the user gave.

`model_handler.data` turns every kind into batches. What stands here is what transfer has to know before that: where the
labels are, which rows can be taken by number, and what a row is called.
"""

import os
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, TypeGuard

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from model_handler import Features, ImageFolderData, ShardedFeatures, TableData
from model_handler.data import named_classes, opened

__all__ = [
    "class_names_in",
    "column_names_in",
    "file_of_row",
    "inputs_of",
    "is_dict_of_arrays",
    "is_features",
    "is_file",
    "is_image_folder",
    "is_inputs_of_parts",
    "is_pair",
    "is_sharded",
    "is_table",
    "kind_of",
    "n_rows_in",
    "opened",
    "orders_its_own_rows",
    "take_rows",
]

Pair = tuple[Any, Any]


def is_features(data: object) -> TypeGuard[Features]:
    """Return whether data are outputs of layers, computed already."""
    return isinstance(data, Features)


def is_sharded(data: object) -> TypeGuard[ShardedFeatures]:
    """Return whether data are features in parts, which may not fit in memory, such as `Features.open` gives them."""
    return hasattr(data, "blocks") and hasattr(data, "layer_names")


def is_pair(data: object) -> TypeGuard[Pair]:
    """Return whether data are (inputs, labels), as every 2-tuple is."""
    return isinstance(data, tuple) and len(data) == 2


def is_inputs_of_parts(data: object) -> TypeGuard[tuple[Any]]:
    """Return whether data are ``((a, b),)``, unlabelled inputs of several parts."""
    return isinstance(data, tuple) and len(data) == 1


def is_image_folder(data: object) -> TypeGuard[ImageFolderData]:
    """Return whether data are a folder of images, listed already."""
    return isinstance(data, ImageFolderData)


def is_table(data: object) -> TypeGuard[TableData]:
    """Return whether data are rows of a table, whose columns have names."""
    return isinstance(data, TableData)


def is_file(data: object) -> TypeGuard[str | PathLike]:
    """Return whether data are the path of a single file."""
    return isinstance(data, (str, PathLike)) and os.path.isfile(data)


def is_dict_of_arrays(data: object) -> TypeGuard[Mapping[Any, Any]]:
    """Return whether data are inputs by name, and perhaps labels; sparse matrices of one format are mappings too."""
    return isinstance(data, Mapping) and not hasattr(data, "toarray")


def orders_its_own_rows(data: object) -> bool:
    """Return whether data bring their labels along, in an order of their own: loaders, datasets and folders."""
    return isinstance(data, (DataLoader, Dataset, ImageFolderData, str, PathLike))


def kind_of(data: object) -> str:
    """Name the data for a message: by their class, and "DataLoader" for every kind of loader."""
    return "DataLoader" if isinstance(data, DataLoader) else type(data).__name__


def inputs_of(data: object) -> Any:
    """Return the inputs of a pair of inputs and labels; other data as they are."""
    return data[0] if is_pair(data) else data


def n_rows_in(inputs: object) -> int | None:
    """Return how many rows inputs have, where these are an array or a list; None where only reading them tells."""
    if getattr(inputs, "is_nested", False) is True:  # a tensor without a shape, which is refused where it is read
        return None
    if isinstance(inputs, list):
        return len(inputs)
    shape: tuple[int, ...] = getattr(inputs, "shape", ())
    return shape[0] if len(shape) > 0 else None


def take_rows(inputs: object, rows: np.ndarray) -> Any:
    """Take rows of an array, tensor, list or table by number, `rows` (n_taken,); None of what cannot be asked so."""
    if isinstance(inputs, list):
        return [inputs[row] for row in rows]
    return inputs[rows] if isinstance(inputs, (np.ndarray, torch.Tensor, TableData)) else None


def file_of_row(data: object, number: int) -> str:
    """Return the path of the file that a row is read from; empty text for rows that are no files."""
    if is_image_folder(data):
        return str(data.paths[number])
    inputs = inputs_of(data)
    if is_table(inputs):
        entry: Any = os.fspath(inputs.folder / str(inputs.written[number]))  # or a text
    elif hasattr(inputs, "iloc"):  # a column of pandas
        entry = inputs.iloc[number]
    elif isinstance(inputs, list) or (isinstance(inputs, np.ndarray) and inputs.ndim == 1):
        entry = inputs[number]
    else:
        return ""
    names_a_file = isinstance(entry, PathLike) or (isinstance(entry, str) and os.path.isfile(entry))
    return os.fspath(entry) if names_a_file else ""


def class_names_in(data: object) -> Sequence[str] | None:
    """Return the names that data have for the labels 0, 1, ...; None where they have none."""
    return data.class_names if is_features(data) or is_sharded(data) else named_classes(data)


def column_names_in(data: object) -> list[object]:
    """Return the column names of a table, such as a pandas DataFrame, given alone or beside labels; else none."""
    table = inputs_of(data)
    if isinstance(table, Dataset) or len(getattr(table, "shape", ())) != 2:
        return []
    return list(getattr(table, "columns", ()))

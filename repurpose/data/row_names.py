"""What rows are called in messages: their number in the data as they were given, and their file if they have one."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from model_handler import ImageFolderData

__all__ = ["naming_rows"]


def naming_rows(data: Any, weights: np.ndarray | None = None) -> Callable[[int], str]:
    """A function that gives the row of a number a name, such as "3" or "3 (pets/cat/7.png)".

    Its argument counts the rows of `data` whose weight (n_rows,), where there are weights, is not 0.
    """
    numbers = None if weights is None else np.flatnonzero(weights > 0)

    def name(row: int) -> str:
        number = int(row if numbers is None else numbers[row])
        file = _file_of(data, number)
        return f"{number} ({file})" if file else str(number)

    return name


def _file_of(data: Any, number: int) -> str:
    if isinstance(data, ImageFolderData):
        return str(data.paths[number])
    inputs = data[0] if isinstance(data, tuple) and len(data) == 2 else data
    if hasattr(inputs, "iloc"):  # a column of pandas
        entry = inputs.iloc[number]
    elif isinstance(inputs, list) or (isinstance(inputs, np.ndarray) and inputs.ndim == 1):
        entry = inputs[number]
    else:
        return ""
    is_file = isinstance(entry, os.PathLike) or (isinstance(entry, str) and os.path.isfile(entry))
    return os.fspath(entry) if is_file else ""

"""Which columns of a table are inputs, and how their cells become data that a Repurposer reads."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from model_handler.data.decoding import UnreadableImageError, image_in_file
from model_handler.errors import first_few, nearest
from model_handler.missing_values import is_missing

__all__ = ["data_of", "input_columns"]

_OBJECTS = "OSUT"  # kinds of arrays whose cells are objects or text


def input_columns(
    columns: Sequence[str], wanted: str | Sequence[str] | None, trained_on: Sequence[str] | None
) -> list[str]:
    """Return the columns that are inputs: those asked for, else those of training, else the only one there is.

    Raises ValueError where one is not there, naming the nearest, or where nothing tells which one is meant.
    """
    names = [wanted] if isinstance(wanted, str) else wanted if wanted is not None else trained_on
    if names is not None and not len(names):
        raise ValueError("predictor(input=...) names no column")
    if names is None:
        if len(columns) == 1:
            return list(columns)
        raise ValueError(
            f"the table has the columns {first_few([repr(name) for name in columns], 8) or 'none'}, and one of them is "
            "the input: name it, predictor(input=...)"
        )
    missing = [name for name in names if name not in columns]
    if missing:
        near = [repr(name) for name in nearest(str(missing[0]), [str(name) for name in columns])]
        told = f"the nearest are {', '.join(near)}" if near else "it has no columns"
        lacking = first_few([repr(name) for name in missing])
        origin = "" if wanted is not None else ", which training had"
        raise ValueError(f"the table has no column {lacking}{origin}; {told}: predictor(input=...) says which is meant")
    return list(names)


def data_of(columns: Sequence[Any], *, reads_text: bool) -> tuple[Any, dict[int, str]]:
    """Return the rows of a column, or of several columns of numbers side by side, as data to predict.

    Cells may be the bytes of image files, and the dicts that `datasets` has for images that are not decoded. Those
    that hold no image and those that are missing are left out: the second value says why, by the number of the row.
    Raises ValueError for columns of different lengths.
    """
    if len(lengths := {len(column) for column in columns}) > 1:
        raise ValueError(f"the columns of the input differ in length: {sorted(lengths)} rows")
    if len(columns) > 1:
        return np.column_stack([np.asarray(column) for column in columns]), {}
    column = columns[0].to_numpy() if hasattr(columns[0], "to_numpy") else columns[0]
    if isinstance(column, Tensor) or (isinstance(column, np.ndarray) and column.dtype.kind not in _OBJECTS):
        return _side_by_side(column), {}
    rows, unreadable = [], {}
    for number, cell in enumerate(column):
        if is_missing(cell):
            unreadable[number] = f"it is missing ({cell})"
            continue
        try:
            rows.append(cell if reads_text else _opened(cell))
        except UnreadableImageError as error:
            unreadable[number] = f"it cannot be read as an image: {error}"
    return _side_by_side(np.array(rows)) if rows and isinstance(rows[0], float) else rows, unreadable


def _side_by_side(column: Any) -> Any:
    """Return an array of a single number a row as a matrix of one column, others as they are."""
    is_of_single_numbers = isinstance(column, np.ndarray) and column.ndim == 1 and column.dtype.kind == "f"
    return column.reshape(-1, 1) if is_of_single_numbers else column


def _opened(cell: object) -> Any:
    """Return the image that a cell holds as the bytes of a file; other cells as they are."""
    if isinstance(cell, Mapping) and set(cell) == {"bytes", "path"}:
        cell = cell["path"] if cell["bytes"] is None else cell["bytes"]
    return image_in_file(bytes(cell)) if isinstance(cell, (bytes, bytearray, memoryview)) else cell

"""Rows to remove are given by their positions among the training rows, and judged before anything is done."""

from collections.abc import Mapping
from os import PathLike
from pathlib import PurePath

import numpy as np
import torch

from model_handler.errors import first_few, nearest

__all__ = ["checked_positions", "positions_of_files"]


def checked_positions(rows: object, n_rows: int) -> np.ndarray:
    """Return sorted positions, int64 (n_gone,), of one position, several, or a bool for each of `n_rows` rows.

    Raises TypeError for what is no whole number, ValueError for none at all, for positions that are not there, and for
    one that comes twice.
    """
    try:
        given = np.atleast_1d(rows.detach().cpu().numpy() if isinstance(rows, torch.Tensor) else np.asarray(rows))
    except ValueError as error:  # lists of several lengths
        raise ValueError(f"rows must be positions on one axis, whole numbers from 0 to {n_rows - 1}") from error
    if given.ndim != 1:
        raise ValueError(f"rows must be positions on one axis, got an array of shape {given.shape}")
    if given.dtype == bool:
        if len(given) != n_rows:
            raise ValueError(f"rows has {len(given)} truth values, and there are {n_rows} training rows")
        given = np.flatnonzero(given)
    if not len(given):
        raise ValueError("rows names no row to remove: give positions among the training rows, such as [0, 5]")
    if given.dtype.kind not in "iu":
        raise TypeError(f"rows must be positions, whole numbers from 0 to {n_rows - 1}, got {given[0]!r}")
    if len(unknown := given[(given < 0) | (given >= n_rows)]):
        raise ValueError(
            f"there is no training row {_named(unknown)}: positions are from 0 to {n_rows - 1}, and those "
            "behind a removed row have moved up"
        )
    numbers, counts = np.unique(given, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"rows names {_named(numbers[counts > 1])} more than once; name each row once")
    return numbers.astype(np.int64)


def positions_of_files(rows: object, files: np.ndarray | None) -> np.ndarray | None:
    """Return the positions of rows that are given as paths, among the `files` (n_rows,) of training; None for others.

    Raises ValueError where no files are known, for a path that is not among them, and for one that may be several.
    """
    given = [rows] if isinstance(rows, (str, PathLike)) else rows
    is_array = hasattr(given, "__array__") and not isinstance(given, torch.Tensor)  # numpy's, or a column of pandas
    paths = np.asarray(given).tolist() if is_array else given
    if (
        not isinstance(paths, (list, tuple))
        or not paths
        or not all(isinstance(path, (str, PathLike)) for path in paths)
    ):
        return None
    if files is None:
        raise ValueError("the training rows were no images of a folder, so they have no paths: give their positions")
    numbers: dict[str, list[int]] = {}
    for number, file in enumerate(files.tolist()):
        numbers.setdefault(file, []).append(number)
    return np.array([_position_of(PurePath(path), numbers) for path in paths])


def _named(positions: np.ndarray) -> str:
    return first_few([str(position) for position in positions.tolist()], 5)


def _position_of(path: PurePath, numbers: Mapping[str, list[int]]) -> int:
    """Find a file by its own name in the folder, or by a path that ends in that."""
    ends = ["/".join(path.parts[start:]) for start in range(len(path.parts))]
    found = [number for end in ends for number in numbers.get(end, [])]
    if not found:
        near = nearest(path.as_posix(), [file for file in numbers if file])
        raise ValueError(f"no training row is of the file {path.as_posix()!r}; nearest: {near}")
    if len(found) > 1:
        raise ValueError(f"several training rows may be of {path.as_posix()!r}: give one of the positions {found}")
    return found[0]

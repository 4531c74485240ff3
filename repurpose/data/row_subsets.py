"""Some rows of labelled data, as data of the same kind: what a fold trains on and what it holds out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch.utils.data import Dataset, IterableDataset, Subset

from repurpose.data.kinds import is_image_folder, is_pair, kind_of, take_rows
from repurpose.data.labels import label_array

__all__ = ["labelled_rows"]


def labelled_rows(data: object, rows: np.ndarray) -> Any:
    """Take rows of labelled data by number, in the order of `rows` (n_taken,), each with its label.

    Of a folder of images it is the paths and labels of those that are not skipped, without the folder's own transform.
    Raises TypeError for data whose rows have no numbers, such as a DataLoader.
    """
    if is_image_folder(data):
        return [data.paths[row] for row in rows], np.asarray(data.labels)[rows]
    if is_pair(data):
        return _inputs(data[0], rows), label_array(data[1])[rows]
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        return Subset(data, rows.tolist())
    return _inputs(data, rows)


def _inputs(inputs: object, rows: np.ndarray) -> Any:
    if isinstance(inputs, Mapping):
        return {name: _inputs(part, rows) for name, part in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(_inputs(part, rows) for part in inputs)
    if hasattr(inputs, "iloc"):  # a table or column of pandas
        return inputs.iloc[rows]
    if hasattr(inputs, "select") and hasattr(inputs, "column_names"):  # a dataset of Hugging Face
        return inputs.select(rows)
    if (taken := take_rows(inputs, rows)) is None:
        raise TypeError(
            f"rows of a {kind_of(inputs)} cannot be taken by number; give arrays (X, y), a list with labels, a folder, "
            "or the Dataset itself in place of a loader of it"
        )
    return taken

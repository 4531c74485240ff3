"""Columns are taken out of tables in memory: DataFrames of pandas, and Hugging Face `datasets`."""

import sys
from collections.abc import Sequence
from typing import Any

from model_handler.data.tables.columns import Columns, refuse_unknown_columns

__all__ = ["columns_of_dataset", "columns_of_frame", "is_frame", "is_hugging_face"]


def is_frame(table: object) -> bool:
    """Return whether a table is a DataFrame."""
    return hasattr(table, "columns") and hasattr(table, "iloc")


def is_hugging_face(table: object) -> bool:
    """Return whether a table is a `Dataset` of the package `datasets`; if that was never imported, it is not."""
    module = sys.modules.get("datasets")
    return module is not None and isinstance(table, getattr(module, "Dataset", ()))


def columns_of_frame(frame: Any, wanted: Sequence[str]) -> Columns:
    """Take some columns of a DataFrame. Raises ValueError where it lacks one or has no row."""
    names = list(map(str, frame.columns))
    refuse_unknown_columns("the DataFrame", names, wanted)
    _refuse_empty("the DataFrame", len(frame))
    cells = {name: frame.iloc[:, names.index(name)].tolist() for name in wanted}
    return Columns("the DataFrame", names, cells, lambda row: f"row {row}")


def columns_of_dataset(dataset: Any, wanted: Sequence[str], label: str | None) -> Columns:
    """Take some columns of a Hugging Face dataset, with the names of its classes where its column `label` has such.

    Raises ValueError where it lacks a column or has no row.
    """
    refuse_unknown_columns("the dataset", dataset.column_names, wanted)
    _refuse_empty("the dataset", len(dataset))
    cells = {name: list(dataset[name]) for name in wanted}
    classes = None if label is None else getattr(dataset.features[label], "names", None)
    return Columns("the dataset", dataset.column_names, cells, lambda row: f"row {row}", classes)


def _refuse_empty(name: str, n_rows: int) -> None:
    if not n_rows:
        raise ValueError(f"{name} is empty: it has no rows")

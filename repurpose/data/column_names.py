"""Column names of tables: an array has only places for its columns, and a table in another order would be misread."""

from typing import Any

import numpy as np
from torch.utils.data import Dataset

from model_handler.errors import nearest

__all__ = ["check_column_names", "column_names"]


def column_names(data: Any) -> np.ndarray | None:
    """The names (n_columns,) of a table of inputs, as scikit-learn's `feature_names_in_`; None where not all are text.

    `data` is the table, such as a pandas DataFrame, or a pair of it and labels.
    """
    table = data[0] if isinstance(data, tuple) and len(data) == 2 else data
    if isinstance(table, Dataset) or len(getattr(table, "shape", ())) != 2:
        return None
    names = list(getattr(table, "columns", ()))
    if not names or not all(isinstance(name, str) for name in names):
        return None
    return np.array(names, dtype=object)


def check_column_names(data: Any, learned: np.ndarray | None, class_name: str) -> None:
    """Raise ValueError for a table whose columns are not those of training, in that order.

    `learned` is what `column_names` gave in training. Where either has no names, columns are taken by their places.
    """
    names = column_names(data)
    if learned is None or names is None or np.array_equal(names, learned):
        return
    mine, theirs = names.tolist(), learned.tolist()
    if sorted(mine) == sorted(theirs):
        place = next(i for i, pair in enumerate(zip(mine, theirs)) if pair[0] != pair[1])
        wrong = f"its columns stand in another order: column {place} is {mine[place]!r} and was {theirs[place]!r}"
        fix = "give them in that order, as by X[repurposer.feature_names_in_]"
    else:
        missing = [name for name in theirs if name not in mine]
        new = [f"{name!r} (nearest: {nearest(name, missing or theirs)})" for name in mine if name not in theirs]
        told = [f"new are {_some(new)}"] if new else []
        if missing:
            told.append(f"missing are {_some(list(map(repr, missing)))}")
        wrong = ", ".join(told) or "some columns are there more than once"
        fix = "give those of training, as by X[repurposer.feature_names_in_], or X.to_numpy() if they mean the same"
    raise ValueError(f"X has other columns than those that {class_name} was trained on: {wrong}; {fix}")


def _some(texts: list[str]) -> str:
    return ", ".join(texts[:5]) + (f" and {len(texts) - 5} more" if len(texts) > 5 else "")

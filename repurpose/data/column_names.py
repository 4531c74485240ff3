"""Column names are compared with those of training: a table in another order would be misread as an array."""

import numpy as np

from model_handler.errors import first_few, nearest
from repurpose.data.kinds import column_names_in

__all__ = ["check_column_names", "column_names"]


def column_names(data: object) -> np.ndarray | None:
    """Return the column names (n_columns,) of a table, as scikit-learn's `feature_names_in_`; None if not all are text.

    `data` is the table, such as a pandas DataFrame, or a pair of it and labels.
    """
    names = column_names_in(data)
    if not names or not all(isinstance(name, str) for name in names):
        return None
    return np.array(names, dtype=object)


def check_column_names(data: object, learned: np.ndarray | None, class_name: str) -> None:
    """Raise ValueError for a table whose columns are not those of training, in that order.

    `learned` is what `column_names` gave in training. Where either has no names, columns are taken by their places.
    """
    names = column_names(data)
    if learned is None or names is None or np.array_equal(names, learned):
        return
    given, trained_on = names.tolist(), learned.tolist()
    if sorted(given) == sorted(trained_on):
        place = next(i for i, pair in enumerate(zip(given, trained_on)) if pair[0] != pair[1])
        wrong = f"its columns stand in another order: column {place} is {given[place]!r} and was {trained_on[place]!r}"
        fix = "give them in that order, as by X[repurposer.feature_names_in_]"
    else:
        missing = [name for name in trained_on if name not in given]
        new = [
            f"{name!r} (nearest: {nearest(name, missing or trained_on)})" for name in given if name not in trained_on
        ]
        differences = [f"new are {first_few(new, 5)}"] if new else []
        if missing:
            differences.append(f"missing are {first_few(list(map(repr, missing)), 5)}")
        wrong = ", ".join(differences) or "some columns are there more than once"
        fix = "give those of training, as by X[repurposer.feature_names_in_], or X.to_numpy() if they mean the same"
    raise ValueError(f"X has other columns than those that {class_name} was trained on: {wrong}; {fix}")

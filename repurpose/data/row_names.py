"""Messages name a row by its number in the data as they were given, and by its file if it has one."""

from collections.abc import Callable

import numpy as np

from repurpose.data.kinds import file_of_row

__all__ = ["naming_rows"]


def naming_rows(data: object, weights: np.ndarray | None = None) -> Callable[[int], str]:
    """Return a function that gives the row of a number a name, such as "3" or "3 (pets/cat/7.png)".

    Its argument counts the rows of `data` whose weight (n_rows,), where there are weights, is not 0.
    """
    numbers = None if weights is None else np.flatnonzero(weights > 0)

    def name(row: int) -> str:
        number = int(row if numbers is None else numbers[row])
        file = file_of_row(data, number)
        return f"{number} ({file})" if file else str(number)

    return name

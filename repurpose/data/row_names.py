"""Messages name a row by its number in the data as they were given, and by its file if it has one."""

from collections.abc import Callable

import numpy as np

from repurpose.data.kinds import file_of_row, is_image_folder

__all__ = ["files_in_folder", "naming_rows"]


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


def files_in_folder(data: object) -> np.ndarray | None:
    """Return the file of each row of a folder of images, such as "cat/7.png": str (n_rows,); None of other data."""
    if not is_image_folder(data):
        return None
    return np.array([path.relative_to(data.path).as_posix() for path in data.paths], dtype=str)

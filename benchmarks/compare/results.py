"""Results: named arrays and texts of one checkout, their file, and how those of two differ."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

__all__ = ["Results", "differences", "read_results"]

_N_BEFORE, _N_SHOWN = 20, 80
"""Of texts that differ, how many letters are shown before the place, and in all."""


class Results:
    """Arrays by unique names; texts are arrays of no axes. `under` gives a place for names that begin alike."""

    def __init__(self, arrays: dict[str, np.ndarray] | None = None, prefix: str = "") -> None:
        self.arrays: dict[str, np.ndarray] = {} if arrays is None else arrays
        self._prefix = prefix

    def under(self, name: str) -> Self:
        """The same results, in which all names begin with `name`."""
        return type(self)(self.arrays, f"{self._prefix}{name}: ")

    def add(self, name: str, value: Any) -> None:
        """Keep an array, a number or a text; of a mapping each value, under its key. None is a text.

        Raises ValueError for a name that is there already, as one of both results would not be compared.
        """
        if isinstance(value, Mapping):
            for key, each in value.items():
                self.add(f"{name}, {key}", each)
            return
        name = self._prefix + name
        if name in self.arrays:
            raise ValueError(f"there are two results named {name!r}")
        array = np.array(value)  # a copy, which what comes after cannot change
        self.arrays[name] = np.array(repr(array.tolist())) if array.dtype == object else array

    def write(self, file: Path) -> None:
        """As a file for `read_results`."""
        # names stand in an array of their own, as those of files in an archive may not hold everything
        arrays = {f"array{number}": array for number, array in enumerate(self.arrays.values())}
        np.savez(file, names=np.array(list(self.arrays), dtype=np.str_), **arrays)


def read_results(file: Path) -> dict[str, np.ndarray]:
    """The arrays that `Results.write` wrote, by name."""
    with np.load(file, allow_pickle=False) as stored:
        return {name: stored[f"array{number}"] for number, name in enumerate(stored["names"].tolist())}


def differences(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> list[str]:
    """A line for each name whose results differ in one bit, or that only one side has."""
    both = {name: difference(array, theirs[name]) for name, array in ours.items() if name in theirs}
    return [
        *(f"{name}: {found}" for name, found in both.items() if found),
        *(f"{name}: only in this checkout" for name in ours if name not in theirs),
        *(f"{name}: only in the other checkout" for name in theirs if name not in ours),
    ]


def difference(ours: np.ndarray, theirs: np.ndarray) -> str:
    """How two results differ, in words; empty where no bit does."""
    if ours.dtype.kind == "U" and theirs.dtype.kind == "U" and ours.shape == theirs.shape:
        return _of_texts(ours.reshape(-1).tolist(), theirs.reshape(-1).tolist())
    if (ours.dtype, ours.shape) != (theirs.dtype, theirs.shape):
        return f"{ours.dtype} {ours.shape} here, {theirs.dtype} {theirs.shape} there"
    if ours.tobytes() == theirs.tobytes():
        return ""
    differ = np.frombuffer(ours.tobytes(), f"V{ours.itemsize}") != np.frombuffer(theirs.tobytes(), f"V{ours.itemsize}")
    count = f"{differ.sum()} of {differ.size} numbers differ"
    if ours.dtype.kind not in "biuf":
        return count
    apart = np.abs(ours.reshape(-1)[differ].astype(np.float64) - theirs.reshape(-1)[differ].astype(np.float64))
    return f"{count}, by at most {np.max(apart):.3g}"  # NaN where only one side has it, 0 for zeros of two signs


def _of_texts(ours: list[str], theirs: list[str]) -> str:
    """Where two lists of texts begin to differ."""
    if ours == theirs:
        return ""
    one, other = "\n".join(ours), "\n".join(theirs)
    apart = (place for place, (letter, other_letter) in enumerate(zip(one, other)) if letter != other_letter)
    start = max(0, next(apart, min(len(one), len(other))) - _N_BEFORE)
    return f"{one[start : start + _N_SHOWN]!r} here, {other[start : start + _N_SHOWN]!r} there"

"""A `Batch` of rows on the way to a network, the iterable of all batches, and the conversions all kinds of data share.

Which kinds of data there are is decided in `batches`; images are read in `images`, loaders in `loaders`.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from model_handler.data.arrays import as_array, refuse_masked
from model_handler.data.labels import is_missing, refuse_no_labels
from model_handler.data.loader_errors import watching_workers
from model_handler.data.reading import Reading
from model_handler.data.text.refusals import refuse_text

__all__ = [
    "ALL",
    "Batch",
    "Batches",
    "Parts",
    "Share",
    "as_labels",
    "as_parts",
    "count_rows",
    "floating_dtype",
    "in_order",
    "labels_or_missing",
    "make_batch",
    "numbered",
    "of_reading",
    "take_rows",
]

Part: TypeAlias = np.ndarray | Tensor  # its first axis is the rows
Parts: TypeAlias = Part | tuple[Part, ...] | Mapping[str, Part]
Tensors: TypeAlias = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]
T = TypeVar("T")
# Of data without a length: after so many it may well have no end, and after so many it counts as having none.
MANY_ROWS, MOST_ROWS = 1_000_000, 5_000_000
_LENGTHS = (
    "give its dataset a __len__ that says how many rows it has, or an end, such as itertools.islice(rows, n) in its "
    "__iter__"
)


@dataclass(frozen=True, eq=False)
class Batch:
    """Some consecutive rows of data, on the device they were loaded on.

    `inputs` is a tensor, a tuple of tensors (inputs of several parts) or a dict of tensors by name; the first axis of
    each has `n_rows` entries. `labels` is an array with as many rows, or None where the data has none. `skipped` has
    the images left out, by number, and why. `order` is a checksum of the order in which the data was read, where
    several processes have to agree on it. `rows` has the number of each row in the data, shape (n_rows,), where rows
    have numbers by which they can be asked for again. `places` (n_rows,) says where each row stands in the order that
    was asked for, where batches come in another, as texts sorted by length do; `in_order` puts results back.
    """

    inputs: Any
    labels: np.ndarray | None
    n_rows: int
    skipped: Mapping[int, str] = field(default_factory=dict)
    order: int = 0
    rows: np.ndarray | None = None
    places: np.ndarray | None = None


@dataclass(frozen=True)
class Share:
    """The batches that one of several processes reads: number `index` and every `of`-th behind it."""

    index: int = 0
    of: int = 1

    def take(self, batches: Iterable[T]) -> Iterator[T]:
        """Yield those of `batches` that belong to the share."""
        return islice(batches, self.index, None, self.of)


ALL = Share()


class Batches:
    """An iterable of `Batch`, in the order of the data, which starts again each time it is iterated.

    Parameters
    ----------
    start : callable
        Gives a new iterator over a `Share` of the batches; the ones without rows are left out when iterating.
    n_rows : int or None
        How many rows there are, at most, where that is known beforehand.
    name : str
        What the data is, for messages: "the DataLoader".
    pass_on : callable, optional
        Sees all batches pass by, in order, wherever they were read, and passes them on.

    Raises
    ------
    ValueError
        At once if `n_rows` is 0. While iterating: if there was no row at all, if some batches have labels and others
        have none, if there are more rows than promised, or more than five million where nothing is promised.
    """

    def __init__(
        self,
        start: Callable[[Share], Iterator[Batch]],
        n_rows: int | None,
        name: str,
        pass_on: Callable[[Iterator[Batch]], Iterator[Batch]] = iter,
    ) -> None:
        self._start = start
        self.n_rows = n_rows
        self._name = name
        self._pass_on = pass_on
        self._n_given = 0  # in the latest iteration, so far
        self._at: Callable[[np.ndarray], Batches] | None = None
        if n_rows == 0:
            raise ValueError(f"{name} is empty: there is no row to work on")

    def __iter__(self) -> Iterator[Batch]:
        labelled: bool | None = None
        n_seen = self._n_given = 0
        for batch in self._all():
            if batch.n_rows == 0:
                continue
            if labelled is not None and labelled != (batch.labels is not None):
                raise ValueError(
                    f"{self._name} has labels in some batches and none in others; give every row a label, or none"
                )
            labelled = batch.labels is not None
            if self.n_rows is None and n_seen < MANY_ROWS <= n_seen + batch.n_rows:
                self._warn_of_no_end(n_seen + batch.n_rows)
            n_seen += batch.n_rows
            self._n_given = n_seen
            if self.n_rows is not None and n_seen > self.n_rows:
                raise ValueError(
                    f"{self._name} gives more rows than the {self.n_rows} of its length: either its __len__ is wrong, "
                    "or its workers repeat each other's rows (an IterableDataset shares them out by get_worker_info)"
                )
            if self.n_rows is None and n_seen > MOST_ROWS:
                raise ValueError(
                    f"{self._name} states no length and has given {n_seen:,} rows, so it is taken to have no end: "
                    f"{_LENGTHS}"
                )
            yield batch
        if n_seen == 0:
            raise ValueError(f"{self._name} is empty: it gave no row to work on")

    @property
    def has_numbers(self) -> bool:
        """Whether rows can be asked for by their numbers, by `at`."""
        return self._at is not None

    def at(self, rows: np.ndarray) -> "Batches":
        """Return batches of the rows with these numbers among all, (n_rows,) of int64, in this order; no other is read.

        Raises TypeError for data that comes in an order of its own.
        """
        if self._at is None:
            raise TypeError(f"the rows of {self._name} come in its own order and cannot be asked for by number")
        return self._at(rows)

    def watched(self) -> AbstractContextManager[None]:
        """Work on the batches inside this block: RowError where a worker that reads them is lost meanwhile."""
        return watching_workers(self._name, lambda: self._n_given)

    def judged(self, judge: Callable[[Any], None]) -> "Batches":
        """Return the same batches, the inputs of each seen by `judge` first, which may raise an error."""

        def start(share: Share) -> Iterator[Batch]:
            for batch in self._start(share):
                if batch.n_rows:
                    judge(batch.inputs)
                yield batch

        return Batches(start, self.n_rows, self._name, self._pass_on)

    def share(self, share: Share) -> Iterator[Batch]:
        """Return one process's share of the batches, also the ones without rows, unchecked."""
        return self._start(share)

    def put_together(self, start: Callable[[], Iterator[Batch]]) -> "Batches":
        """Return the same data in the batches that `start` puts together again, in order, out of everyone's share."""
        return Batches(lambda _: start(), self.n_rows, self._name, self._pass_on)

    def _all(self) -> Iterator[Batch]:
        with self.watched():
            yield from self._pass_on(self._start(ALL))

    def _warn_of_no_end(self, n_rows: int) -> None:
        warnings.warn(
            f"{self._name} states no length and has given {n_rows:,} rows so far; after {MOST_ROWS:,} it is taken to "
            f"have no end: {_LENGTHS}",
            UserWarning,
            stacklevel=3,
        )

    def __repr__(self) -> str:
        return f"Batches of {self._name} ({'unknown number of' if self.n_rows is None else self.n_rows} rows)"


def numbered(make: Callable[[Reading], Batches], reading: Reading) -> Batches:
    """Return the batches that `make` gives, of which others can be asked for by the numbers of rows (`Batches.at`)."""
    batches = make(reading)
    batches._at = lambda rows: numbered(make, replace(reading, rows=rows))
    return batches


def of_reading(
    start: Callable[[Share, Reading], Iterator[Batch]], n_rows: int, name: str
) -> Callable[[Reading], Batches]:
    """Return what makes batches as a reading has them, of so many rows that there are."""
    return lambda reading: Batches(lambda share: start(share, reading), len(reading.numbers(n_rows)), name)


def as_parts(inputs: object, name: str = "the inputs") -> Parts:
    """Return the inputs with every part an array or tensor: one alone, a tuple of them, or a dict of them by name."""
    refuse_text(inputs, name)
    if isinstance(inputs, Mapping):
        return {str(key): as_array(value, f"input {key!r}") for key, value in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(as_array(value, f"part {index} of {name}") for index, value in enumerate(inputs))
    return as_array(inputs, name)


def count_rows(parts: Parts, name: str = "the inputs") -> int:
    """Return the number of rows that all parts share. Raises ValueError naming the parts that differ."""
    if isinstance(parts, Mapping):
        named = {repr(key): part for key, part in parts.items()}
    elif isinstance(parts, tuple):
        named = {f"part {index}": part for index, part in enumerate(parts)}
    else:
        named = {name: parts}
    if not named:
        raise ValueError(f"{name} have no parts: nothing is left to give to the network")
    if single := [key for key, part in named.items() if part.ndim == 0]:
        raise TypeError(f"{', '.join(single)}: a single number has no rows; give an array whose first axis is the rows")
    counts = {key: len(part) for key, part in named.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"all parts of {name} need the same number of rows, got {counts}")
    return next(iter(counts.values()))


def in_order(values: np.ndarray, places: Sequence[np.ndarray | None]) -> np.ndarray:
    """Return what was made of all batches, one entry a row, in the order of the data; `places` are those of each batch.

    They are None where batches come in that order.
    """
    if not places or places[0] is None:
        return values
    put_back = np.empty_like(values)
    put_back[np.concatenate(places)] = values  # type: ignore[arg-type]
    return put_back


def take_rows(parts: Parts, rows: slice | np.ndarray) -> Tensors:
    """Return some rows of every part as new tensors: in-place layers must not write into the user's data."""
    return _of_each_part(parts, lambda part: _tensor(part[rows]))


def make_batch(inputs: object, labels: object, name: str) -> Batch:
    """Make a batch of inputs (one tensor or array, or several) and labels or None. Raises ValueError if rows differ."""
    parts = as_parts(tuple(inputs) if isinstance(inputs, list) else inputs, f"a batch of {name}")
    n_rows = count_rows(parts, f"a batch of {name}")
    coded = None if labels is None else as_labels(labels)
    if coded is not None and len(coded) != n_rows:
        raise ValueError(f"a batch of {name} has {n_rows} rows of inputs and {len(coded)} labels")
    return Batch(_of_each_part(parts, _tensor), coded, n_rows)


def _of_each_part(parts: Parts, tensor_of: Callable[[Part], Tensor]) -> Tensors:
    if isinstance(parts, Mapping):
        return {key: tensor_of(part) for key, part in parts.items()}
    return tuple(map(tensor_of, parts)) if isinstance(parts, tuple) else tensor_of(parts)


def as_labels(labels: object) -> np.ndarray:
    """Return labels as an array whose first axis is the rows: numbers keep their dtype, text becomes a str array.

    Whether they are classes at all (not continuous, not several a row) is for the caller to judge, as is NaN among
    numbers, which None becomes too. Raises TypeError for what is no sequence, ValueError for text among which some are
    missing, and as `labels_or_missing`.
    """
    array = labels_or_missing(labels)
    if array.dtype.kind == "O" and (n_missing := sum(map(is_missing, array.ravel()))):
        raise ValueError(f"labels must be given: {n_missing} of {len(array)} labels are missing (NaN or None)")
    return array


def labels_or_missing(labels: object) -> np.ndarray:
    """Return labels as `as_labels` does, those that are missing as NaN among numbers and as None among text.

    Raises TypeError for what is no sequence, ValueError for a mixture of text and numbers, and as `refuse_no_labels`.
    """
    refuse_no_labels(labels)
    refuse_masked(labels, "the labels")
    if isinstance(labels, (list, tuple)) and labels and all(isinstance(label, Tensor) for label in labels):
        labels = torch.stack(tuple(labels))
    if isinstance(labels, Tensor):
        labels = labels.detach().cpu()
        labels = (labels.float() if labels.dtype == torch.bfloat16 else labels).numpy()
    array = np.asarray(labels, dtype=object) if isinstance(labels, (list, tuple)) else np.asarray(labels)
    if array.ndim == 0:
        raise TypeError(f"labels must be a sequence with one label a row, got the single value {labels!r}")
    return _plain_labels(array) if array.dtype.kind == "O" else array


def _tensor(rows: np.ndarray | Tensor) -> Tensor:
    """Make a tensor, of floating arrays in `floating_dtype`; integers (token ids) and booleans keep theirs."""
    if isinstance(rows, Tensor):
        return rows
    dtype = floating_dtype() if rows.dtype.kind == "f" else rows.dtype.newbyteorder("=")
    return torch.from_numpy(np.require(rows, dtype, ["C", "W"]))


def floating_dtype() -> np.dtype:
    """Return the dtype that floating arrays get before they are the network's: float64 where that is torch's default.

    Otherwise float32: a network in single precision is to get all its digits, whatever the default.
    """
    return np.dtype(np.float64 if torch.get_default_dtype() == torch.float64 else np.float32)


def _plain_labels(array: np.ndarray) -> np.ndarray:
    is_absent = np.array([array.ndim == 1 and is_missing(label) for label in array], dtype=bool)
    if not is_absent.any():
        return _all_given(array)
    given = _all_given(array[~is_absent])
    is_text = given.dtype.kind == "U" or not len(given)
    labels = np.full(len(array), None) if is_text else np.full(len(array), np.nan, np.result_type(given, np.float64))
    labels[~is_absent] = given
    return labels


def _all_given(array: np.ndarray) -> np.ndarray:
    kinds = {type(label) for label in array.ravel()}
    texts = {kind for kind in kinds if issubclass(kind, str)}
    if kinds and texts == kinds:
        return array.astype(str)
    if texts:
        raise ValueError(f"labels must be all text or all numbers, got {sorted(kind.__name__ for kind in kinds)} mixed")
    plain = np.asarray(array.tolist()) if kinds.isdisjoint({list, tuple}) else array  # a list in a cell: rows differ
    if plain.dtype.kind not in "biufc":
        raise ValueError(f"labels must be numbers or text, got {sorted(kind.__name__ for kind in kinds)}")
    return plain

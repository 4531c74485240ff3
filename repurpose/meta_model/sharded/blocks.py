"""Training rows that do not fit in memory are read block by block, as often as a head needs them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from model_handler import Features
from repurpose.data.feature_rows import check_rows
from repurpose.data.scaling import Moments

__all__ = ["Block", "ShardedRows", "TrainingBlocks"]

_ELEMENTS = 2**22  # of a block: 16 MB, and 32 MB in double precision


class ShardedRows(Protocol):
    """What `Features.open` gives: features of a row each, in shards on a disk."""

    @property
    def layer_names(self) -> list[str]: ...
    @property
    def labels(self) -> np.ndarray | None: ...
    @property
    def class_names(self) -> Sequence[str] | None: ...
    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any) -> Features: ...
    def blocks(self, n_rows: int) -> Iterator[Features]:
        """Yield all rows in their order, `n_rows` at a time."""


@dataclass(frozen=True, eq=False)
class Block:
    """Rows of training: `matrix` (n_rows, n_features) in float32, `codes` (n_rows,), `weights` (n_rows,) or None."""

    matrix: np.ndarray
    codes: np.ndarray
    weights: np.ndarray | None


@dataclass(frozen=True, eq=False)
class TrainingBlocks:
    """Labelled rows in shards, those of weight 0 left out.

    Attributes
    ----------
    shards : ShardedRows
    layer_names : list of str
    codes : int64 ndarray of shape (n_rows,)
        The class of each row; -1 where its weight is 0.
    weights : float64 ndarray of shape (n_rows,) or None
    groups : int ndarray of shape (n_rows,) or None
    outliers : dict of int to float32 ndarray of shape (n_features,)
        What stands for rows far beyond all others, by their numbers; `read_moments` finds them.
    """

    shards: ShardedRows
    layer_names: list[str]
    codes: np.ndarray
    weights: np.ndarray | None = None
    groups: np.ndarray | None = None
    outliers: dict[int, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return how many rows count."""
        return int((self.codes >= 0).sum())

    def rows_by_class(self) -> np.ndarray:
        """Return the numbers of the rows that count, (n_counting,), those of the first class first."""
        order = np.argsort(self.codes, kind="stable")
        return order[len(order) - len(self) :]

    def take(self, rows: np.ndarray) -> Features:
        """Read rows by number, (n_taken,), in any order: the layers of `layer_names`, without labels."""
        there, back = np.unique(rows, return_inverse=True)
        features = self.shards[there]
        taken = Features(features.select(self.layer_names).values, None, self.shards.class_names)[back]
        check_rows(taken, name_of=_names(rows))
        return taken

    def read_moments(self, sample: Features, bring_back: Callable[..., Features]) -> Moments:
        """Judge every row and find outliers, in one pass, in place; return the moments of the columns.

        Outliers are told by comparing each block with the `sample`, labelled by codes and without outliers itself, so
        that shards of a single class are no matter. `bring_back` takes features, codes, weights and the naming of rows.
        """
        moments, n_first = Moments(), len(sample)
        for start, features, codes, weights in self._read(None):
            present = np.flatnonzero(codes >= 0)
            check_rows(features, name_of=_names(start + np.arange(len(features))))
            features, codes = features[present], codes[present]
            weights = None if weights is None else weights[present]
            both = Features(
                {name: np.concatenate([sample.values[name], array]) for name, array in features.values.items()}
            )
            counts = None if weights is None else np.concatenate([np.ones(n_first), weights])
            numbers = np.concatenate([np.full(n_first, -1), start + present])
            of_both = np.concatenate([sample.labels, codes])
            brought = bring_back(both, of_both, counts, _names(numbers))
            matrix = brought.matrix[n_first:]
            if brought is not both:
                changed = np.flatnonzero((matrix != features.matrix).any(axis=1))
                self.outliers.update({int(start + present[row]): matrix[row].copy() for row in changed})
            if len(matrix):
                moments.add(matrix, weights)
        return moments

    def in_blocks(self, n_rows: int | None = None) -> Iterator[Block]:
        """Yield all rows that count, in their order, `n_rows` or fewer at a time."""
        found = np.array(sorted(self.outliers), dtype=np.int64)
        for start, features, codes, weights in self._read(n_rows):
            matrix, present = features.matrix, codes >= 0
            here = found[np.searchsorted(found, start) : np.searchsorted(found, start + len(codes))]
            if len(here):
                matrix = matrix.copy()
                matrix[here - start] = [self.outliers[row] for row in here.tolist()]
            if not present.all():
                matrix, codes = matrix[present], codes[present]
                weights = None if weights is None else weights[present]
            if len(codes):
                yield Block(matrix, codes, weights)

    def _read(self, n_rows: int | None) -> Iterator[tuple[int, Features, np.ndarray, np.ndarray | None]]:
        start, all_rows = 0, len(self.codes)
        for features in self.shards.blocks(self._n_rows if n_rows is None else n_rows):
            of_block = slice(start, start + len(features))
            weights = None if self.weights is None else self.weights[of_block]
            yield start, features.select(self.layer_names), self.codes[of_block], weights
            start += len(features)
        if start != all_rows:
            raise ValueError(f"the shards gave {start} rows and there are {all_rows} labels; every row needs one label")

    @cached_property
    def _n_rows(self) -> int:
        return max(1, _ELEMENTS // max(1, self.shards[:1].select(self.layer_names).shape[1]))


def _names(numbers: np.ndarray) -> Callable[[int], str]:
    """Return what messages call a row, by its place among `numbers` (n_rows,)."""
    return lambda row: str(numbers[row])

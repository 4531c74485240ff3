"""`ShardedFeatures`: features in a directory of shards, read in parts, so that they may be larger than the memory."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from copy import copy
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from model_handler.data.batch import in_order
from model_handler.errors import CorruptFileError, UnknownLayerError, first_few, nearest
from model_handler.features.features import LABELS, Features
from model_handler.features.manifests import MANIFEST, Manifest, ShardEntry, read_manifest
from model_handler.features.parquet import write_parquet
from model_handler.features.shard_files import Shard, entry_of, read_shard, shard_name

__all__ = ["ShardedFeatures", "completed", "missing_shards"]

_MOST_OPEN = 16  # shards that stay mapped: each has a file open


class ShardedFeatures:
    """Features that `ModelHandler.extract_to` wrote into a directory, in the order of the data, read in parts.

    Rows are copied to memory when they are asked for, and no others. A shard is compared with its hashes when it is
    first read. `load()` gives all of them as `Features`, where they fit into memory.

    Parameters
    ----------
    path : str or path
        The directory, which must stay as it is.

    Attributes
    ----------
    layer_names : list of str
        The layers, in the order in which they were asked for.
    class_names : tuple of str or None
        The names of the labels 0, 1, ..., where the data has names for them.

    Raises
    ------
    FileNotFoundError
        If there is no such directory, or it holds no manifest.
    ValueError
        If shards are missing, which are named.
    CorruptFileError
        If the manifest is damaged; where rows are read, if their shard is.

    Examples
    --------
    >>> import torch
    >>> from model_handler import ModelHandler, ShardedFeatures
    >>> handler = ModelHandler(torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU()))
    >>> features = handler.extract_to("features_of_ten", torch.rand(10, 2), ["1"], rows_per_shard=4)
    >>> features.shape, features[2:5]
    ((10, 4), Features(3 rows; 1: 4; no labels))
    >>> [len(block) for block in ShardedFeatures("features_of_ten").blocks(3)]
    [3, 3, 3, 1]
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self._manifest = _whole_manifest(self.path)
        self._all_names = self._manifest.layer_names
        self.layer_names = list(self._all_names)
        names = self._manifest.class_names
        self.class_names: tuple[str, ...] | None = None if names is None else tuple(names)
        self._entries = [entry for entry in self._manifest.shards or [] if entry.n_rows]
        self._ends = np.cumsum([entry.n_rows for entry in self._entries])
        self._checked: set[int] = set()
        self._open: OrderedDict[int, Shard] = OrderedDict()

    @property
    def widths(self) -> dict[str, int]:
        """How many features each layer gives."""
        of_all = dict(zip(self._all_names, self._manifest.widths or [], strict=True))
        return {name: of_all[name] for name in self.layer_names}

    @property
    def shape(self) -> tuple[int, int]:
        """(n_samples, n_features), over all layers."""
        return int(self._ends[-1]), sum(self.widths.values())

    @property
    def indices_per_layer(self) -> dict[str, np.ndarray]:
        """The columns of all layers side by side that belong to each layer."""
        ends = np.cumsum(list(self.widths.values()))
        return {name: np.arange(end - self.widths[name], end) for name, end in zip(self.layer_names, ends)}

    @cached_property
    def labels(self) -> np.ndarray | None:
        """The labels, of shape (n_samples,), or None; read from all shards when first asked for."""
        return _joined([read_shard(self.path, entry, check=(LABELS,)).features.labels for entry in self._entries])

    @cached_property
    def paths(self) -> list[str] | None:
        """The name of each row: the path of its image below the folder of the data, or its key; None without names."""
        parts = [read_shard(self.path, entry, check=()).paths for entry in self._entries]
        return None if None in parts else [path for part in parts for path in part or ()]

    @property
    def skipped(self) -> list[str]:
        """The images that could not be read and were left out, each with the reason."""
        shards = self._manifest.shards or []
        with_gaps = [entry for entry in shards if entry.n_rows < entry.end - entry.first]
        return [name for entry in with_gaps for name in read_shard(self.path, entry, check=()).skipped]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Features:
        """Return some rows, by a slice, numbers or a mask, in this order, copied to memory."""
        numbers = np.atleast_1d(np.arange(len(self))[rows])
        if numbers.ndim != 1:
            raise TypeError(f"features are indexed by rows alone, got {rows!r}; use .select([name]) for layers")
        values = {name: np.empty((len(numbers), width), np.float32) for name, width in self.widths.items()}
        shards = np.searchsorted(self._ends, numbers, side="right")
        order, labels = [], []
        for number in np.unique(shards).tolist() or [0]:  # of no rows too the labels have a kind
            places = np.flatnonzero(shards == number)
            within = numbers[places] - (self._ends[number] - self._entries[number].n_rows)
            held = self._shard(number).features
            for name, array in values.items():
                array[_simplest(places)] = held.values[name][_simplest(within)]
            order.append(places)
            labels.append(None if held.labels is None else held.labels[within])
        joined = _joined(labels)
        return Features(values, None if joined is None else in_order(joined, order), self.class_names)

    def blocks(self, n_rows: int) -> Iterator[Features]:
        """Yield all rows in order, so many at a time; the last block may have fewer. Raises ValueError for none.

        >>> import numpy as np
        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> handler = ModelHandler(nn.Sequential(nn.Linear(3, 2), nn.ReLU()))
        >>> shards = handler.extract_to("shards_of_five", np.ones((5, 3)), ["1"], rows_per_shard=2)
        >>> [block.shape for block in shards.blocks(3)]
        [(3, 2), (2, 2)]
        """
        if isinstance(n_rows, bool) or not isinstance(n_rows, int | np.integer) or n_rows < 1:
            raise ValueError(f"n_rows must be a whole number of at least 1, got {n_rows!r}")
        for first in range(0, len(self), int(n_rows)):
            yield self[first : first + int(n_rows)]

    def load(self) -> Features:
        """Return all rows in memory, as `Features`.

        >>> import numpy as np
        >>> from torch import nn
        >>> from model_handler import ModelHandler
        >>> handler = ModelHandler(nn.Sequential(nn.Linear(3, 2), nn.ReLU()))
        >>> handler.extract_to("shards_of_five", np.ones((5, 3)), ["1"], rows_per_shard=2).load()
        Features(5 rows; 1: 2; no labels)
        """
        return self[:]

    def select(self, layer_names: Sequence[str]) -> "ShardedFeatures":
        """Return the named layers alone, in the order given.

        Raises UnknownLayerError listing every layer that is missing, TypeError for a single text.
        """
        if isinstance(layer_names, str):
            raise TypeError(f"layer_names must be a list, got the text {layer_names!r}; write [{layer_names!r}]")
        if missing := [name for name in layer_names if name not in self.layer_names]:
            hints = [f"{name!r} (nearest: {nearest(name, self.layer_names)})" for name in missing]
            raise UnknownLayerError(f"these features have no layer {', '.join(hints)}; they hold {self.layer_names}")
        selected = copy(self)
        selected.layer_names = list(layer_names)
        return selected

    def to_parquet(self, path: str | PathLike[str]) -> None:
        """Write one Parquet file: a column of lists of float32 for each layer, `label` and `path` where there are any.

        A shard at a time is in memory. A file that is there is replaced, once the new one is whole. Raises ImportError
        without pyarrow (``pip install 'repurpose-torch[arrow]'``), OSError where it cannot be written, ValueError for a
        layer that is called as one of the other columns.
        """
        blocks = (self._rows_of_shard(number) for number in range(len(self._entries)))
        write_parquet(Path(path), blocks, self.widths)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled and copied: not the rows of shards that are open."""
        return {**vars(self), "_open": OrderedDict()}

    def __repr__(self) -> str:
        widths = ", ".join(f"{name}: {width}" for name, width in self.widths.items())
        first = read_shard(self.path, self._entries[0], check=())  # of all, labels are only read when asked for
        labels = "no labels" if first.features.labels is None else "with labels"
        return (
            f"ShardedFeatures({str(self.path)!r}: {len(self)} rows in {len(self._entries)} shards; {widths}; {labels})"
        )

    def _rows_of_shard(self, number: int) -> tuple[Features, Sequence[str] | None]:
        shard = self._shard(number)
        return shard.features.select(self.layer_names), shard.paths

    def _shard(self, number: int) -> Shard:
        """Return a shard, mapped; compared with its hashes when that was not done yet."""
        shard = self._open.pop(number, None)  # threads may ask at once, and each step leaves the others something whole
        if shard is None:
            shard = read_shard(self.path, self._entries[number], check=() if number in self._checked else None)
            if shard.features.layer_names != self._all_names:
                raise CorruptFileError(f"{self.path / self._entries[number].file} has other layers than its manifest")
            self._checked.add(number)
        self._open[number] = shard
        if len(self._open) > _MOST_OPEN:
            self._open.popitem(last=False)
        return shard


def missing_shards(folder: Path, manifest: Manifest) -> list[str]:
    """Return the names of the files of shards that are not there, of those that are known to be wanted."""
    names = map(shard_name, range(manifest.n_shards or 0))
    return [name for name in names if not (folder / name).is_file()]


def completed(folder: Path, manifest: Manifest) -> Manifest:
    """Return the manifest with all shards, each known by its header; they must be there.

    Raises CorruptFileError for one that is damaged, of something else, or does not follow the one before it.
    """
    entries: list[ShardEntry] = []
    widths: list[int] = []
    for number in range(manifest.n_shards or 0):
        found = entry_of(folder, number, manifest)
        if found is None or found[0].first != (entries[-1].end if entries else 0):
            raise CorruptFileError(f"{folder / shard_name(number)} does not follow the shard before it")
        entry, of_shard = found
        if entry.n_rows and widths and of_shard != widths:
            raise CorruptFileError(f"{folder / entry.file} has features of widths {of_shard}, others of {widths}")
        widths = of_shard if entry.n_rows else widths
        entries.append(entry)
    if not widths:
        raise ValueError(f"{folder} holds no row: none of the inputs could be read")
    return manifest.completed(entries, widths)


def _whole_manifest(folder: Path) -> Manifest:
    if not folder.is_dir():
        if folder.exists():
            raise NotADirectoryError(
                f"{folder} is a file; Features.load reads files, Features.open directories of shards"
            )
        raise FileNotFoundError(f"there is no directory {str(folder)!r}")
    manifest = read_manifest(folder)
    if manifest is None:
        raise FileNotFoundError(f"{folder} holds no features: it has no {MANIFEST}, which extract_to writes first")
    if manifest.shards is not None:
        return manifest
    resume = "make the call of extract_to (or the command repurpose extract) again, which goes on with them"
    if manifest.n_shards is None:
        raise ValueError(f"{folder} is not complete: its data has not been read to the end; {resume}")
    if missing := missing_shards(folder, manifest):
        raise ValueError(
            f"{folder} lacks {len(missing)} of {manifest.n_shards} shards: {first_few(missing, 5)}; {resume}"
        )
    return completed(folder, manifest)


def _joined(labels: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Return the labels of several shards as one array. Raises ValueError where they are of different kinds."""
    given = [part for part in labels if part is not None]
    kinds = {"none" if part is None else "text" if part.dtype.kind in "OU" else "numbers" for part in labels}
    if len(kinds) > 1:
        raise ValueError(f"shards have labels of several kinds, {sorted(kinds)}; make them all one kind in the data")
    return np.concatenate(given) if given else None


def _simplest(numbers: np.ndarray) -> Any:
    """Return a slice of the same rows where there is one, which is no copy more."""
    in_a_row = len(numbers) > 0 and numbers[-1] - numbers[0] == len(numbers) - 1 and bool((np.diff(numbers) == 1).all())
    return slice(int(numbers[0]), int(numbers[-1]) + 1) if in_a_row else numbers

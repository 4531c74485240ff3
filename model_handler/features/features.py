"""`Features`: the features that a network computes of its inputs, one float32 array a layer, and the labels.

One extraction serves a hundred fits: every method of a meta-model takes a `Features` in place of data, and scikit-learn
can split one by rows. As a plain array it would lose its layers, so numpy gets none, but `matrix` by name. How features
are computed is in `extraction.extracting`; more than the memory holds are in `sharded_features`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from model_handler.data.arrays import as_array
from model_handler.data.batch import labels_or_missing
from model_handler.errors import CorruptFileError, UnknownLayerError, nearest
from model_handler.files.array_files import map_arrays, read_arrays, wastes_memory, write_arrays
from model_handler.files.canonical_json import parse_json
from model_handler.files.whole_files import make_folder

if TYPE_CHECKING:
    from model_handler.features.sharded_features import ShardedFeatures

__all__ = ["LABELS", "Features", "features_in", "parts_to_save"]

_FORMAT = 2  # of files; 1 had its texts apart and no hashes
_VALUE, LABELS = "value:", "labels"  # names of arrays in files

_NO_ARRAY = (
    "a Features is not an array, and numpy, or a tool of scikit-learn, asked for one: without its layers, a Repurposer "
    "would take the rows for raw inputs. Give this tool the inputs themselves; or give features.matrix to an estimator "
    "of scikit-learn's own, or to a Repurposer of a network that changes nothing, such as "
    'LrRepurposer(torch.nn.Sequential(torch.nn.Identity()), ["0"])'
)


@dataclass(frozen=True, eq=False, repr=False)
class Features:
    """Features of `n_samples` inputs at one or several layers, in input order.

    Parameters
    ----------
    values : mapping of layer name to array of shape (n_samples, n_features)
        Stored as float32; an array of more axes is flattened behind the first one.
    labels : array of shape (n_samples,), optional
        The labels as the data had them. One that is missing, None or NaN, is NaN among numbers and None among text.
    class_names : sequence of str, optional
        What is shown for the labels 0, 1, ..., where a dataset has names for them in its `classes`.

    Raises
    ------
    TypeError
        If `values` is no mapping.
    ValueError
        If there is no layer, an array has no row axis, or the numbers of rows differ.

    Examples
    --------
    >>> import numpy as np
    >>> from model_handler import Features
    >>> features = Features({"conv": np.ones((4, 2)), "pool": np.zeros((4, 3))}, labels=["cat", "dog", "cat", "dog"])
    >>> features
    Features(4 rows; conv: 2, pool: 3; with labels)
    >>> features[:2].matrix
    array([[1., 1., 0., 0., 0.],
           [1., 1., 0., 0., 0.]], dtype=float32)
    """

    values: Mapping[str, np.ndarray]
    labels: np.ndarray | None = None
    class_names: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.values, Mapping):
            kind = type(self.values).__name__
            raise TypeError(f"values must map layer names to arrays, such as {{'avgpool': array}}, got {kind}")
        values = {name: _as_matrix(name, array) for name, array in self.values.items()}
        counts = {name: len(array) for name, array in values.items()}
        labels = None if self.labels is None else labels_or_missing(self.labels)
        if labels is not None:
            counts["the labels"] = len(labels)
        if not values:
            raise ValueError("Features needs at least one layer: Features(values={'avgpool': array})")
        if len(set(counts.values())) > 1:
            raise ValueError(f"every part of a Features needs the same number of rows, got {counts}")
        # The dataclass is frozen, to its own methods too.
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "class_names", None if self.class_names is None else tuple(self.class_names))

    @property
    def layer_names(self) -> list[str]:
        """The names of the layers, in the order in which they were asked for."""
        return list(self.values)

    @cached_property
    def matrix(self) -> np.ndarray:
        """All layers side by side: (n_samples, n_features) in float32; no copy where the layers are columns of one."""
        arrays = list(self.values.values())
        if len(arrays) == 1:
            return arrays[0]
        return arrays[0].base[: len(self)] if _are_columns(arrays) else np.concatenate(arrays, axis=1)  # type: ignore[index]

    @property
    def indices_per_layer(self) -> dict[str, np.ndarray]:
        """The columns of `matrix` that belong to each layer.

        >>> import numpy as np
        >>> from model_handler import Features
        >>> Features({"conv": np.ones((4, 2)), "pool": np.zeros((4, 3))}).indices_per_layer
        {'conv': array([0, 1]), 'pool': array([2, 3, 4])}
        """
        ends = np.cumsum([array.shape[1] for array in self.values.values()])
        return {name: np.arange(end - self.values[name].shape[1], end) for name, end in zip(self.values, ends)}

    @property
    def shape(self) -> tuple[int, int]:
        """(n_samples, n_features), over all layers."""
        arrays = list(self.values.values())
        return len(arrays[0]), sum(array.shape[1] for array in arrays)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> "Features":
        """Return the features of some rows: a slice, indices or a mask, also with the `...` scikit-learn appends."""
        is_cut = False
        if (
            isinstance(rows, tuple)
            and len(rows) == 2
            and (rows[1] is ... or (isinstance(rows[1], slice) and rows[1] == slice(None)))
        ):
            rows, is_cut = rows[0], rows[1] is ...
        if rows is None or isinstance(rows, (str, tuple)) or np.ndim(rows) > 1:
            raise TypeError(f"a Features is indexed by rows alone, got {rows!r}; use .select([name]) for layers")
        if isinstance(rows, (int, np.integer)):
            rows = [rows]  # a number alone would take the row axis away
        labels = None if self.labels is None else self.labels[rows]
        taken = Features({name: array[rows] for name, array in self.values.items()}, labels, self.class_names)
        vars(taken)["_is_cut"] = is_cut or self.is_cut
        return taken

    @property
    def is_cut(self) -> bool:
        """Whether scikit-learn took these rows from others, in a search or by `train_test_split`.

        >>> import numpy as np
        >>> from sklearn.model_selection import train_test_split
        >>> from model_handler import Features
        >>> features = Features({"pool": np.zeros((4, 3))})
        >>> train_test_split(features, test_size=1)[0].is_cut, features[:3].is_cut
        (True, False)
        """
        return vars(self).get("_is_cut", False)

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        """Raise TypeError: as a plain array the layers would be lost, and a Repurposer would take it for raw inputs of
        its network. `matrix` is the array.
        """
        raise TypeError(_NO_ARRAY)

    def select(self, layer_names: Sequence[str]) -> "Features":
        """Return the named layers alone, in the order given.

        Raises UnknownLayerError listing every layer that is missing, and ValueError if one is named twice.

        >>> import numpy as np
        >>> from model_handler import Features
        >>> Features({"conv": np.ones((4, 2)), "pool": np.zeros((4, 3))}).select(["pool"])
        Features(4 rows; pool: 3; no labels)
        """
        if isinstance(layer_names, str):
            raise TypeError(f"layer_names must be a list, got the text {layer_names!r}; write [{layer_names!r}]")
        if len(set(layer_names)) < len(layer_names):
            raise ValueError(f"layer_names must not repeat a layer, got {list(layer_names)}")
        if missing := [name for name in layer_names if name not in self.values]:
            hints = [f"{name!r} (nearest: {nearest(name, self.values)})" for name in missing]
            raise UnknownLayerError(f"these features have no layer {', '.join(hints)}; they hold {self.layer_names}")
        if list(layer_names) == self.layer_names:
            return self  # with its `matrix`, where that was computed already
        return Features({name: self.values[name] for name in layer_names}, self.labels, self.class_names)

    def save(self, path: str | Path) -> None:
        """Write everything to one safetensors file, as a whole, making the directories above it.

        A SHA-256 of every array and of the rest is in the file, so that `load` knows whether it is what was written.

        Raises TypeError for labels that are neither numbers nor text, ValueError for texts of which a few are so long
        that they would take 100 MB more as one array, OSError where the file cannot be written (of a full disk, it
        says how many bytes it needs); a file that was there stays then.

        >>> import numpy as np
        >>> from model_handler import Features
        >>> Features({"pool": np.zeros((4, 3))}).save("features.safetensors")
        """
        arrays, content = parts_to_save(self)
        make_folder(Path(path).parent)
        write_arrays(path, arrays, content)

    @staticmethod
    def open(path: str | PathLike[str]) -> "ShardedFeatures":
        """Open a directory that `ModelHandler.extract_to` wrote, to be read in parts; nothing in it is executed.

        Raises FileNotFoundError where there is no such directory, ValueError naming the shards that are missing in one
        that is not complete, CorruptFileError for one that is damaged.

        >>> import torch
        >>> from model_handler import Features, ModelHandler
        >>> handler = ModelHandler(torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU()))
        >>> _ = handler.extract_to("shards", torch.rand(10, 2), ["1"], rows_per_shard=4)
        >>> Features.open("shards")
        ShardedFeatures('shards': 10 rows in 3 shards; 1: 4; no labels)
        """
        from model_handler.features.sharded_features import ShardedFeatures

        return ShardedFeatures(path)

    @classmethod
    def load(cls, path: str | Path, *, mapped: bool = False) -> "Features":
        """Read what `save` wrote; nothing in the file is executed.

        With `mapped` the values stay in the file, which is read once for its hashes, and may be larger than the memory.
        They cannot be written to, and the file must stay as it is; `matrix` of several layers copies them.

        Raises
        ------
        FileNotFoundError
            If there is nothing at `path`.
        UnsafeFileError
            For a directory, a pipe or a device.
        CorruptFileError
            For a file that `save` did not write, or that is not what it wrote any more. (Files of version 0.1 have no
            hashes: of them, only the form is checked.)

        Examples
        --------
        >>> import numpy as np
        >>> from model_handler import Features
        >>> Features({"pool": np.zeros((4, 3))}, labels=[0, 1, 0, 1]).save("features.safetensors")
        >>> Features.load("features.safetensors").labels
        array([0, 1, 0, 1])
        """
        file = map_arrays(path) if mapped else read_arrays(path)
        content = _content_of_first_format(file.notes, str(path)) if file.content is None else file.content
        return features_in(file.arrays, content, str(path))

    def __repr__(self) -> str:
        widths = ", ".join(f"{name}: {array.shape[1]}" for name, array in self.values.items())
        return f"Features({len(self)} rows; {widths}; {'no labels' if self.labels is None else 'with labels'})"


def parts_to_save(features: Features) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and the content of a file of features. Raises TypeError and ValueError as `save` does."""
    arrays = {f"{_VALUE}{name}": array for name, array in features.values.items()}
    labels, texts = features.labels, None
    if labels is not None and labels.dtype.kind in "biuf":
        arrays[LABELS] = labels
    elif labels is not None:
        texts = _as_texts(labels)
        _check_widths([text for text in texts if text is not None])
    names = None if features.class_names is None else [str(name) for name in features.class_names]
    return arrays, {"features": _FORMAT, "layer_names": features.layer_names, "labels": texts, "class_names": names}


def features_in(arrays: Mapping[str, np.ndarray], content: Any, what: str) -> Features:
    """Return the features in the parts of a file; `what` names it. Raises CorruptFileError where they are none."""
    if not isinstance(content, dict) or content.get("features") not in (1, _FORMAT):
        raise CorruptFileError(f"{what} is a safetensors file, but not one that Features.save wrote")
    # Right hashes do not make it a Features: anybody can compute them of anything.
    try:
        return Features(*_parts(content, arrays))
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFileError(f"{what} is damaged: it holds no whole Features ({error})") from error


def _as_matrix(name: str, array: object) -> np.ndarray:
    array = as_array(array, f"layer {name!r}")
    array = np.asarray(array.float().cpu() if isinstance(array, Tensor) else array, dtype=np.float32)
    if array.ndim == 0:
        raise ValueError(f"the features of layer {name!r} must have a row for each sample, got the number {array}")
    return array if array.ndim == 2 else array.reshape(len(array), int(np.prod(array.shape[1:])))


def _as_texts(labels: np.ndarray) -> list[str | None]:
    if other_types := {type(label).__name__ for label in labels.tolist() if not isinstance(label, str | None)}:
        raise TypeError(f"labels must be numbers or text to be saved, got {sorted(other_types)}")
    return labels.tolist()


def _parts(
    content: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], np.ndarray | None, list[str] | None]:
    """Return the values, labels and class names of a file. Raises ValueError or KeyError for parts that do not fit."""
    names, texts, class_names = (content[part] for part in ("layer_names", "labels", "class_names"))
    if not _is_texts(names) or len(set(names)) < len(names) or not (class_names is None or _is_texts(class_names)):
        raise ValueError("its names are no lists of different texts")
    values = {name: arrays[f"{_VALUE}{name}"] for name in names}
    if any(array.dtype != np.float32 or array.ndim != 2 for array in values.values()):
        raise ValueError("its values are no float32 arrays of rows")
    labels = arrays.get(LABELS)
    if more := sorted(set(arrays) - {f"{_VALUE}{name}" for name in names} - {LABELS}):
        raise ValueError(f"nothing names its array {more[0][:40]!r}")
    if texts is not None:
        given = [text for text in texts if text is not None] if isinstance(texts, list) else texts
        if labels is not None or not _is_texts(given):
            raise ValueError("its labels are no list of texts")
        _check_widths(given)
        labels = np.asarray(texts, dtype=str if len(given) == len(texts) else object)  # None where one is missing
    if labels is not None and labels.ndim != 1:
        raise ValueError("its labels are no list")
    return values, labels, class_names


def _check_widths(texts: Sequence[str]) -> None:
    """Raise ValueError where a few long texts would fill the memory: numpy gives each the width of the longest."""
    longest = max(texts, key=len, default="")
    if wastes_memory(len(longest), texts):
        raise ValueError(f"a label of {len(longest):,} characters among {len(texts):,}: {longest[:40]!r}...")


def _content_of_first_format(notes: Mapping[str, str], what: str) -> dict[str, Any] | None:
    """Parse the content as version 0.1 wrote it, in texts of their own; None where the notes are not its."""
    if "layer_names" not in notes:
        return None
    parsed = {part: parse_json(notes.get(part, "null"), what) for part in ("layer_names", "labels", "class_names")}
    return {"features": 1, **parsed}


def _is_texts(given: Any) -> bool:
    return isinstance(given, list) and all(isinstance(text, str) for text in given)


def _are_columns(arrays: list[np.ndarray]) -> bool:
    """Tell whether the arrays are all the columns of one matrix, in order, as extraction lays them out."""
    base = arrays[0].base
    if not isinstance(base, np.ndarray) or base.ndim != 2 or base.dtype != np.float32:
        return False
    # Strides and addresses too: a selection of rows has the same base, and other rows.
    starts = np.cumsum([0] + [array.shape[1] for array in arrays])
    return base.shape[1] == starts[-1] and all(
        array.base is base
        and array.strides == base.strides
        and array.ctypes.data == base.ctypes.data + start * base.itemsize
        for array, start in zip(arrays, starts)
    )

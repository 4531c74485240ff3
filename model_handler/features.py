"""`Features`: what a network makes of its inputs, one float32 array a layer, with the labels beside them.

One extraction serves a hundred fits: every method of a meta-model takes a `Features` in place of data, and scikit-learn
can split one by rows. As a plain array it would lose its layers, so numpy gets none, but `matrix` by name. How features
are computed is in `extraction.extracting`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from model_handler.data.arrays import as_array
from model_handler.data.batch import as_labels
from model_handler.errors import UnknownLayerError, nearest
from model_handler.storing import store_arrays

__all__ = ["Features"]

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
        The labels as the data had them.
    class_names : sequence of str, optional
        What is shown for the labels 0, 1, ..., where a dataset has names for them in its `classes`.

    Raises
    ------
    TypeError
        If `values` is no mapping.
    ValueError
        If there is no layer, an array has no row axis, or the numbers of rows differ.
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
        labels = None if self.labels is None else as_labels(self.labels)
        if labels is not None:
            counts["the labels"] = len(labels)
        if not values:
            raise ValueError("Features needs at least one layer: Features(values={'avgpool': array})")
        if len(set(counts.values())) > 1:
            raise ValueError(f"every part of a Features needs the same number of rows, got {counts}")
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
        """The columns of `matrix` that belong to each layer."""
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
        """The features of some rows: a slice, indices or a mask, also with the `...` that scikit-learn appends."""
        if (
            isinstance(rows, tuple)
            and len(rows) == 2
            and (rows[1] is ... or (isinstance(rows[1], slice) and rows[1] == slice(None)))
        ):
            rows = rows[0]
        if rows is None or isinstance(rows, (str, tuple)) or np.ndim(rows) > 1:
            raise TypeError(f"a Features is indexed by rows alone, got {rows!r}; use .select([name]) for layers")
        if isinstance(rows, (int, np.integer)):
            rows = [rows]
        labels = None if self.labels is None else self.labels[rows]
        return Features({name: array[rows] for name, array in self.values.items()}, labels, self.class_names)

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        """Refused with a TypeError: as a plain array the layers would be lost, and a Repurposer would take it for raw
        inputs of its network. `matrix` is the array.
        """
        raise TypeError(_NO_ARRAY)

    def select(self, layer_names: Sequence[str]) -> "Features":
        """The named layers alone, in the order given.

        Raises UnknownLayerError listing every layer that is missing, and ValueError if one is named twice.
        """
        if isinstance(layer_names, str):
            raise TypeError(f"layer_names must be a list, got the text {layer_names!r}; write [{layer_names!r}]")
        if len(set(layer_names)) < len(layer_names):
            raise ValueError(f"layer_names must not repeat a layer, got {list(layer_names)}")
        if missing := [name for name in layer_names if name not in self.values]:
            hints = [f"{name!r} (nearest: {nearest(name, self.values)})" for name in missing]
            raise UnknownLayerError(f"these features have no layer {', '.join(hints)}; they hold {self.layer_names}")
        if list(layer_names) == self.layer_names:
            return self
        return Features({name: self.values[name] for name in layer_names}, self.labels, self.class_names)

    def save(self, path: str | Path) -> None:
        """Write everything to one safetensors file, making the directories above it.

        Raises TypeError for labels that are neither numbers nor text.
        """
        arrays = {f"value:{name}": np.ascontiguousarray(array) for name, array in self.values.items()}
        notes = {"layer_names": json.dumps(self.layer_names)}
        if self.labels is not None and self.labels.dtype.kind in "biuf":
            arrays["labels"] = np.ascontiguousarray(self.labels)
        elif self.labels is not None:
            notes["labels"] = json.dumps(_as_texts(self.labels))
        if self.class_names is not None:
            notes["class_names"] = json.dumps(self.class_names)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        store_arrays(arrays, path, notes)

    @classmethod
    def load(cls, path: str | Path) -> "Features":
        """Read what `save` wrote; nothing in the file is executed. Raises ValueError for any other file."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                notes = file.metadata() or {}
                if "layer_names" not in notes:
                    raise ValueError(f"{path} is a safetensors file, but not one that Features.save wrote")
                values = {name: file.get_tensor(f"value:{name}") for name in json.loads(notes["layer_names"])}
                labels = file.get_tensor("labels") if "labels" in file.keys() else None  # noqa: SIM118 (not a mapping)
        except SafetensorError as error:
            raise ValueError(f"{path} cannot be read as the safetensors file of a Features: {error}") from error
        if "labels" in notes:
            labels = np.asarray(json.loads(notes["labels"]), dtype=str)
        return cls(values, labels, json.loads(notes["class_names"]) if "class_names" in notes else None)

    def __repr__(self) -> str:
        widths = ", ".join(f"{name}: {array.shape[1]}" for name, array in self.values.items())
        return f"Features({len(self)} rows; {widths}; {'no labels' if self.labels is None else 'with labels'})"


def _as_matrix(name: str, array: object) -> np.ndarray:
    array = as_array(array, f"layer {name!r}")
    array = np.asarray(array.float().cpu() if isinstance(array, Tensor) else array, dtype=np.float32)
    if array.ndim == 0:
        raise ValueError(f"the features of layer {name!r} must have a row for each sample, got the number {array}")
    return array if array.ndim == 2 else array.reshape(len(array), int(np.prod(array.shape[1:])))


def _as_texts(labels: np.ndarray) -> list[str]:
    if other_types := {type(label).__name__ for label in labels.tolist() if not isinstance(label, str)}:
        raise TypeError(f"labels must be numbers or text to be saved, got {sorted(other_types)}")
    return labels.tolist()


def _are_columns(arrays: list[np.ndarray]) -> bool:
    """Whether the arrays are the columns of one matrix, from its first to its last, as extraction lays them out."""
    base = arrays[0].base
    if not isinstance(base, np.ndarray) or base.ndim != 2 or base.dtype != np.float32:
        return False
    starts = np.cumsum([0] + [array.shape[1] for array in arrays])
    return base.shape[1] == starts[-1] and all(
        array.base is base
        and array.strides == base.strides
        and array.ctypes.data == base.ctypes.data + start * base.itemsize
        for array, start in zip(arrays, starts)
    )

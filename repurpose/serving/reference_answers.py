"""`ReferenceAnswers`: a few inputs with the answers that a Repurposer gave them, which are saved and loaded with it.

Images are kept as pixels, before any preprocessing, so that the preprocessing is tested with the network.
"""

from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from model_handler import Features
from model_handler.data import as_batches
from model_handler.data.text.text_transform import reads_text
from repurpose.data.inputs import Inputs
from repurpose.data.kinds import is_features
from repurpose.persistence.values.parts import storable
from repurpose.persistence.values.schema import Array, Either, Nothing, Sizes, Table

__all__ = ["ReferenceAnswers", "ReferenceInputs", "keep_inputs"]

_MAX_ROWS = 1000


@storable
@dataclass(frozen=True, eq=False)
class ReferenceInputs:
    """Inputs in a form that a file can hold.

    Attributes
    ----------
    values : tensor, tuple or dict of tensors, list of uint8 ndarray (height, width, 3), or dict of ndarray by layer
        Inputs as the network gets them; images as they were before preprocessing; features by the names of their
        layers.
    are_features : bool
        Whether `values` are the last of these.
    """

    values: Any
    are_features: bool

    @property
    def data(self) -> object:
        """The inputs as a Repurposer takes them."""
        if self.are_features:
            return Features(self.values)
        return (self.values,) if isinstance(self.values, tuple) else self.values


class _RowsOfNumbers:
    """The schema of inputs: `n_reference` rows of numbers, since a text would be the path of a file to read."""

    def check(self, value: object, where: str, sizes: Sizes) -> None:
        """Check each part for its kind and its number of rows, of which there is one at least."""
        parts = list(_parts_of(value)) if isinstance(value, ReferenceInputs) else []
        if not sizes["n_reference"] or {len(part) for part in parts} != {sizes["n_reference"]}:
            raise ValueError(f"its {where} are not {sizes['n_reference']:,} rows of numbers, at least one")


def _parts_of(inputs: ReferenceInputs) -> Iterator[Sized]:
    """Yield the parts of inputs, each of a number of rows; none where one is of another kind than can be kept."""
    values = inputs.values
    if inputs.are_features is True:
        parts = list(values.values()) if isinstance(values, dict) else []
        are_kept = all(isinstance(part, np.ndarray) and part.dtype.kind == "f" and part.ndim == 2 for part in parts)
    elif isinstance(values, list):
        are_kept = all(isinstance(row, np.ndarray) and row.dtype == np.uint8 and row.ndim == 3 for row in values)
        parts = [values]
    else:
        of_tuple = list(values) if isinstance(values, tuple) else [values]
        parts = list(values.values()) if isinstance(values, dict) else of_tuple
        are_kept = all(isinstance(part, Tensor) and part.ndim for part in parts)
    if are_kept and type(inputs.are_features) is bool:
        yield from parts


@storable
@dataclass(frozen=True, eq=False)
class ReferenceAnswers:
    """Inputs and what was answered to them.

    Attributes
    ----------
    inputs : ReferenceInputs
    codes : int ndarray of shape (n_rows,)
        The labels that were predicted, as indices of `classes_`.
    probabilities : float ndarray of shape (n_rows, n_classes), or None
        None where the head has none.
    """

    inputs: ReferenceInputs
    codes: np.ndarray
    probabilities: np.ndarray | None

    _schema: ClassVar[Table] = {
        "codes": Array("n_reference", dtypes="i u", least=0, below="n_classes"),
        "inputs": _RowsOfNumbers(),
        "probabilities": Either(Nothing(), Array("n_reference", "n_classes", dtypes="f")),
    }


def keep_inputs(data: object, reading: Mapping[str, Any]) -> ReferenceInputs:
    """Return the inputs of data in a form that a file can hold; `reading` are the options of `as_batches`.

    Raises ValueError for more than 1,000 rows, for rows of several shapes, and for images that are one part of several.
    """
    if is_features(data):
        _check_count(len(data))
        return ReferenceInputs(dict(data.values), are_features=True)
    n_opened = 0

    def pixels_of(image: object) -> Tensor:
        nonlocal n_opened
        n_opened += 1
        return torch.from_numpy(np.array(image))

    # Images one by one, since they differ in size until they are preprocessed, and texts in one batch, equally long.
    is_text = reads_text(reading["transform"])
    options = {**reading, "batch_size": _MAX_ROWS + 1 if is_text else 1, "num_workers": 0, "pin_memory": False}
    if options["transform"] is not None and not is_text:
        options["transform"] = pixels_of
    n_rows, parts = 0, []
    for batch in as_batches(data, **options):
        n_rows += batch.n_rows
        _check_count(n_rows)
        parts.append(batch.inputs)
    if not n_opened:
        return ReferenceInputs(_joined(parts), are_features=False)
    if not all(isinstance(pixels, Tensor) for pixels in parts):
        raise ValueError("images that are one part of several inputs cannot be kept; give a loader of tensors")
    return ReferenceInputs([pixels[0].numpy() for pixels in parts], are_features=False)


def _check_count(n_rows: int) -> None:
    if n_rows > _MAX_ROWS:
        raise ValueError(f"there are more than {_MAX_ROWS:,} rows; a few dozen show a change as well, such as X[:50]")


def _joined(parts: Sequence[Inputs]) -> Any:
    """Put inputs together, row behind row, as copies."""
    first = parts[0]
    if isinstance(first, Mapping):
        return {name: _joined([part[name] for part in parts]) for name in first}  # type: ignore[index,call-overload]
    if isinstance(first, tuple):
        return tuple(_joined(several) for several in zip(*parts))
    tensors = [part.detach().cpu() for part in parts if isinstance(part, Tensor)]
    if len({tensor.shape[1:] for tensor in tensors}) > 1:
        raise ValueError("the rows differ in shape; give rows of one shape")
    return torch.cat(tensors)

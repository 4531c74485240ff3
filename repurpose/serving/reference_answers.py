"""`ReferenceAnswers`: a few inputs with the answers that a Repurposer gave them, which are saved and loaded with it.

Images are kept as pixels, before any preprocessing, so that the preprocessing is tested with the network.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model_handler import Features
from model_handler.data import as_batches
from repurpose.data.inputs import Inputs
from repurpose.data.kinds import is_features
from repurpose.persistence.values.parts import storable

__all__ = ["ReferenceAnswers", "ReferenceInputs", "check_reference_answers", "keep_inputs"]

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

    # One by one, since images differ in size until they are preprocessed.
    options = {**reading, "batch_size": 1, "num_workers": 0, "pin_memory": False}
    if options["transform"] is not None:
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


def check_reference_answers(answers: object, n_classes: int) -> None:
    """Raise ValueError for what cannot have been kept of a Repurposer of so many classes, as from a file."""
    if not isinstance(answers, ReferenceAnswers) or not isinstance(answers.inputs, ReferenceInputs):
        raise ValueError("its reference answers are none")
    codes, probabilities = answers.codes, answers.probabilities
    if not isinstance(codes, np.ndarray) or codes.ndim != 1 or codes.dtype.kind not in "iu" or not len(codes):
        raise ValueError("its reference answers have no codes of labels")
    if not 0 <= codes.min() <= codes.max() < n_classes:
        raise ValueError(f"its reference answers are not codes of {n_classes} classes")
    _check_inputs(answers.inputs, len(codes))
    if probabilities is None:
        return
    is_array = isinstance(probabilities, np.ndarray) and probabilities.dtype.kind == "f"
    if not is_array or probabilities.shape != (len(codes), n_classes):
        raise ValueError("its reference answers have no probabilities of each class")


def _check_inputs(inputs: ReferenceInputs, n_rows: int) -> None:
    """Raise ValueError for inputs that are not so many rows of numbers: a text would be the path of a file to read."""
    values = inputs.values
    if inputs.are_features is True:
        parts = list(values.values()) if isinstance(values, dict) else []
        are_kept = all(isinstance(part, np.ndarray) and part.dtype.kind == "f" and part.ndim == 2 for part in parts)
    elif isinstance(values, list):
        are_images = all(isinstance(row, np.ndarray) and row.dtype == np.uint8 and row.ndim == 3 for row in values)
        parts, are_kept = [values], are_images
    else:
        parts = [values] if isinstance(values, Tensor) else list(_parts(values))
        are_kept = all(isinstance(part, Tensor) and part.ndim for part in parts)
    if not (are_kept and parts and type(inputs.are_features) is bool and {len(part) for part in parts} == {n_rows}):
        raise ValueError(f"its reference answers have other inputs than {n_rows:,} rows of numbers")


def _parts(values: object) -> Iterable[object]:
    """Return what a tuple or a dict of parts consists of, nothing for what is neither."""
    if isinstance(values, dict):
        return values.values()
    return values if isinstance(values, tuple) else ()


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

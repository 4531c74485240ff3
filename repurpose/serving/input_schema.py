"""`InputSchema`: what the inputs of a network are, row by row: their shape, kind of numbers, and range.

It describes inputs as the network gets them, behind any preprocessing.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from model_handler.data import as_batches
from repurpose.data.inputs import Inputs
from repurpose.parameters import is_whole
from repurpose.serving.row_objections import RowObjections

__all__ = ["InputSchema", "InputSchemas", "check_schema", "learned_schema", "objections_to"]

Shape = tuple[int | None, ...]
_KIND = re.compile(r"b?(float)\d*|u?(int)\d+|(bool)|(complex)\d+")


@dataclass(frozen=True)
class InputSchema:
    """What every row of an input must be; None where anything goes.

    Parameters
    ----------
    shape : tuple of int or None, optional
        Of one row, without the axis of the rows; None for a size that may differ.
    dtype : str, numpy or torch dtype, optional
        Only its kind counts: floating, integer, boolean or complex. All floating inputs become the network's dtype.
    low, high : float, optional
        The least and the largest value that may occur.

    Raises
    ------
    ValueError
        For what is no shape, dtype or range.

    Examples
    --------
    >>> import numpy as np
    >>> from repurpose import InputSchema
    >>> InputSchema((3, None, None), "float32", low=0.0, high=1.0)
    InputSchema(shape=(3, None, None), dtype='float32', low=0.0, high=1.0)
    >>> InputSchema.of(np.array([[1.0, 2.0], [3.0, 5.0]], dtype=np.float32))
    InputSchema(shape=(2,), dtype='float32', low=1.0, high=5.0)
    """

    shape: Shape | None = None
    dtype: Any = None
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.shape is not None and not _is_shape(self.shape):
            raise ValueError(f"shape is a tuple of the sizes of one row, None for any, got {self.shape!r}")
        if self.dtype is not None:
            name = _dtype_name(self.dtype)
            if not _KIND.fullmatch(name):
                raise ValueError(f'dtype is one of numbers, such as "float32" or "int64", got {self.dtype!r}')
            object.__setattr__(self, "dtype", name)
        for name in ("low", "high"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, Real) or isinstance(value, bool) or math.isnan(value)):
                raise ValueError(f"{name} is a number or None, got {value!r}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low={self.low} is above high={self.high}, so that no value could be between them")

    @classmethod
    def of(cls, data: object) -> Self:
        """Return the narrowest schema that all rows of some data meet, such as those of training.

        `data` is an array, a tensor or a loader that gives tensors: images would be preprocessed first. Of inputs of
        several parts each has a schema. Raises ValueError for these, for rows of several kinds, and for NaN and
        infinite values.
        """
        shapes: set[tuple[int, ...]] = set()
        dtypes: set[str] = set()
        low, high = math.inf, -math.inf
        for batch in as_batches(data):
            part = batch.inputs
            if not isinstance(part, Tensor):
                raise ValueError("these inputs have several parts; make a schema of each, and a tuple or dict of them")
            if not _is_finite(part).all():
                raise ValueError("these inputs hold NaN or infinite values, which are no range")
            shapes.add(tuple(part.shape[1:]))
            dtypes.add(_dtype_name(part.dtype))
            if part.numel() and not part.is_complex():
                values = part.double()  # torch finds no extremes of uint16
                low, high = min(low, values.min().item()), max(high, values.max().item())
        if len({len(shape) for shape in shapes}) > 1 or len(dtypes) > 1:
            raise ValueError(f"these rows are of several kinds: of shapes {sorted(shapes)} and dtypes {sorted(dtypes)}")
        shape = tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*shapes))
        return cls(shape, dtypes.pop(), *((low, high) if low <= high else ()))


InputSchemas = InputSchema | tuple[InputSchema, ...] | Mapping[str, InputSchema]  # of inputs of several parts one each


def check_schema(schema: object) -> None:
    """Raise TypeError for anything but an `InputSchema`, a tuple of them or a dict of them by name."""
    parts = list(schema.values()) if isinstance(schema, Mapping) else schema if isinstance(schema, tuple) else [schema]
    if not parts or not all(isinstance(part, InputSchema) for part in parts):
        raise TypeError(f"schema is an InputSchema, or of several parts a tuple or a dict of them, got {schema!r}")


def learned_schema(learned: Mapping[str, Any]) -> InputSchemas | None:
    """Return what a Repurposer that learned these attributes knows of its inputs; None where it knows nothing.

    Networks keep the shape and dtype of a batch, heads on features the shapes of all rows. Neither keeps a range.
    """
    if (spec := learned.get("example_inputs_")) is not None:
        if isinstance(spec, Mapping) and "parts" not in spec:
            return _schema_of_spec(spec)
        return _of_each_part(spec["parts"] if isinstance(spec, Mapping) else spec, _schema_of_spec)
    if (shapes := learned.get("row_shape_")) is not None:
        return _of_each_part(shapes, InputSchema)
    return None


def objections_to(inputs: Inputs, schema: InputSchemas | None, n_rows: int) -> RowObjections:
    """Return what speaks against each row of some inputs; without a schema, NaN and infinite values alone."""
    found = RowObjections(n_rows)
    given, expected = _by_name(inputs), None if schema is None else _by_name(schema)
    if expected is not None and set(given) != set(expected):
        found.refuse_all("shape", f"there is {_names(given)}, where {_names(expected)} is expected")
        return found
    for name, part in given.items():
        _judge(found, part, InputSchema() if expected is None else expected[name], f"{name}: " if name else "")
    return found


def _judge(found: RowObjections, part: Tensor, expected: InputSchema, name: str) -> None:
    shape, dtype = tuple(part.shape[1:]), _dtype_name(part.dtype)
    if expected.shape is not None and not _fits(shape, expected.shape):
        found.refuse_all("shape", f"{name}a row of shape {shape}, where {expected.shape} is expected")
    if expected.dtype is not None and _kind(dtype) != _kind(expected.dtype):
        found.refuse_all("dtype", f"{name}values of dtype {dtype}, where {expected.dtype} is expected")
    found.add(~_is_finite(part), "not finite", lambda _: f"{name}NaN or infinite values")
    if (expected.low is None and expected.high is None) or not part.numel() or part.is_complex():
        return
    rows = part.reshape(len(part), -1).double().cpu()
    least, largest = rows.amin(dim=1).numpy(), rows.amax(dim=1).numpy()
    if expected.low is not None:
        found.add(least < expected.low, "range", lambda row: f"{name}a value of {least[row]:g}, below {expected.low:g}")
    if expected.high is not None:
        found.add(
            largest > expected.high, "range", lambda row: f"{name}a value of {largest[row]:g}, above {expected.high:g}"
        )


def _of_each_part(parts: Any, schema_of: Callable[[Any], InputSchema]) -> InputSchemas:
    """Make a schema of what is noted of inputs: a list of parts, a dict of them by name, or one alone."""
    if isinstance(parts, list):
        return tuple(map(schema_of, parts))
    if isinstance(parts, Mapping):
        return {name: schema_of(part) for name, part in parts.items()}
    return schema_of(parts)


def _schema_of_spec(part: Mapping[str, Any]) -> InputSchema:
    """Return the schema of one part of `example_inputs_`, whose first axis are rows."""
    shape, dtype = tuple(part["shape"][1:]), part["dtype"]
    # A batch of token ids is as long as its longest text, and the next one may be longer.
    return InputSchema((None,) if len(shape) == 1 and _kind(dtype) == "int" else shape, dtype)


def _by_name(parts: Any) -> dict[str, Any]:
    """Return parts by name, those of a tuple by "part 0", "part 1", ..., and one alone by no name."""
    if isinstance(parts, Mapping):
        return {f"input {name!r}": part for name, part in parts.items()}
    return {f"part {index}": part for index, part in enumerate(parts)} if isinstance(parts, tuple) else {"": parts}


def _names(parts: Mapping[str, object]) -> str:
    return ", ".join(parts) if "" not in parts else "a single input"


def _fits(shape: tuple[int, ...], expected: Shape) -> bool:
    return len(shape) == len(expected) and all(wanted in (None, size) for size, wanted in zip(shape, expected))


def _is_shape(shape: object) -> bool:
    return isinstance(shape, tuple) and all(size is None or is_whole(size, 0) for size in shape)


def _is_finite(part: Tensor) -> np.ndarray:
    """Tell of each row whether all its values are finite: (n_rows,)."""
    if not part.is_floating_point() and not part.is_complex():
        return np.ones(len(part), dtype=bool)
    return part.isfinite().reshape(len(part), -1).all(dim=1).cpu().numpy()


def _dtype_name(dtype: object) -> str:
    """Return the name of a dtype of torch or numpy, or of a text that names one; other things as text."""
    if isinstance(dtype, torch.dtype):
        return str(dtype).removeprefix("torch.")
    try:
        return np.dtype(dtype).name  # type: ignore[call-overload]
    except TypeError:  # such as "bfloat16", which numpy has not
        return str(dtype)


def _kind(dtype: str) -> str | None:
    """Return what kind of numbers a dtype has; None for what has none."""
    match = _KIND.fullmatch(dtype)
    return next(filter(None, match.groups()), None) if match else None

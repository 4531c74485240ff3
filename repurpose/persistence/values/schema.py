"""Schemas say of each thing that is learned what it can be: dtypes, shapes by the sizes of the task, finite, in bounds.

Each class states a table of its own attributes, as `_schema`; what a file gave is checked against it before it is used.
A size in a shape is a number, or a name that stands for the same number wherever it comes in one table: `n_classes`,
`n_features`, `n_layers` and such are known beforehand, others by the first array that has them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "Array",
    "By",
    "Dict",
    "Either",
    "Items",
    "Maybe",
    "Nothing",
    "Number",
    "Object",
    "Schema",
    "Sizes",
    "Table",
    "Text",
    "Truth",
    "Whole",
    "check_learned",
    "check_table",
    "is_of_library",
    "sizes_of_classes",
]

Sizes = dict[str, int]
_LARGEST = 2**63 - 1


class Schema(Protocol):
    """What a value can be."""

    def check(self, value: object, where: str, sizes: Sizes) -> None:
        """Raise ValueError, naming `where` the value stands and what was expected, for one that cannot be."""
        ...


Table = Mapping[str, Schema]


@dataclass(frozen=True)
class Maybe:
    """In a table: what may be absent."""

    schema: Schema

    def check(self, value: object, where: str, sizes: Sizes) -> None:
        """Check what is there."""
        self.schema.check(value, where, sizes)


class Array:
    """An array, or with `tensor` a tensor, of one of these dtypes; numbers are finite, at least `least`, below `below`.

    A dtype is a name, such as ``"float64"``, or a kind of numpy, such as ``"U"``. `below` may be the name of a size.
    With `finite` False, numbers are any that there are: those that only tell how training went.
    """

    def __init__(
        self,
        *shape: str | int,
        dtypes: str = "float64",
        least: float = -np.inf,
        below: float | str = np.inf,
        tensor: bool = False,
        finite: bool = True,
    ) -> None:
        self.shape, self.dtypes, self.tensor = shape, dtypes.split(), tensor
        self.least, self.below, self.finite = least, below, finite

    def check(self, value: object, where: str, sizes: Sizes) -> None:
        """Check kind, dtype, shape and numbers; sizes that were not known are known from then on."""
        array = value.numpy() if isinstance(value, Tensor) and self.tensor and _has_numpy(value) else value
        if not isinstance(array, np.ndarray) or isinstance(value, np.ndarray) == self.tensor:
            raise _wrong(where, value, self._text(sizes))
        if not {array.dtype.name, array.dtype.kind} & {*self.dtypes} or array.ndim != len(self.shape):
            raise _wrong(where, value, self._text(sizes))
        for given, size in zip(array.shape, self.shape):
            if given != (sizes.setdefault(size, given) if isinstance(size, str) else size):
                raise _wrong(where, value, self._text(sizes))
        if self.finite and array.dtype.kind in "iuf" and array.size:
            below = sizes[self.below] if isinstance(self.below, str) else self.below
            # NaN compares as false; infinity is below no infinity.
            if not (self.least <= array.min() and array.max() < below) or np.isneginf(array.min()):
                raise _wrong(where, value, self._text(sizes), "which holds other numbers")

    def _text(self, sizes: Sizes) -> str:
        shape = ", ".join(str(size if isinstance(size, int) else sizes.get(size, size)) for size in self.shape)
        bounds = ["finite"] * self.finite + [f"at least {self.least:g}"] * bool(np.isfinite(self.least))
        bounds += [f"below {self.below}"] * bool(isinstance(self.below, str) or np.isfinite(self.below))
        what = "a tensor" if self.tensor else "an array"
        return f"{what} of dtype {' or '.join(self.dtypes)} and shape ({shape}){', '.join(['', *bounds])},"


@dataclass(frozen=True)
class Whole:
    """A whole number."""

    least: int | str = 0
    most: int | str = _LARGEST

    def check(self, value: object, where: str, sizes: Sizes) -> None:
        """Check that it is one, and within its bounds."""
        least, most = (sizes[end] if isinstance(end, str) else end for end in (self.least, self.most))
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
            raise _wrong(where, value, "a whole number")
        if not least <= value <= most:
            raise _wrong(where, value, f"a whole number from {least} to {most}")


@dataclass(frozen=True)
class Number:
    """A number, finite unless it only tells how training went."""

    least: float = -np.inf
    above: float = -np.inf
    finite: bool = True

    def check(self, value: object, where: str, sizes: Sizes) -> None:
        """Check that it is one, finite, and within its bounds."""
        is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
        if not is_number or (self.finite and not abs(value) < np.inf) or value < self.least or value <= self.above:  # type: ignore[arg-type,operator]
            bound = f" of at least {self.least:g}" if np.isfinite(self.least) else ""
            bound += f" above {self.above:g}" if np.isfinite(self.above) else ""
            raise _wrong(where, value, f"a {'finite ' if self.finite else ''}number{bound}")


class Text:
    """Text, one of `words` where there are any."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def check(self, value: object, where: str, sizes: Sizes) -> None:
        """Check that it is text, and one of the words."""
        if not isinstance(value, str) or (self.words and value not in self.words):
            raise _wrong(where, value, f"one of {list(self.words)}" if self.words else "text")


class Truth:
    """True or False."""

    def check(self, value: object, where: str, sizes: Sizes) -> None:
        """Check that it is one of the two."""
        if not isinstance(value, (bool, np.bool_)):
            raise _wrong(where, value, "True or False")


class Nothing:
    """None."""

    def check(self, value: object, where: str, sizes: Sizes) -> None:
        """Check that it is None."""
        if value is not None:
            raise _wrong(where, value, "None")


class Either:
    """What one of several schemas describes."""

    def __init__(self, *schemas: Schema) -> None:
        self.schemas = schemas

    def check(self, value: object, where: str, sizes: Sizes) -> None:
        """Check by each in turn; the errors of all, if none fits."""
        said = []
        for schema in self.schemas:
            tried = dict(sizes)
            try:
                schema.check(value, where, tried)
            except ValueError as error:
                said.append(str(error))
                continue
            sizes.update(tried)
            return
        raise ValueError("; ".join(said))


@dataclass(frozen=True)
class Items:
    """A list, or of another `kind` a tuple, whose items are all of one schema.

    `n` is how many, as in a shape. With `apart` the sizes that an item has beyond those known are its own.
    """

    schema: Schema
    kind: type = list
    n: str | int | None = None
    apart: bool = False

    def check(self, value: object, where: str, sizes: Sizes) -> None:
        """Check the kind, the number and each item."""
        if not isinstance(value, self.kind) or not isinstance(value, (list, tuple)):
            raise _wrong(where, value, f"a {self.kind.__name__}")
        if self.n is not None:
            wanted = sizes.setdefault(self.n, len(value)) if isinstance(self.n, str) else self.n
            if len(value) != wanted:
                raise _wrong(where, value, f"a {self.kind.__name__} of {wanted}")
        for number, item in enumerate(value):
            self.schema.check(item, f"{where}[{number}]", dict(sizes) if self.apart else sizes)


@dataclass(frozen=True)
class Dict:
    """A dict whose names are all of one schema, and its values of another."""

    names: Schema
    values: Schema | None = None

    def check(self, value: object, where: str, sizes: Sizes) -> None:
        """Check the kind, each name and each value."""
        if not isinstance(value, dict):
            raise _wrong(where, value, "a dict")
        for name, item in value.items():
            self.names.check(name, f"{where}: a name", sizes)
            if self.values is not None:
                self.values.check(item, f"{where}[{str(name)[:40]!r}]", sizes)


class By:
    """What a function that raises ValueError takes; of None it is not asked."""

    def __init__(self, check: Callable[[Any], object]) -> None:
        self.function = check

    def check(self, value: object, where: str, sizes: Sizes) -> None:
        """Call the function."""
        try:
            self.function(value)
        except ValueError as error:
            raise ValueError(f"its {where}: {error}") from error


class Object:
    """An object of a class, by name where importing it would cost, with the attributes of a table.

    The table is that of the class, or the one given. Attributes beyond the table are its own.
    """

    def __init__(self, cls: type | str, table: Table | None = None) -> None:
        self.cls, self.table = cls, table

    def check(self, value: object, where: str, sizes: Sizes) -> None:
        """Check the class and each attribute of the table."""
        name = self.cls if isinstance(self.cls, str) else self.cls.__name__
        if type(value).__name__ != name or (isinstance(self.cls, type) and type(value) is not self.cls):
            raise _wrong(where, value, f"a {name}")
        table = self.table if self.table is not None else table_of(type(value))
        check_table(table, vars(value), sizes, where=f"{where}.", others=True)


def sizes_of_classes(classes: object) -> Sizes:
    """Return the sizes that follow from the classes. Raises ValueError where these are not two different labels."""
    if not isinstance(classes, np.ndarray) or classes.ndim != 1:
        raise ValueError("its classes_ are no array of labels")
    n_classes = len(classes)
    if len(set(classes.tolist())) < max(2, n_classes):
        raise ValueError("its classes_ are not two different labels or more")
    # Of two classes one logit is enough, and the basis of logits has always one less.
    return {"n_classes": n_classes, "n_logits": n_classes if n_classes > 2 else 1, "n_latent": n_classes - 1}


def check_learned(cls: type, learned: Mapping[str, object], sizes: Sizes) -> None:
    """Check what a file says that a Repurposer of a class learned, heads of folds included.

    A user's class may learn more than ours, and by a head of its own: then only what all have in common is checked.
    Raises ValueError as `check_table` does.
    """
    common = table_of(cls, with_head=False)
    if not is_of_library(cls):
        check_table(common, learned, dict(sizes), others=True)
        return
    whole = table_of(cls)
    check_table(whole, learned, dict(sizes))
    of_head = {name: schema for name, schema in whole.items() if name not in common}
    for number, head in enumerate(learned.get("fold_heads_", [])):  # type: ignore[arg-type,var-annotated]
        check_table(of_head, head, dict(sizes), where=f"fold_heads_[{number}].")


def is_of_library(cls: type) -> bool:
    """Tell whether a class is one of the library's, which state a schema, and no user's, whose schema is written."""
    return cls.__module__.partition(".")[0] == __name__.partition(".")[0]


def table_of(cls: type, *, with_head: bool = True) -> dict[str, Schema]:
    """Put together the tables that a class and those above it state; a name that comes twice is as the class says.

    Without the head, only those of classes that leave open what `target_model_` is.
    """
    found: dict[str, Schema] = {}
    for above in reversed(cls.__mro__):
        if with_head or "target_model_" not in table_of(above):
            found.update(vars(above).get("_schema", {}))
    return found


def check_table(
    table: Table, values: Mapping[str, object], sizes: Sizes, *, where: str = "", others: bool = False
) -> None:
    """Check the values by name. Raises ValueError for one that is missing, or unlike its schema.

    Without `others`, a name that is not in the table is a mistake too.
    """
    if missing := [name for name, schema in table.items() if name not in values and not isinstance(schema, Maybe)]:
        raise ValueError(f"its {where}{missing[0]} is missing")
    if not others and (more := sorted(name for name in values if name not in table)):
        raise ValueError(f"its {where}{more[0][:60]} is nothing that is learned; only {', '.join(table)} is")
    for name, schema in table.items():
        if name in values:
            schema.check(values[name], f"{where}{name}", sizes)


def _has_numpy(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and tensor.dtype != torch.bfloat16


def _wrong(where: str, value: object, expected: str, which: str = "") -> ValueError:
    return ValueError(
        f"its {where} is {_described(value)}{f', {which}' if which else ''}, where {expected} was expected"
    )


def _described(value: object) -> str:
    if isinstance(value, (np.ndarray, Tensor)):
        return f"{type(value).__name__} of dtype {value.dtype} and shape {tuple(value.shape)}"
    if isinstance(value, (list, tuple, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)[:60] if not isinstance(value, int) or abs(value) < 10**60 else "a number of many digits"
    return f"a {type(value).__name__}"

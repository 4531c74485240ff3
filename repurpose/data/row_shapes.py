"""Row shapes are noted in training, and other ones at prediction are refused where they are a mistake.

Networks take more than is meant: a row of tokens (1, 60, 8) passes for one of 60 where rows of (60, 8) were learned,
and what is flattened may be arranged in any way. Images may have other sizes than in training, and texts other lengths.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor

from model_handler import ModelError
from repurpose.data.inputs import Inputs
from repurpose.data.padding import MASK

__all__ = [
    "SeenShapes",
    "Shapes",
    "check_learned_shapes",
    "check_row_shapes",
    "failures_blamed_on_sizes",
    "shapes_of_spec",
]

_MOST_AXES = 64  # of a tensor
Shape = tuple[int | None, ...]  # of one row, without the axis of the rows; None where rows differ
Shapes = Shape | list[Shape] | Mapping[str, Shape]  # of inputs of several parts one each


class SeenShapes:
    """The shapes of rows that pass by: `shapes` is a tuple, of several parts a list of them or a dict by name."""

    def __init__(self) -> None:
        self.shapes: Shapes | None = None

    def note(self, inputs: Inputs) -> None:
        """Take the inputs of a batch into account. Raises ValueError where rows have another number of axes."""
        new = _of_any_length(inputs)
        if self.shapes is None:
            self.shapes = new
            return
        for shape, earlier in _pairs(new, self.shapes):
            if len(shape) != len(earlier):
                raise ValueError(
                    f"a batch has rows of shape {shape} after rows of shape {earlier}; give one kind of rows"
                )
        self.shapes = _merged(new, self.shapes)


def shapes_of_spec(spec: list[Any] | Mapping[str, Any]) -> Shapes:
    """Return the shapes of rows in what `as_spec` noted of some inputs."""
    if isinstance(spec, list):
        return [_shape_of_spec(part) for part in spec]
    if "parts" in spec:
        return {name: _shape_of_spec(part) for name, part in spec["parts"].items()}
    return _shape_of_spec(spec)


def check_learned_shapes(shapes: object) -> None:
    """Raise ValueError for what `SeenShapes` cannot have gathered, as from a file; None is known to nobody."""
    parts = shapes.values() if isinstance(shapes, dict) else shapes if isinstance(shapes, list) else [shapes]
    if shapes is not None and not all(_is_shape(part) for part in parts):
        raise ValueError(f"the shape of its rows is none: {str(shapes)[:60]!r}")


def check_row_shapes(
    inputs: Inputs, learned: Shapes | None, class_name: str, *, what: str = "X", since: str = "training"
) -> None:
    """Raise ValueError, naming both shapes, for rows unlike those of training that a network may take by chance.

    That is another number of axes, and the same numbers in another arrangement, of which neither the first axis nor the
    last is as it was; what else differs is for the network to judge. `learned` is what `SeenShapes` gathered, or None
    where nothing is known; `what` is the argument that has the rows, and `since` where the other ones were.
    """
    shapes = _shapes_of(inputs)
    if shapes == learned:  # as nearly always
        return
    for given, trained_on in _pairs(shapes, learned):
        if len(given) == len(trained_on) and not _is_rearranged(given, trained_on):
            continue
        raise ValueError(
            f"{what} has rows of shape {_text(given)}, but {class_name} is expecting rows of shape "
            f"{_text(trained_on)} as input, as in {since}{_fix(given, trained_on, what, since)}"
        )


@contextmanager
def failures_blamed_on_sizes(
    inputs: Inputs, learned: Shapes | None, class_name: str, *, since: str = "training"
) -> Iterator[None]:
    """Raise ModelError where a network fails in this block on rows of other sizes than in training, naming both.

    `since` is where the other ones were. Only parts of floating numbers are judged, such as images: texts are seldom as
    long as in training.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, IndexError, AssertionError, ModelError) as error:
        for part, given, trained_on in _parts_and_shapes(inputs, learned):
            if part.is_floating_point() and not _fits(given, trained_on):
                raise ModelError(
                    f"X has rows of shape {_text(given)}, which the network does not take: {class_name} is expecting "
                    f"rows of shape {_text(trained_on)}, as in {since}; resize them to that, in the data or by "
                    f"transform ({error})"
                ) from error
        raise


def _shapes_of(inputs: Inputs) -> Shapes:
    if isinstance(inputs, Mapping):
        return {name: _row_shape(part) for name, part in inputs.items()}
    if isinstance(inputs, tuple):
        return [_row_shape(part) for part in inputs]
    return _row_shape(inputs)


def _of_any_length(inputs: Inputs) -> Shapes:
    """Return the shapes of rows; texts are as long as the longest of their batch, and the next may be longer."""
    shapes = _shapes_of(inputs)
    if not isinstance(shapes, Mapping) or MASK not in shapes:
        return shapes
    is_padded = {name: shape == shapes[MASK] and len(shape) == 1 for name, shape in shapes.items()}
    return {name: (None,) if is_padded[name] else shape for name, shape in shapes.items()}


def _row_shape(part: Tensor) -> Shape:
    return tuple(map(int, part.shape[1:]))


def _shape_of_spec(part: Mapping[str, Any]) -> Shape:
    return tuple(part["shape"][1:])


def _parts_and_shapes(inputs: Inputs, learned: Shapes | None) -> Iterator[tuple[Tensor, Shape, Shape]]:
    """Yield the parts of inputs of the kind that was learned, each with its shape and that of training."""
    if isinstance(inputs, Mapping) and isinstance(learned, Mapping):
        yield from ((part, _row_shape(part), learned[name]) for name, part in inputs.items() if name in learned)
    elif isinstance(inputs, tuple) and isinstance(learned, list):
        yield from ((part, _row_shape(part), shape) for part, shape in zip(inputs, learned))
    elif isinstance(inputs, Tensor) and isinstance(learned, tuple):
        yield inputs, _row_shape(inputs), learned


def _pairs(shapes: Shapes, others: Shapes | None) -> Iterator[tuple[Shape, Shape]]:
    """Yield the shapes of parts that both have; none where they are of different kinds."""
    if isinstance(shapes, Mapping) and isinstance(others, Mapping):
        yield from ((shapes[name], others[name]) for name in shapes if name in others)
    elif isinstance(shapes, list) and isinstance(others, list):
        yield from zip(shapes, others)
    elif isinstance(shapes, tuple) and isinstance(others, tuple):
        yield shapes, others


def _merged(new: Shapes, seen: Shapes) -> Shapes:
    """Return the shapes seen so far, with None for a size that differs in the new ones."""
    if isinstance(seen, Mapping) and isinstance(new, Mapping):
        return {name: _common(new[name], shape) if name in new else shape for name, shape in seen.items()}
    if isinstance(seen, list) and isinstance(new, list):
        return [_common(*pair) for pair in zip(new, seen)]
    return _common(new, seen) if isinstance(seen, tuple) and isinstance(new, tuple) else seen


def _common(shape: Shape, other: Shape) -> Shape:
    return tuple(size if size == of_other else None for size, of_other in zip(shape, other))


def _is_rearranged(given: Shape, trained_on: Shape) -> bool:
    """Tell whether rows hold as many numbers along other axes: neither channels first nor last stayed in place."""
    sizes = [size for size in (*given, *trained_on) if size is not None]
    if len(given) < 2 or len(sizes) < 2 * len(given) or given[0] == trained_on[0] or given[-1] == trained_on[-1]:
        return False
    return prod(sizes[: len(given)]) == prod(sizes[len(given) :])


def _fix(given: Shape, trained_on: Shape, what: str, since: str) -> str:
    if len(given) == len(trained_on):
        return (
            f": the same numbers in another arrangement. Give their axes in the order of {since}, {what}.transpose(...)"
        )
    if len(given) == len(trained_on) - 1 and _fits(given, trained_on[1:]):
        missing = f", {what}[:, None] if an axis of one is missing" if trained_on[0] == 1 else ""
        return f": give {what}[None] if this is one row and not a batch{missing}"
    if len(given) == len(trained_on) + 1 and given[0] == 1:
        return f": take out the axis of one, {what}[:, 0]"
    return ": give rows with the same axes"


def _fits(shape: Shape, learned: Shape) -> bool:
    return all(other in (None, size) for size, other in zip(shape, learned))


def _text(shape: Shape) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in shape)}{',' * (len(shape) == 1)})"


def _is_shape(shape: object) -> bool:
    if not isinstance(shape, tuple) or len(shape) >= _MOST_AXES:
        return False
    return all(size is None or (type(size) is int and size >= 0) for size in shape)

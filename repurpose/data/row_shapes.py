"""Row shapes: what rows looked like in training, and which others at prediction are a mistake.

Networks take more than is meant: a row of tokens (1, 60, 8) passes for one of 60 where rows of (60, 8) were learned,
and what is flattened may be arranged in any way. Images may have other sizes than in training, and texts other lengths.
"""

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

__all__ = ["SeenShapes", "check_row_shapes", "shapes_of_spec"]

Shape = tuple[int | None, ...]  # of one row, without the axis of the rows; None where rows differ


class SeenShapes:
    """The shapes of rows that pass by: `shapes` is a tuple, of several parts a list of them or a dict by name."""

    def __init__(self) -> None:
        self.shapes: Any = None

    def note(self, inputs: Any) -> None:
        """Take the inputs of a batch into account. Raises ValueError where rows have another number of axes."""
        new = _shapes_of(inputs)
        if self.shapes is None:
            self.shapes = new
            return
        for mine, theirs in _pairs(new, self.shapes):
            if len(mine) != len(theirs):
                raise ValueError(
                    f"a batch has rows of shape {mine} after rows of shape {theirs}; give one kind of rows"
                )
        self.shapes = _merged(new, self.shapes)


def shapes_of_spec(spec: Any) -> Any:
    """The shapes of rows in what `as_spec` noted of some inputs."""
    if isinstance(spec, list):
        return [shapes_of_spec(part) for part in spec]
    if "parts" in spec:
        return {name: shapes_of_spec(part) for name, part in spec["parts"].items()}
    return tuple(spec["shape"][1:])


def check_row_shapes(inputs: Any, learned: Any, class_name: str) -> None:
    """Raise ValueError, naming both shapes, for rows unlike those of training that a network may take by chance.

    That is another number of axes, and the same numbers in another arrangement, of which neither the first axis nor the
    last is as it was; what else differs is for the network to judge. `learned` is what `SeenShapes` gathered, or None
    where nothing is known.
    """
    shapes = _shapes_of(inputs)
    if shapes == learned:  # as nearly always
        return
    for mine, theirs in _pairs(shapes, learned):
        if len(mine) == len(theirs) and not _is_rearranged(mine, theirs):
            continue
        raise ValueError(
            f"X has rows of shape {_text(mine)}, but {class_name} is expecting rows of shape {_text(theirs)} as input, "
            f"as in training{_fix(mine, theirs)}"
        )


def _shapes_of(inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return {name: _shapes_of(part) for name, part in inputs.items()}
    if isinstance(inputs, tuple):
        return [_shapes_of(part) for part in inputs]
    return tuple(map(int, inputs.shape[1:]))


def _pairs(mine: Any, theirs: Any) -> Iterator[tuple[Shape, Shape]]:
    """The shapes of parts that both have; none where they are of different kinds."""
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
        yield from ((mine[name], theirs[name]) for name in mine if name in theirs)
    elif isinstance(mine, list) and isinstance(theirs, list):
        yield from zip(mine, theirs)
    elif isinstance(mine, tuple) and isinstance(theirs, tuple):
        yield mine, theirs


def _merged(mine: Any, theirs: Any) -> Any:
    if isinstance(theirs, Mapping):
        return {name: _merged(mine[name], part) if name in mine else part for name, part in theirs.items()}
    if isinstance(theirs, list):
        return [_merged(*parts) for parts in zip(mine, theirs)]
    return tuple(size if size == other else None for size, other in zip(mine, theirs))


def _is_rearranged(mine: Shape, theirs: Shape) -> bool:
    """Whether rows hold as many numbers along other axes: neither channels first nor channels last stayed in place."""
    sizes = [size for size in (*mine, *theirs) if size is not None]
    if len(mine) < 2 or len(sizes) < 2 * len(mine) or mine[0] == theirs[0] or mine[-1] == theirs[-1]:
        return False
    return prod(sizes[: len(mine)]) == prod(sizes[len(mine) :])


def _fix(mine: Shape, theirs: Shape) -> str:
    if len(mine) == len(theirs):
        return ": the same numbers in another arrangement. Give their axes in the order of training, X.transpose(...)"
    if len(mine) == len(theirs) - 1 and _fits(mine, theirs[1:]):
        one = ", X[:, None] if an axis of one is missing" if theirs[0] == 1 else ""
        return f": give X[None] if this is one row and not a batch{one}"
    if len(mine) == len(theirs) + 1 and mine[0] == 1:
        return ": take out the axis of one, X[:, 0]"
    return ": give rows with the same axes"


def _fits(mine: Shape, theirs: Shape) -> bool:
    return all(other in (None, size) for size, other in zip(mine, theirs))


def _text(shape: Shape) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in shape)}{',' * (len(shape) == 1)})"

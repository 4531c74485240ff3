"""Shapes of inputs are kept beside features, so that who judges the inputs can judge those that were not read again."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

__all__ = ["NotedShapes", "without_numbers"]


class NotedShapes:
    """Notes the shapes of the rows of inputs that pass by, each once, in `found`."""

    def __init__(self, judge: Callable[[Any], None] | None = None) -> None:
        self.found: list[list[Any]] = []
        self._judge = judge

    def __call__(self, inputs: Any) -> None:
        """Note the shapes of a batch of inputs, and let the judge see it."""
        if self._judge is not None:
            self._judge(inputs)
        if (shapes := _shapes(inputs)) not in self.found:
            self.found.append(shapes)


def without_numbers(shapes: list[list[Any]]) -> Iterator[Any]:
    """Yield inputs of one row on the device "meta" for each of the shapes that were noted."""
    for kind, *parts in shapes:
        made = {name: torch.empty((1, *shape), device="meta") for name, shape in parts}
        yield made if kind == "dict" else tuple(made.values()) if kind == "tuple" else made["0"]


def _shapes(inputs: Any) -> list[Any]:
    if isinstance(inputs, Mapping):
        return ["dict", *([str(name), list(part.shape[1:])] for name, part in inputs.items())]
    if isinstance(inputs, tuple):
        return ["tuple", *([str(number), list(part.shape[1:])] for number, part in enumerate(inputs))]
    return ["tensor", ["0", list(inputs.shape[1:])]]

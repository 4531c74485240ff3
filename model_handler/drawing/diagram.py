"""A diagram is a picture of a network as plain data: its boxes, edges and captions, before layout and rendering.

It is made in `collapsing` and drawn by `svg` and `dot`.
"""

from dataclasses import dataclass
from typing import Literal

__all__ = ["MARKS", "Box", "Diagram", "Edge", "Kind", "legend_of"]

Kind = Literal["input", "output", "layer", "operation", "container"]

MARKS = {
    "added": "added",
    "partly added": "part of it added",
    "dropped": "dropped",
    "partly dropped": "part of it dropped",
    "adapted": "has an adapter",
    "partly adapted": "part of it has adapters",
    "frozen": "frozen: does not learn",
    "partly frozen": "part of it frozen",
}


@dataclass(frozen=True)
class Box:
    """One box: a layer, an operation, a folded container, an input or the output.

    `lines` are the texts below its name, `marks` keys of `MARKS`, `layers` the names of the layers that it stands for.
    """

    name: str
    kind: Kind
    lines: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Edge:
    """Data that flows from one box to another, both by their number; `dropped` where it did so before the edits."""

    tail: int
    head: int
    dropped: bool = False


@dataclass(frozen=True)
class Diagram:
    """A whole picture: a title, a line below it, a note on how to read it, boxes from top to bottom, and edges."""

    title: str
    subtitle: str
    note: str
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]


def legend_of(diagram: Diagram) -> dict[str, str]:
    """Return the marks that occur, each with its meaning."""
    present = {mark for box in diagram.boxes for mark in box.marks}
    return {mark: meaning for mark, meaning in MARKS.items() if mark in present}

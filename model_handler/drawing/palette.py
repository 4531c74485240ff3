"""The palette: colours that colour-blind readers tell apart (after Okabe and Ito, 2008), on a white ground of its own.

Colour is never the only sign: each mark is also written on its box.
"""

from typing import NamedTuple

from model_handler.drawing.diagram import Box

__all__ = ["EDGE", "EDGE_DROPPED", "FADED", "INK", "MARK_COLOURS", "MUTED", "PAPER", "Colours", "colours_of"]

PAPER, INK, MUTED, FADED = "#ffffff", "#1f2933", "#52606d", "#7b6a68"
EDGE, EDGE_DROPPED = "#52606d", "#b3453a"


class Colours(NamedTuple):
    """The colours of a box: what fills it, its line, and the strip that bears its mark."""

    fill: str
    line: str


MARK_COLOURS = {
    "added": Colours("#dcf3e8", "#00704f"),
    "partly added": Colours("#f0faf5", "#00704f"),
    "dropped": Colours("#fbeeec", "#b3453a"),
    "partly dropped": Colours("#fdf8f7", "#b3453a"),
    "adapted": Colours("#fdf0d5", "#8a5a00"),
    "partly adapted": Colours("#fef8ec", "#8a5a00"),
    "frozen": Colours("#d9eaf8", "#005b94"),
    "partly frozen": Colours("#eff6fc", "#005b94"),
}

_KIND_COLOURS = {
    "input": Colours("#e4e7eb", "#52606d"),
    "output": Colours("#e4e7eb", "#52606d"),
    "operation": Colours("#f5f7fa", "#9aa5b1"),
    "layer": Colours("#ffffff", "#7b8794"),
    "container": Colours("#ffffff", "#3e4c59"),
}


def colours_of(box: Box) -> Colours:
    """Return the colours of a box: those of its first mark, or of its kind."""
    return MARK_COLOURS[box.marks[0]] if box.marks else _KIND_COLOURS[box.kind]

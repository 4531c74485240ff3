"""Graphviz: a diagram in the dot language, for the `dot` program where it is installed, and for other tools."""

import shutil
import subprocess

from model_handler.drawing.diagram import Box, Diagram, legend_of
from model_handler.drawing.palette import EDGE, EDGE_DROPPED, FADED, INK, MARK_COLOURS, PAPER, colours_of
from model_handler.drawing.text import clean

__all__ = ["dot_of", "has_dot", "run_dot"]

_MAX_SECONDS = 10


def dot_of(diagram: Diagram) -> str:
    """Return the diagram in the dot language."""
    heading = "\\l".join(_quotable(text) for text in (diagram.title, diagram.subtitle, diagram.note) if text)
    lines = [
        "digraph {",
        f'  graph [bgcolor="{PAPER}", fontname="Helvetica", nodesep=0.3];',
        f'  label="{heading}\\l"; labelloc=t; labeljust=l;',
        f'  node [shape=box, style="rounded,filled", margin="0.25,0.08", fontsize=11, fontcolor="{INK}"];',
        '  node [fontname="Helvetica"];',
        f'  edge [color="{EDGE}", arrowsize=0.7];',
        *(f"  {_node(number, box)}" for number, box in enumerate(diagram.boxes)),
    ]
    for edge in diagram.edges:
        dropped = f' [style=dashed, color="{EDGE_DROPPED}"]' if edge.dropped else ""
        lines.append(f"  box{edge.tail} -> box{edge.head}{dropped};")
    if legend := legend_of(diagram):
        lines.append('  subgraph cluster_legend { label="Legend"; fontsize=11; color="#cbd2d9";')
        for number, (mark, meaning) in enumerate(legend.items()):
            fill, line = MARK_COLOURS[mark]
            dashed = ",dashed" if mark == "dropped" else ""
            lines.append(
                f'    legend{number} [label="{meaning}", fillcolor="{fill}", color="{line}", '
                f'style="rounded,filled{dashed}"];'
            )
        lines.append("  }")
    return "\n".join([*lines, "}", ""])


def has_dot() -> bool:
    """Return whether the `dot` program is installed."""
    return shutil.which("dot") is not None


def run_dot(source: str, output_format: str) -> bytes:
    """Run `dot` on `source`. Raises OSError or subprocess.SubprocessError where it fails or takes too long."""
    program = shutil.which("dot")
    if program is None:
        raise FileNotFoundError("the dot program is not installed")
    return subprocess.run(
        [program, f"-T{output_format}"], input=source.encode(), capture_output=True, check=True, timeout=_MAX_SECONDS
    ).stdout


def _node(number: int, box: Box) -> str:
    fill, line = colours_of(box)
    marks = [f"[{' · '.join(mark.upper() for mark in box.marks)}]"] if box.marks else []
    label = "\\n".join(_quotable(text) for text in (box.name, *box.lines, *marks))
    more = ""
    if "dropped" in box.marks:
        more = f', style="rounded,filled,dashed", fontcolor="{FADED}"'
    if box.kind == "container":
        more += ", peripheries=2"
    if box.kind in ("input", "output"):
        more += ", shape=ellipse, style=filled"
    return f'box{number} [label="{label}", fillcolor="{fill}", color="{line}"{more}];'


def _quotable(text: str) -> str:
    """Return text inside quotes; graphviz also reads HTML's entities there."""
    return clean(text).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")

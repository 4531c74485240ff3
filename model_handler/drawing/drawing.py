"""Drawings: what `visualize_net` returns, shown by notebooks and saved to files."""

import subprocess
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from model_handler.drawing.diagram import Diagram
from model_handler.drawing.dot import dot_of, has_dot, run_dot
from model_handler.drawing.svg import svg_of
from model_handler.files.whole_files import make_folder, write_whole

__all__ = ["Drawing", "check_path"]

_BY_ANYONE, _BY_DOT = (".svg", ".dot", ".gv"), (".png", ".pdf")
_MAX_EDGES = 500


@dataclass(frozen=True, repr=False)
class Drawing:
    """A picture of a network: show it in a notebook by naming it, or save it."""

    diagram: Diagram

    @property
    def source(self) -> str:
        """The graph in graphviz's dot language."""
        return dot_of(self.diagram)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the picture to a file whose suffix says how: .svg, .dot or .gv; .png and .pdf where dot is installed.

        The directories above it are made; a picture that is there is replaced as a whole. Raises ValueError for any
        other suffix, without dot, or where dot fails.
        """
        path = check_path(path)
        suffix = path.suffix.lower()
        make_folder(path.parent)
        if suffix in _BY_DOT:
            try:
                write_whole(path, [run_dot(self.source, suffix[1:])])
            except subprocess.SubprocessError as error:
                raise ValueError(f"dot failed to make {str(path)!r}: {error}; save the picture as .svg") from error
        else:
            write_whole(path, [(self._repr_svg_() if suffix == ".svg" else self.source).encode()])

    def __repr__(self) -> str:
        return f"Drawing({self.diagram.title}, {len(self.diagram.boxes)} boxes)"

    def _repr_svg_(self) -> str:
        """Return the picture as SVG: graphviz's where the `dot` program is installed and does its work, ours otherwise.

        Ours too where there are very many edges: `dot` takes minutes for all layers of a DenseNet.
        """
        if has_dot() and len(self.diagram.edges) <= _MAX_EDGES:
            try:
                return run_dot(self.source, "svg").decode()
            except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
                pass
        return svg_of(self.diagram)


def check_path(path: str | PathLike[str]) -> Path:
    """Return the path of a picture that can be made here. Raises ValueError naming the suffixes that can."""
    path = Path(path)
    works = (*_BY_ANYONE, *_BY_DOT) if has_dot() else _BY_ANYONE
    if path.suffix.lower() in works:
        return path
    why = (
        "needs the dot program of graphviz, which is not installed"
        if path.suffix.lower() in _BY_DOT
        else "is no format"
    )
    raise ValueError(f"{str(path)!r}: {path.suffix or 'no suffix'} {why}; a picture can be saved as {', '.join(works)}")

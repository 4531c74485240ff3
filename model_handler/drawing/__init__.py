"""Drawing: pictures of networks, folded to be read, with what edits did to them. Knows layers, not what they compute.

`flow` reads the layers of a network, `changes` compares it with what was given, `collapsing` and `describing` make a
`diagram` of it; `dot` and `svg` draw that, `svg` with the places of `layering` and `layout`.

May import: errors, extraction, files, graph, network, quantities, surgery.
"""

from model_handler.drawing.drawing import Drawing, check_path
from model_handler.drawing.network import draw

__all__ = ["Drawing", "check_path", "draw"]

"""How the tests of this folder look into diagrams: by the names of boxes."""

import pytest
from torch import nn
from torchvision.models import resnet18

from model_handler.drawing import Drawing
from tests.model_handler.networks import handle

__all__ = ["boxes", "edges", "marks", "resnet", "without_dot"]


def resnet(example_inputs=None):
    return handle(resnet18(weights=None), example_inputs)


def boxes(drawing: Drawing) -> dict:
    found = {box.name: box for box in drawing.diagram.boxes}
    assert len(found) == len(drawing.diagram.boxes)
    return found


def edges(drawing: Drawing, *, dropped: bool = False) -> set[tuple[str, str]]:
    named = drawing.diagram.boxes
    return {(named[e.tail].name, named[e.head].name) for e in drawing.diagram.edges if e.dropped == dropped}


def marks(drawing: Drawing) -> dict[str, tuple[str, ...]]:
    return {name: box.marks for name, box in boxes(drawing).items() if box.marks}


@pytest.fixture
def without_dot(monkeypatch, tmp_path):
    """A path with no program on it, so none called dot."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


class Interleaved(nn.Module):
    """Two lists whose modules take turns: folded, each would lie between parts of the other."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(4) for _ in range(3))

    def forward(self, x):
        for line, norm in zip(self.lines, self.norms):
            x = norm(line(x))
        return x

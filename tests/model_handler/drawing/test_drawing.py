"""Drawings as objects: shown, saved, by graphviz where it is there and works, and without it."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from torch import nn

from model_handler.drawing.dot import dot_of
from tests.model_handler.drawing.pictures import resnet, without_dot  # noqa: F401
from tests.model_handler.networks import handle

OURS = 'role="img"'


@pytest.fixture
def fake_dot(monkeypatch, tmp_path):
    """A program called dot that says how it was called, or fails."""

    def install(code: str) -> None:
        program = tmp_path / "bin" / "dot"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!{sys.executable}\nimport sys\n{code}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent))

    return install


@pytest.mark.usefixtures("without_dot")
def test_without_dot_it_is_drawn_all_the_same(tmp_path):
    drawing = resnet().visualize_net(tmp_path / "net.svg")
    text = (tmp_path / "net.svg").read_text(encoding="utf-8")
    assert text == drawing._repr_svg_()
    assert OURS in text
    ElementTree.fromstring(text)


@pytest.mark.parametrize("suffix", ["dot", "gv", "GV"])
def test_the_source_is_saved_as_it_is(tmp_path, suffix):
    drawing = resnet().visualize_net()
    drawing.save(tmp_path / "new" / f"net.{suffix}")
    assert (tmp_path / "new" / f"net.{suffix}").read_text(encoding="utf-8") == drawing.source


@pytest.mark.usefixtures("without_dot")
def test_formats_that_need_dot_are_refused_before_anything_is_drawn(tmp_path):
    message = "'.*net.png': .png needs the dot program of graphviz, which is not installed; .* as .svg, .dot, .gv$"
    with pytest.raises(ValueError, match=message):
        resnet().visualize_net(tmp_path / "net.png")
    with pytest.raises(ValueError, match=re.escape(".jpeg is no format; a picture can be saved as .svg, .dot, .gv")):
        resnet().visualize_net().save("net.jpeg")
    with pytest.raises(ValueError, match="no suffix is no format"):
        resnet().visualize_net("net")
    assert list(tmp_path.iterdir()) == []


def test_dot_draws_where_it_is_installed(fake_dot, tmp_path):
    fake_dot("source = sys.stdin.read(); print(sys.argv[1:], source.startswith('digraph'), source.count('->'))")
    drawing = resnet().visualize_net()
    assert drawing._repr_svg_() == "['-Tsvg'] True 12\n"
    drawing.save(tmp_path / "net.pdf")
    assert (tmp_path / "net.pdf").read_text() == "['-Tpdf'] True 12\n"


def test_a_dot_that_fails_is_replaced_or_named(fake_dot, tmp_path):
    fake_dot("sys.exit(3)")
    drawing = resnet().visualize_net()
    assert OURS in drawing._repr_svg_()
    with pytest.raises(ValueError, match=r"dot failed to make .*exit status 3.*; save the picture as .svg"):
        drawing.save(tmp_path / "net.png")


def test_a_dot_that_hangs_is_not_waited_for(fake_dot, monkeypatch):
    fake_dot("import time; time.sleep(60)")
    monkeypatch.setattr("model_handler.drawing.dot._MAX_SECONDS", 0.2)
    assert OURS in resnet().visualize_net()._repr_svg_()


def test_the_source_names_all_boxes_and_marks_dropped_edges():
    source = resnet().drop_layer_top(1).visualize_net().source
    assert re.findall(r'label="(\w+)\\n', source)[:5] == ["x", "conv1", "bn1", "relu", "maxpool"]
    assert re.search(r"box10 -> box11 \[style=dashed", source) or re.search(r"-> box\d+ \[style=dashed", source)
    assert "[DROPPED]" in source


def test_names_are_quoted_for_dot():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.add_module('say "&lt;\\', nn.Linear(2, 2))

        def forward(self, x):
            return getattr(self, 'say "&lt;\\')(x)

    assert 'label="say \\"&amp;lt;\\\\\\nLinear' in dot_of(handle(Named()).visualize_net().diagram)


def test_an_installed_dot_accepts_the_source():
    try:
        subprocess.run(["dot", "-V"], check=True, capture_output=True)
    except OSError:
        pytest.skip("graphviz is not installed")
    drawing = resnet().drop_layer_top(1).visualize_net()
    assert "<svg" in drawing._repr_svg_()
    assert OURS not in drawing._repr_svg_()


def test_its_text_is_short():
    assert repr(resnet().visualize_net()) == "Drawing(ResNet, 13 boxes)"

"""SVG: it is XML, says all names, escapes them, and bears its marks in words and classes."""

import xml.etree.ElementTree as ElementTree

import pytest
from torch import nn

from model_handler.drawing.diagram import Box, Diagram, Edge
from model_handler.drawing.svg import svg_of
from tests.model_handler.drawing.pictures import resnet
from tests.model_handler.networks import handle

SVG = "{http://www.w3.org/2000/svg}"


def parsed(drawing):
    return ElementTree.fromstring(svg_of(drawing.diagram))


def groups(root):
    return [group for group in root.iter(f"{SVG}g") if group.get("class", "").startswith("box")]


def test_every_box_is_a_group_with_its_name_and_the_layers_in_it():
    handler = resnet()
    titles = [group.find(f"{SVG}title").text for group in groups(parsed(handler.visualize_net()))]
    assert len(titles) == 13
    listed = {name for title in titles for name in title.replace(" | ", ", ").split(", ")}
    assert set(handler.layer_names) <= listed


def test_marks_are_classes_and_words():
    handler = resnet().drop_layer_top(1).add_layer_top([("head", nn.Linear(512, 3))]).freeze(["conv1", "layer1.0"])
    root = parsed(handler.visualize_net())
    found = {
        group.find(f"{SVG}text").text: (group.get("class").split(), "".join(group.itertext())) for group in groups(root)
    }
    for name, mark in (("fc", "dropped"), ("head", "added"), ("conv1", "frozen"), ("layer1", "partly-frozen")):
        classes, words = found[name]
        assert mark in classes
        assert mark.replace("-", " ").upper() in words
    assert found["layer2"][0] == ["box", "container"]
    legend = ["".join(group.itertext()) for group in root.iter(f"{SVG}g") if group.get("class") == "legend"]
    assert legend == ["added", "dropped", "frozen: does not learn", "part of it frozen"]
    dashed = [path for path in root.iter(f"{SVG}path") if path.get("class") == "edge dropped"]
    assert [path.get("stroke-dasharray") for path in dashed] == ["5 4"]


def test_nothing_in_it_reaches_the_page_around_it():
    text = svg_of(resnet().visualize_net().diagram)
    assert "<style" not in text
    assert " id=" not in text
    assert "<script" not in text


@pytest.mark.parametrize("name", ['a "quoted" <b>&amp;', "two\nlines", "ends in \\", "\x00\ud800", "深い層", "'; drop"])
def test_any_name_gives_xml(name):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.add_module(name, nn.Linear(2, 2))

        def forward(self, x):
            return getattr(self, name)(x)

    root = parsed(handle(Named()).visualize_net())
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)
    assert shown in [text.text for text in root.iter(f"{SVG}text")]


def test_text_fits_its_box_in_the_widest_common_font():
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    handler = resnet().freeze("layer1")
    for group in groups(parsed(handler.visualize_net(depth=2, unfold="layer1.0"))):
        width = float(group.find(f"{SVG}rect").get("width"))
        for text in group.iter(f"{SVG}text"):
            font = FontProperties(family="DejaVu Sans", weight=text.get("font-weight", "normal"))
            path = TextPath((0, 0), text.text, size=float(text.get("font-size")), prop=font)
            assert path.get_extents().width <= width


def test_a_long_name_is_shortened_in_its_box_and_whole_in_its_title():
    name = "a_rather_long_name_of_a_module." * 4 + "end"
    root = ElementTree.fromstring(svg_of(Diagram("t", "", "", (Box(name, "layer"), Box("b", "layer")), (Edge(0, 1),))))
    group = groups(root)[0]
    assert group.find(f"{SVG}title").text == name
    assert "…" in group.find(f"{SVG}text").text

"""The table of a network's layers, in the terminal and in a notebook."""

import dataclasses
from html.parser import HTMLParser

import pytest
import torch
import torchvision
from torch import nn

from model_handler import ModelError, ModelHandler
from tests.model_handler.networks import DataDependent, Residual, Shared, handle, images


class Page(HTMLParser):
    """The texts of the cells of each row, with a check that every tag is closed."""

    def __init__(self, page):
        super().__init__()
        self.open, self.rows = [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("th", "td"):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def resnet50():
    with torch.device("meta"):
        network = torchvision.models.resnet50()
    return ModelHandler(network, torch.empty(1, 3, 224, 224, device="meta"))


def test_resnet50_at_depth_1_has_a_row_a_stage(resnet50):
    summary = resnet50.summary(depth=1)
    stages = ["layer1", "layer2", "layer3", "layer4"]
    assert [row.name for row in summary.rows] == [
        "conv1",
        "bn1",
        "relu",
        "maxpool",
        *stages,
        "avgpool",
        "flatten",
        "fc",
    ]
    rows = {row.name: row for row in summary.rows}
    assert rows["layer3"].type == "Sequential"
    assert rows["layer3"].output_shape == (1, 1024, 14, 14)
    assert rows["layer3"].n_parameters == 7_098_368
    assert rows["conv1"].flops == 2 * 112 * 112 * 64 * 3 * 7 * 7
    assert (summary.n_parameters, summary.n_trainable) == (25_557_032, 25_557_032)
    assert "25.6 M parameters, 25.6 M of them trainable; 102 MB; 8.18 G FLOPs" in str(summary)


def test_depth_2_has_a_row_a_block_and_none_a_row_a_layer(resnet50):
    assert [row.type for row in resnet50.summary(2).rows].count("Bottleneck") == 16
    assert [row.name for row in resnet50.summary().rows] == resnet50.layer_names
    assert resnet50.summary(9).rows == resnet50.summary().rows


@pytest.mark.parametrize("depth", [0, -1, 1.5, True, "1"])
def test_a_depth_is_a_positive_whole_number(resnet50, depth):
    with pytest.raises(ModelError, match=f"depth must be a whole number from 1 on, or None .*; got {depth!r}"):
        resnet50.summary(depth)


def test_the_table_in_the_terminal_is_aligned(resnet50):
    lines = str(resnet50.summary(1)).splitlines()
    header, rows = lines[2], lines[4:15]
    assert repr(resnet50.summary(1)) == str(resnet50.summary(1))
    for title in ("type", "output shape", "state"):
        assert all(row[header.index(title) - 1] == " " for row in rows if len(row) > header.index(title))
    end = header.index("parameters") + len("parameters")
    assert [row[:end].split()[-2:] for row in rows if row.startswith("layer")] == [
        ["216", "k"],
        ["1.22", "M"],
        ["7.10", "M"],
        ["15.0", "M"],
    ]
    assert max(map(len, lines)) <= 80


def test_long_names_keep_their_end():
    network = nn.Sequential()
    network.add_module("a" * 60 + "b", nn.Linear(2, 2))
    text = str(handle(network).summary())
    assert "…" + "a" * 42 + "b " in text
    assert "a" * 60 + "b" in handle(network).summary()._repr_html_()


def test_what_is_frozen_and_added_is_said_in_words():
    handler = handle(Residual(), images()).drop_layer_top(1)
    handler.add_layer_top([("head", nn.Linear(4, 2))]).freeze("layer1.0").randomize("conv1", random_state=0)
    states = {row.name: row.state for row in handler.summary(1).rows}
    assert states == {
        "conv1": "trainable, new weights",
        "bn1": "trainable",
        "relu": "",
        "layer1": "partly frozen",
        "avgpool": "",
        "flatten": "",
        "head": "trainable, added",
    }
    rows = {row.name: row for row in handler.summary(2).rows}
    assert (rows["layer1.0"].state, rows["layer1.0"].type) == ("frozen", "Block")
    assert "edit 1: drop_layer_top(1)" in handler.summary().notes
    frozen = sum(parameter.numel() for parameter in Residual().layer1[0].parameters())
    assert handler.summary().n_parameters - handler.summary().n_trainable == frozen


def test_a_layer_exchanged_for_another_class_counts_as_added():
    handler = handle(Residual(), images()).replace("layer1.0.relu", nn.GELU())
    assert {row.name: row.state for row in handler.summary().rows}["layer1.0.relu"] == "added"
    assert {row.name: row.state for row in handler.summary(1).rows}["layer1"] == "trainable, partly added"


def test_a_layer_with_another_name_is_not_added():
    handler = handle(Residual(), images()).rename("layer1.0", "first").rename("relu", "act")
    assert {row.name: row.state for row in handler.summary(1).rows}["act"] == ""
    assert {row.name: row.state for row in handler.summary().rows}["layer1.first.add"] == ""
    assert {row.name: (row.type, row.state) for row in handler.summary(2).rows}["layer1.first"] == (
        "Block",
        "trainable",
    )


def test_parameters_of_a_repeated_layer_are_in_brackets_and_count_once():
    network = DataDependent()
    summary = handle(network, torch.randn(2, 4)).summary()
    assert [row.counted for row in summary.rows] == [False, False, False, True, False, False]
    assert "(20)" in str(summary)
    assert summary.n_parameters == sum(parameter.numel() for parameter in network.parameters())
    assert "Shared module: block.0 = block.0@1" in summary.notes


def test_parameters_of_no_layer_are_named_and_in_the_total():
    network = torchvision.models.vit_b_32(weights=None)
    summary = handle(network, torch.empty(1, 3, 224, 224, device="meta")).summary(1)
    assert summary.n_parameters == sum(parameter.numel() for parameter in network.parameters())
    assert "768 parameters belong to none of these layers: class_token" in summary.notes
    assert sum(row.n_parameters for row in summary.rows) == summary.n_parameters - 768


def test_the_notebook_shows_one_valid_table_with_every_name_escaped():
    network = nn.Sequential()
    network.add_module("<b>&", nn.Linear(2, 2))
    handler = handle(network, torch.randn(3, 2))
    handler.name = "<i>"
    page = handler.summary()._repr_html_()
    assert "<b>" not in page
    assert "<i>" not in page
    assert Page(page).rows == [
        ["layer", "type", "output shape", "parameters", "FLOPs", "state"],
        ["<b>&", "Linear", "3 x 2", "6", "8", "trainable"],
    ]


def test_the_notebook_and_the_terminal_show_the_same_rows(resnet50):
    summary = resnet50.summary(2)
    rows = Page(summary._repr_html_()).rows
    lines = str(summary).splitlines()[4 : 4 + len(summary.rows)]
    assert [" ".join(" ".join(row).split()) for row in rows[1:]] == [" ".join(line.split()) for line in lines]


def test_a_summary_stays_as_it_was_made():
    handler = handle(Shared(), torch.randn(2, 4))
    summary = handler.summary()
    text = str(summary)
    handler.freeze("a")
    assert str(summary) == text != str(handler.summary())
    with pytest.raises(dataclasses.FrozenInstanceError):
        summary.flops = 0

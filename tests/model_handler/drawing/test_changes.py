"""Marks: what pictures say of layers that were added, dropped and frozen."""

import torch
from torch import nn

from tests.model_handler.drawing.pictures import boxes, edges, marks, resnet
from tests.model_handler.networks import DataDependent, Residual, handle, images


def test_a_network_that_was_not_edited_has_no_marks():
    assert marks(resnet().visualize_net()) == {}


def test_a_new_head_stands_beside_the_old_one():
    handler = resnet().drop_layer_top(1).add_layer_top([("dropout", nn.Dropout()), ("head", nn.Linear(512, 10))])
    drawing = handler.visualize_net()
    assert marks(drawing) == {"fc": ("dropped",), "dropout": ("added",), "head": ("added",)}
    assert {("flatten", "dropout"), ("dropout", "head"), ("head", "output")} <= edges(drawing)
    assert edges(drawing, dropped=True) == {("flatten", "fc")}


def test_undo_takes_the_marks_back():
    handler = resnet().drop_layer_top(1)
    assert marks(handler.visualize_net()) == {"fc": ("dropped",)}
    assert marks(handler.undo().visualize_net()) == {}


def test_what_a_truncation_dropped_keeps_its_old_place():
    drawing = resnet().truncate("layer2").visualize_net()
    old = ["layer3", "layer4", "avgpool", "flatten", "fc"]
    assert marks(drawing) == dict.fromkeys(old, ("dropped",))
    assert edges(drawing, dropped=True) == set(zip(["layer2", *old], old))
    assert ("layer2", "output") in edges(drawing)


def test_a_container_of_which_a_part_is_gone_says_so():
    drawing = resnet().truncate("layer4.0").visualize_net()
    assert marks(drawing)["layer4"] == ("partly dropped",)
    assert boxes(drawing)["layer4"].lines[1].startswith("9 layers")


def test_a_replaced_layer_is_added_in_place_of_the_old_one():
    drawing = resnet(torch.zeros(1, 3, 32, 32)).replace("maxpool", nn.AvgPool2d(2)).visualize_net()
    assert marks(drawing) == {"maxpool": ("added",)}
    assert boxes(drawing)["maxpool"].lines == ("AvgPool2d", "(1, 64, 8, 8)", "in place of a MaxPool2d")
    assert edges(drawing, dropped=True) == set()


def test_a_new_layer_under_an_old_name_elsewhere_does_not_hide_the_old_one():
    handler = handle(Residual()).truncate("layer1").add_layer_top([nn.Flatten(), ("fc", nn.LazyConv2d(1, 1))][:1])
    drawing = handler.visualize_net()
    kinds = sorted((box.name, box.marks) for box in drawing.diagram.boxes if box.marks)
    assert kinds == [
        ("avgpool", ("dropped",)),
        ("fc", ("dropped",)),
        ("flatten", ("added",)),
        ("flatten", ("dropped",)),
    ]


def test_an_inserted_layer_between_parts_of_a_container_splits_its_box():
    drawing = resnet().insert_after("layer3.0", ("squeeze", nn.Conv2d(256, 256, 1))).visualize_net()
    assert marks(drawing) == {"squeeze": ("added",)}
    assert {("layer2", "layer3.0"), ("layer3.0", "squeeze"), ("squeeze", "layer3.1")} <= edges(drawing)


def test_randomized_layers_are_no_new_ones():
    assert marks(handle(Residual(), images()).randomize("fc").visualize_net()) == {}


def test_frozen_layers_are_marked_and_containers_in_part():
    drawing = resnet().freeze(["conv1", "bn1", "layer1", "layer2.0"]).visualize_net()
    frozen = dict.fromkeys(["conv1", "bn1", "layer1"], ("frozen",))
    assert marks(drawing) == {**frozen, "layer2": ("partly frozen",)}
    n_frozen = 9408 + 128 + 147_968 + 230_144  # conv1, bn1, layer1 and layer2.0 of torchvision's resnet18
    assert (
        drawing.diagram.subtitle == f"69 layers, 11.7 M parameters, {(11_689_512 - n_frozen) / 1e6:.1f} M of them learn"
    )


def test_unfrozen_layers_lose_their_mark():
    handler = resnet().freeze("layer1").unfreeze("layer1")
    assert marks(handler.visualize_net()) == {}


def test_layers_that_never_learned_are_frozen():
    network = Residual()
    network.fc.requires_grad_(False)
    assert marks(handle(network).visualize_net()) == {"fc": ("frozen",)}


def test_an_added_layer_can_be_frozen():
    handler = resnet().add_layer_top([("head", nn.Linear(1000, 2))]).freeze("head")
    assert marks(handler.visualize_net()) == {"head": ("added", "frozen")}


def test_what_was_taken_off_without_a_graph_is_dropped():
    handler = handle(DataDependent(), torch.zeros(2, 4)).truncate("stem").add_layer_top([("top", nn.Linear(4, 2))])
    drawing = handler.visualize_net()
    assert marks(drawing) == {"block": ("dropped",), "head": ("dropped",), "top": ("added",)}
    assert {("x", "stem"), ("stem", "top"), ("top", "output")} <= edges(drawing)


def test_a_renamed_layer_is_neither_added_nor_dropped():
    drawing = resnet().rename("layer4", "last").rename("fc", "head").visualize_net()
    assert marks(drawing) == {}
    assert {"last", "head"} <= set(boxes(drawing))


def test_layers_dropped_at_the_bottom_lead_into_what_stayed():
    drawing = handle(Residual(), images()).drop_layer_bottom(2).visualize_net()
    assert marks(drawing) == {"conv1": ("dropped",), "bn1": ("dropped",)}
    assert {("conv1", "bn1"), ("bn1", "relu")} <= edges(drawing, dropped=True)


def test_freezing_shows_without_a_graph():
    drawing = handle(DataDependent(), torch.zeros(1, 4)).freeze("block").visualize_net()
    assert marks(drawing) == {"block": ("frozen",)}


def test_a_drawing_is_not_changed_by_later_edits():
    handler = resnet()
    drawing = handler.visualize_net()
    before = drawing.source
    handler.drop_layer_top(1).freeze("layer1")
    assert drawing.source == before

"""Layout: no two boxes overlap, edges run downwards and past boxes, and simple pictures look as they should."""

from itertools import combinations, pairwise

import pytest
import torch
from torch import nn
from torchvision.models import densenet121, googlenet, swin_t

from model_handler.drawing.layout import lay_out
from model_handler.drawing.svg import _sizes
from tests.model_handler.drawing.pictures import resnet
from tests.model_handler.networks import handle

NETWORKS = {
    "densenet": lambda: handle(densenet121(weights=None)).visualize_net(depth=3),
    "googlenet": lambda: handle(googlenet(weights=None, init_weights=False, aux_logits=False)).visualize_net(
        depth=None
    ),
    "swin": lambda: handle(swin_t(weights=None)).visualize_net(depth=None),
    "edited": lambda: resnet().truncate("layer3").add_layer_top([("fc", nn.Flatten())]).visualize_net(depth=None),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_boxes_do_not_overlap_and_edges_run_down_beside_them(name):
    diagram = NETWORKS[name]().diagram
    sizes = _sizes(diagram.boxes)
    layout = lay_out(sizes, [(edge.tail, edge.head, edge.dropped) for edge in diagram.edges])
    frames = [(x - w / 2, y, x + w / 2, y + h) for (x, y), (w, h) in zip(layout.places, sizes)]
    for frame, other in combinations(frames, 2):
        assert frame[2] <= other[0] or other[2] <= frame[0] or frame[3] <= other[1] or other[3] <= frame[1]
    for edge, route in zip(diagram.edges, layout.routes):
        assert route[0] == (layout.places[edge.tail][0], pytest.approx(frames[edge.tail][3]))
        assert route[-1] == layout.places[edge.head]
        assert all(lower >= upper - 1e-6 for (_, upper), (_, lower) in pairwise(route))
        for (x, upper), (next_x, lower) in pairwise(route):
            for left, top, right, bottom in frames:
                beside = max(x, next_x) < left or min(x, next_x) > right
                assert beside or lower <= top + 1e-6 or upper >= bottom - 1e-6
    assert all(left >= -1e-6 and right <= layout.width + 1e-6 for left, _, right, _ in frames)
    assert max(bottom for *_, bottom in frames) <= layout.height + 1e-6


def test_the_longest_way_runs_straight_and_a_shortcut_beside_it():
    boxes = [(100.0, 40.0)] * 5
    layout = lay_out(boxes, [(0, 1, False), (1, 2, False), (2, 3, False), (0, 3, False), (3, 4, False)])
    assert len({x for x, _ in layout.places}) == 1
    shortcut = {x for x, _ in layout.routes[3][2:-2]}
    assert len(shortcut) == 1
    assert abs(shortcut.pop() - layout.places[1][0]) >= 50


def test_equal_branches_stand_evenly_about_what_they_read():
    layout = lay_out([(100.0, 40.0)] * 5, [(0, n, False) for n in (1, 2, 3)] + [(n, 4, False) for n in (1, 2, 3)])
    x = [place for place, _ in layout.places]
    assert x[2] == x[0] == x[4]
    assert x[2] - x[1] == x[3] - x[2] >= 100


def test_edges_that_need_not_cross_do_not():
    crossed = [(0, 3, False), (1, 2, False), (2, 4, False), (3, 5, False)]
    x = [place for place, _ in lay_out([(100.0, 40.0)] * 6, crossed).places]
    assert (x[0] < x[1]) == (x[3] < x[2]) == (x[5] < x[4])


def test_a_row_has_at_most_a_dozen_boxes():
    branches = range(1, 41)
    layout = lay_out([(100.0, 40.0)] * 42, [(0, n, False) for n in branches] + [(n, 41, False) for n in branches])
    rows = [y for _, y in layout.places]
    assert max(rows.count(y) for y in rows) == 12


def test_nothing_is_laid_out_as_nothing():
    assert lay_out([], []).height == 0


def test_the_layout_does_not_depend_on_hashing():
    network = torch.nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    assert handle(network).visualize_net()._repr_svg_() == handle(network).visualize_net()._repr_svg_()

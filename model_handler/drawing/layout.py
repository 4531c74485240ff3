"""Layout computes coordinates: where each box stands and which way each edge runs, in pixels.

Rows and their order come from `layering`; what is here gives them coordinates: the longest way through a network runs
straight down, branches stand beside it, lanes are straight.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from model_handler.drawing.layering import Connection, Layering, layer

__all__ = ["Layout", "Point", "lay_out"]

Point = tuple[float, float]

_BETWEEN_BOXES, _BETWEEN_LANES, _BESIDE_LANE = 28.0, 12.0, 18.0
_ROW_GAP, _MAX_ROW_GAP = 26.0, 90.0
_ROUNDS = 3
_FIRM, _BRANCH, _LANE, _LOOSE = 1e6, 10.0, 1.0, 1e-3  # how strongly a node wants its place


@dataclass(frozen=True, eq=False)
class Layout:
    """The middle of each box's upper side, the points of each edge from top to bottom, and the size of the whole."""

    places: list[Point]
    routes: list[list[Point]]
    width: float
    height: float


def lay_out(sizes: Sequence[tuple[float, float]], connections: Sequence[Connection]) -> Layout:
    """Place boxes of `sizes` (width, height), numbered so that each connection goes to a higher number."""
    if not sizes:
        return Layout([], [], 0.0, 0.0)
    layering = layer(len(sizes), connections)
    x = _across(layering, sizes, connections)
    edges = [(x[box] - sizes[box][0] / 2, x[box] + sizes[box][0] / 2) for box in range(len(sizes))]
    left = min([edge for edge, _ in edges] + [x[node] for _, lane in layering.lanes for node in lane])
    right = max([edge for _, edge in edges] + [x[node] for _, lane in layering.lanes for node in lane])
    x = {node: place - left for node, place in x.items()}
    tops, bottoms = _down(layering, sizes, x)
    row_of = {node: number for number, row in enumerate(layering.rows) for node in row}
    places = []
    for box, (_, height) in enumerate(sizes):
        row = row_of[box]
        places.append((x[box], (tops[row] + bottoms[row] - height) / 2))
    routes = []
    for route in layering.routes:
        tail, head = route[0], route[-1]
        points = [(x[tail], places[tail][1] + sizes[tail][1])]
        points += [(x[node], side[row_of[node]]) for node in route[1:-1] for side in (tops, bottoms)]
        points.insert(1, (x[tail], bottoms[row_of[tail]]))
        points += [(x[head], tops[row_of[head]]), (x[head], places[head][1])]
        routes.append(points)
    return Layout(places, routes, right - left, bottoms[-1])


def _across(
    layering: Layering, sizes: Sequence[tuple[float, float]], connections: Sequence[Connection]
) -> dict[int, float]:
    """Return the middle of every node, by rounds from top to bottom, after each of which lanes are drawn straight."""
    firm = _straight_pairs(layering, connections)
    reads: dict[int, list[int]] = {}
    heads: dict[int, list[int]] = {}
    for upper, lower in layering.pairs():
        reads.setdefault(lower, []).append(upper)
        heads.setdefault(upper, []).append(lower)
    x: dict[int, float] = {}
    straight: dict[int, float] = {}
    for _ in range(_ROUNDS):
        for row in layering.rows:
            wishes, weights = [], []
            for node in row:
                wish, weight = _wish(node, layering.n_boxes, firm, reads, heads, straight, x)
                wishes.append(wish)
                weights.append(weight)
            gaps = [_gap(left, right, layering.n_boxes, sizes) for left, right in pairwise(row)]
            x.update(zip(row, _spread(wishes, weights, gaps)))
        for tail, lane in layering.lanes:
            aside = sum(x[node] - x[tail] for node in lane)
            straight.update(dict.fromkeys(lane, (max if aside >= 0 else min)(x[node] for node in lane)))
    return x


def _wish(
    node: int,
    n_boxes: int,
    firm: Mapping[int, int],
    reads: Mapping[int, list[int]],
    heads: Mapping[int, list[int]],
    straight: Mapping[int, float],
    x: Mapping[int, float],
) -> tuple[float, float]:
    """Return where a node wants to stand, and how strongly."""
    if node in firm:
        return x[firm[node]], _FIRM
    if node in straight:
        return straight[node], _LANE
    if above := reads.get(node):
        return sum(x[other] for other in above) / len(above), _BRANCH if node < n_boxes else _LANE
    if known := [x[other] for other in heads.get(node, ()) if other in x]:
        return sum(known) / len(known), _BRANCH
    return 0.0, _LOOSE


def _straight_pairs(layering: Layering, connections: Sequence[Connection]) -> dict[int, int]:
    """Find for a box the one right above it that it continues: each is the other's only longest way."""
    row_of = {node: number for number, row in enumerate(layering.rows) for node in row}
    height = [0] * layering.n_boxes
    for tail, head, _ in sorted(connections, reverse=True):
        height[tail] = max(height[tail], height[head] + 1)
    below: dict[int, list[tuple[tuple[bool, int], int]]] = {}
    above: dict[int, list[tuple[tuple[bool, int], int]]] = {}
    for tail, head, dropped in connections:
        if row_of[head] == row_of[tail] + 1:
            below.setdefault(tail, []).append(((not dropped, height[head]), head))
            above.setdefault(head, []).append(((not dropped, 0), tail))
    next_of, last_of = _single_best(below), _single_best(above)
    return {head: tail for head, tail in last_of.items() if next_of.get(tail) == head}


def _single_best(choices: Mapping[int, list[tuple[tuple[bool, int], int]]]) -> dict[int, int]:
    found = {}
    for box, ranked in choices.items():
        best = max(value for value, _ in ranked)
        winners = [other for value, other in ranked if value == best]
        if len(winners) == 1:
            found[box] = winners[0]
    return found


def _gap(left: int, right: int, n_boxes: int, sizes: Sequence[tuple[float, float]]) -> float:
    halves = sum(sizes[node][0] / 2 for node in (left, right) if node < n_boxes)
    n_lanes = (left >= n_boxes) + (right >= n_boxes)
    return halves + (_BETWEEN_BOXES, _BESIDE_LANE, _BETWEEN_LANES)[n_lanes]


def _spread(wishes: Sequence[float], weights: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """Find the places nearest to the wishes, by weighted squares, that keep the gaps: pooled isotonic regression."""
    offset, offsets = 0.0, [0.0]
    for gap in gaps:
        offset += gap
        offsets.append(offset)
    pools: list[tuple[float, float, int]] = []  # mean, weight, number of nodes
    for wish, weight, start in zip(wishes, weights, offsets):
        mean, total, number = wish - start, weight, 1
        while pools and pools[-1][0] > mean:
            other, other_total, other_number = pools.pop()
            mean = (mean * total + other * other_total) / (total + other_total)
            total, number = total + other_total, number + other_number
        pools.append((mean, total, number))
    flat = [mean for mean, _, number in pools for _ in range(number)]
    return [round(mean + start, 1) for mean, start in zip(flat, offsets)]


def _down(
    layering: Layering, sizes: Sequence[tuple[float, float]], x: Mapping[int, float]
) -> tuple[list[float], list[float]]:
    """Return the upper and lower side of each row; the gap between two grows with how far edges go aside in it."""
    row_of = {node: number for number, row in enumerate(layering.rows) for node in row}
    aside = [0.0] * len(layering.rows)
    for upper, lower in layering.pairs():
        aside[row_of[lower]] = max(aside[row_of[lower]], abs(x[upper] - x[lower]))
    tops, bottoms, y = [], [], 0.0
    for number, row in enumerate(layering.rows):
        y += min(_MAX_ROW_GAP, _ROW_GAP + 0.08 * aside[number]) if number else 0.0
        tops.append(y)
        y += max((sizes[node][1] for node in row if node < layering.n_boxes), default=0.0)
        bottoms.append(y)
    return tops, bottoms

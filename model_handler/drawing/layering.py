"""Layering (layered graph drawing) assigns boxes to rows, orders each row, and leads long edges past the rows between.

After Sugiyama, Tagawa and Toda (1981): longest-path rows, a dummy node a row for an edge that passes it, and orders by
barycentres. The edges of one box share a lane, from which they branch off.
"""

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Layering", "layer"]

_WIDEST = 12  # boxes in a row
_SWEEPS = 8

Connection = tuple[int, int, bool]  # from a box to a box by their number, and whether it was dropped


@dataclass(frozen=True, eq=False)
class Layering:
    """Rows from top to bottom, each of nodes from left to right: boxes by their number, and lanes numbered after them.

    `routes` gives each connection its nodes, `lanes` each lane its nodes from top to bottom and the box it leaves.
    """

    n_boxes: int
    rows: list[list[int]]
    routes: list[list[int]]
    lanes: list[tuple[int, list[int]]]

    def pairs(self) -> list[tuple[int, int]]:
        """Return the nodes that are joined, each in the row above the other."""
        return list(dict.fromkeys(pair for route in self.routes for pair in pairwise(route)))


def layer(n_boxes: int, connections: Sequence[Connection]) -> Layering:
    """Return rows for boxes that are numbered so that each connection goes to a higher number."""
    ranks = _ranks(n_boxes, connections)
    rows: list[list[int]] = [[] for _ in range(max(ranks, default=-1) + 1)]
    for box, rank in enumerate(ranks):
        rows[rank].append(box)
    layering = _with_lanes(n_boxes, connections, ranks, rows)
    _untangle(layering)
    return layering


def _ranks(n_boxes: int, connections: Sequence[Connection]) -> list[int]:
    """Return a row below all that it reads for each box; one that reads nothing stands right above what reads it."""
    reads: list[list[int]] = [[] for _ in range(n_boxes)]
    heads: list[list[int]] = [[] for _ in range(n_boxes)]
    for tail, head, _ in connections:
        reads[head].append(tail)
        heads[tail].append(head)
    ranks: list[int] = []
    width: dict[int, int] = {}
    for box in range(n_boxes):
        rank = max((ranks[tail] + 1 for tail in reads[box]), default=0)
        while width.get(rank, 0) >= _WIDEST:
            rank += 1
        ranks.append(rank)
        width[rank] = width.get(rank, 0) + 1
    for box in range(n_boxes):
        if not reads[box] and heads[box]:
            ranks[box] = max(ranks[box], min(ranks[head] for head in heads[box]) - 1)
    used = {rank: place for place, rank in enumerate(sorted(set(ranks)))}
    return [used[rank] for rank in ranks]


def _with_lanes(
    n_boxes: int, connections: Sequence[Connection], ranks: Sequence[int], rows: list[list[int]]
) -> Layering:
    last: dict[tuple[int, bool], int] = {}
    for tail, head, dropped in connections:
        last[tail, dropped] = max(last.get((tail, dropped), 0), ranks[head])
    lanes: dict[tuple[int, bool], list[int]] = {}
    number = n_boxes
    for (tail, dropped), end in last.items():
        passed = range(ranks[tail] + 1, end)
        lanes[tail, dropped] = list(range(number, number + len(passed)))
        for rank, node in zip(passed, lanes[tail, dropped]):
            rows[rank].append(node)
        number += len(passed)
    routes = [
        [tail, *lanes[tail, dropped][: ranks[head] - ranks[tail] - 1], head] for tail, head, dropped in connections
    ]
    return Layering(n_boxes, rows, routes, [(tail, nodes) for (tail, _), nodes in lanes.items() if nodes])


def _untangle(layering: Layering) -> None:
    """Order each row, in place, so that few edges cross."""
    rows = layering.rows
    above: dict[int, list[int]] = {}
    below: dict[int, list[int]] = {}
    for upper, lower in layering.pairs():
        above.setdefault(lower, []).append(upper)
        below.setdefault(upper, []).append(lower)
    best, fewest = [list(row) for row in rows], _crossings(rows, below)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        downwards = sweep % 2 == 0
        pairs = list(pairwise(rows) if downwards else zip(rows[::-1], rows[-2::-1]))
        for fixed, free in pairs:
            _order(fixed, free, above if downwards else below)
        crossings = _crossings(rows, below)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    for row, order in zip(rows, best):
        row[:] = order


def _order(fixed: Sequence[int], free: list[int], neighbours: dict[int, list[int]]) -> None:
    """Order a row, in place, by the mean place of each node's neighbours in the row beside it."""
    place = {node: number for number, node in enumerate(fixed)}
    means = {}
    for number, node in enumerate(free):
        joined = [place[other] for other in neighbours.get(node, ())]
        means[node] = sum(joined) / len(joined) if joined else number
    free.sort(key=means.__getitem__)


def _crossings(rows: Sequence[Sequence[int]], below: dict[int, list[int]]) -> int:
    total = 0
    for upper, lower in pairwise(rows):
        place = {node: number for number, node in enumerate(lower)}
        seen: list[int] = []
        for node in upper:
            ends = sorted(place[other] for other in below.get(node, ()))
            total += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return total

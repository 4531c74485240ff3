"""Candidates: layers worth trying as features, spread over the depth of a network.

The network is opened from outside in: a part that holds many layers is taken apart, so that stages and blocks remain,
and the layers of a network that has none. A block of the chain is never taken apart: inside it are branches, which hold
only what the block adds. What a part gives at its end is a candidate.
"""

from collections.abc import Collection, Mapping, Sequence
from statistics import mode

from model_handler.errors import ModelError

__all__ = ["spread_candidates"]


def spread_candidates(
    layers: Sequence[str],
    containers: Collection[str],
    shapes: Mapping[str, tuple[int, ...]],
    last: str,
    n: int,
    blocks: Collection[str] = (),
) -> list[str]:
    """Return up to `n` of the layers and containers, evenly spread over the layers up to `last`, in order of execution.

    Only those are taken whose output, by `shapes`, is one tensor with a row for each input. Where `last` is not one of
    them, the one before it stands for it. Raises ModelError where there is none.
    """
    n_rows = mode(shape[0] for shape in shapes.values() if shape) if any(shapes.values()) else 0
    usable = {name for name, shape in shapes.items() if len(shape) > 1 and shape[0] == n_rows}
    before = [number for number, name in enumerate(layers[: layers.index(last) + 1]) if name in usable]
    if not before:
        raise ModelError("no layer of this network gives one tensor with a row for each input")
    end = before[-1]

    def ends_in(numbers: Sequence[int], prefix: str) -> dict[int, str]:
        """Return where the parts of a container end, and their names."""
        parts: dict[str, list[int]] = {}
        for number in numbers:
            path = prefix + layers[number].removeprefix(prefix).partition(".")[0]
            parts.setdefault(path if path in containers else layers[number], []).append(number)
        ends: dict[int, str] = {}
        for name, inside in parts.items():
            too_large = (len(inside) > 2 * (end + 1) / n and name not in blocks) or inside[-1] > end
            if name in containers and (too_large or name not in usable):
                ends.update(ends_in(inside, f"{name}."))
            elif name in usable and inside[-1] <= end:
                ends[inside[-1]] = name
        return ends

    ends = {**ends_in(range(len(layers)), ""), end: layers[end]}
    targets = [end * step / n for step in range(1, n + 1)]
    return [ends[number] for number in sorted({_nearest(target, ends) for target in targets})]


def _nearest(target: float, numbers: Collection[int]) -> int:
    """Return the number nearest to `target`, the larger of two that are as near."""
    return min(numbers, key=lambda number: (abs(number - target), -number))

"""Residual: which calls of modules hold a residual connection of their own, and which of these are the blocks.

A residual connection ends in an addition of two tensors of one shape, both computed of one earlier tensor, at least one
of them with weights. The call that owns it is the innermost one that holds everything between. Blocks are the outermost
owners whose kind repeats: of a BERT layer, which owns the connection over its feed-forward part, and its attention,
which owns another, the layer.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from torch import nn

from model_handler.blocks.flow import Call, Flow

__all__ = ["block_calls", "owners_of_residuals"]

_ADDITIONS = {"add", "iadd", "radd", "addcmul", "lerp"}
_PLAIN = (nn.Sequential, nn.ModuleList, nn.ModuleDict)

Kinds = Mapping[str, type]  # the class of the module at each path


def owners_of_residuals(flow: Flow) -> list[Call]:
    """Return the calls that own a residual connection, in order of execution."""
    owners = set()
    for number, step in enumerate(flow.steps):
        if step.name not in _ADDITIONS or len(step.reads) < 2:
            continue
        first, second = step.reads[:2]
        start = flow.last_common(first, second)
        if start is None or not flow.steps[start].is_floating:  # sums of embeddings have the tokens in common
            continue
        if flow.steps[first].shape != flow.steps[second].shape:  # a mask, or a bias
            continue
        members = [flow.steps[member] for member in flow.between(start, number)]
        shared = _common([member.calls for member in members])
        if shared and any(member.weights for member in members):
            owners.add(shared[-1])
    return _in_order(flow, owners)


def block_calls(flow: Flow, owners: Sequence[Call], kinds: Kinds) -> list[Call]:
    """Return the longest chain of blocks, each of which reads what came of the one before, in order of execution.

    It is empty where less than half of the blocks are in one: branches that run side by side are no chain.
    """
    blocks = _lifted(flow, _outermost(flow, owners, kinds), kinds)
    blocks = _in_order(flow, {*blocks, *_without_shortcut(flow, blocks, kinds)})
    chains: dict[Call, list[Call]] = {}  # by the block in which they end
    for call in blocks:
        before = next((last for last in reversed(chains) if _follows(flow, call, last)), None)
        chains[call] = [*chains[before], call] if before else [call]
    longest = max(chains.values(), key=len, default=[])
    return longest if 2 * len(longest) >= len(blocks) else []


def _follows(flow: Flow, call: Call, before: Call) -> bool:
    """Return whether what a call reads first came of another one; of a neighbour in the same list, anything it reads.

    The second input of a decoder's block came of the encoder's last one, and they are two chains.
    """
    last, read = flow.output_of(before), flow.inputs_of(call)
    are_neighbours = call[0].rpartition(".")[0] == before[0].rpartition(".")[0]
    return last is not None and any(flow.depends(number, last) for number in (read if are_neighbours else read[:1]))


def _outermost(flow: Flow, owners: Sequence[Call], kinds: Kinds) -> list[Call]:
    """Return the owners that are in no other one.

    One that no other is like, by its class or by where it stands, is no block, while what it holds may be one: a whole
    network with a connection of its own, or a head that adds two outputs.
    """
    within = {call: [other for other in owners if other != call and _is_inside(flow, other, call)] for call in owners}
    classes = Counter(kinds[path] for path, _ in owners)
    places = Counter(_place(path, kinds) for path, _ in owners)
    kept = [
        call
        for call in owners
        if classes[kinds[call[0]]] > 1 or (places[_place(call[0], kinds)] > 1 and not within[call])
    ]
    return [call for call in kept if not any(call in within[other] for other in kept)]


def _lifted(flow: Flow, blocks: list[Call], kinds: Kinds) -> list[Call]:
    """Return the modules whose parts, of several kinds, are residual each: a layer of T5 or MaxViT, not its parts.

    They count where calls of one class follow each other in a list, and all hold the same sequence of such parts.
    """
    while True:
        held: dict[Call, list[Call]] = {}
        for block in blocks:
            around = flow.steps[flow.inside[block][0]].calls
            for call in around[: around.index(block)]:
                held.setdefault(call, []).append(block)
        neighbours: dict[tuple[str, type], list[Call]] = {}
        for path, number in held:
            if kinds[path] not in _PLAIN:
                neighbours.setdefault((path.rpartition(".")[0], kinds[path]), []).append((path, number))
        mixed = [calls for calls in neighbours.values() if len(calls) > 1 and _are_mixed_alike(calls, held, kinds)]
        if not mixed:
            return blocks
        inner = min(mixed, key=lambda calls: sum(len(held[call]) for call in calls) / len(calls))
        gone = {part for call in inner for part in held[call]}
        blocks = _in_order(flow, {*inner, *(block for block in blocks if block not in gone)})


def _are_mixed_alike(calls: Sequence[Call], held: Mapping[Call, Sequence[Call]], kinds: Kinds) -> bool:
    sequences = {tuple(kinds[path] for path, _ in held[call]) for call in calls}
    return len(sequences) == 1 and len(set(sequences.pop())) > 1


def _without_shortcut(flow: Flow, blocks: Sequence[Call], kinds: Kinds) -> list[Call]:
    """Return the calls that stand where blocks stand and have two layers or more, but no shortcut.

    In networks of inverted residuals these are the blocks that change the width. In lists any class may stand there,
    in other modules that of a block.
    """
    places = {_place(path, kinds) for path, _ in blocks}
    classes = {kinds[path] for path, _ in blocks}
    return [
        call
        for call in flow.inside
        if (place := _place(call[0], kinds)) in places
        and (place[-1] in _PLAIN or kinds[call[0]] in classes)
        and call not in blocks
        and len(flow.matrices(call)) > 1
        and not any(_is_inside(flow, call, block) or _is_inside(flow, block, call) for block in blocks)
    ]


def _place(path: str, kinds: Kinds) -> tuple[type, ...]:
    """Return the classes of all that a module is in."""
    parts = path.split(".")
    return tuple(kinds[".".join(parts[:end])] for end in range(len(parts)))


def _is_inside(flow: Flow, inner: Call, outer: Call) -> bool:
    calls = flow.steps[flow.inside[inner][0]].calls
    return outer in calls[: calls.index(inner)]


def _common(stacks: Sequence[tuple[Call, ...]]) -> tuple[Call, ...]:
    n = 0
    for level in zip(*stacks, strict=False):
        if len(set(level)) > 1:
            break
        n += 1
    return stacks[0][:n] if stacks else ()


def _in_order(flow: Flow, calls: Iterable[Call]) -> list[Call]:
    return sorted(calls, key=lambda call: flow.inside[call][0])

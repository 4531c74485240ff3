"""Chain: the blocks of a network in order, with the width of each and how it changes the resolution."""

from collections import Counter
from collections.abc import Sequence
from math import prod

from model_handler.blocks.flow import Call, Flow, channel_axis, name_of
from model_handler.blocks.records import Block
from model_handler.blocks.residual import Kinds, block_calls, owners_of_residuals
from model_handler.errors import NoBlocksError, first_few

__all__ = ["find_blocks"]


def find_blocks(flow: Flow, kinds: Kinds, network_name: str) -> tuple[Block, ...]:
    """Return the chain of blocks of a network; `kinds` gives the class of the module at each path.

    Raises NoBlocksError, which says what was looked for and what was found instead.
    """
    owners = owners_of_residuals(flow)
    calls = [call for call in block_calls(flow, owners, kinds) if flow.inputs_of(call) and flow.output_of(call)]
    if len(calls) < 2:
        raise NoBlocksError(
            f"{network_name} has no chain of residual blocks. What was looked for: at least two modules, one reading "
            "what came of the other, that each add what layers with weights compute of their input to that input, or "
            f"to something else computed of it; {_found_instead(owners)}"
        )
    return _described(flow, calls)


def _found_instead(owners: Sequence[Call]) -> str:
    paths = list(dict.fromkeys(path for path, _ in owners))
    if len(paths) > 1:
        return f"those that hold such an addition are no chain: {first_few(paths)}"
    return f"the only one that holds such an addition is {paths[0]!r}" if paths else "there is none"


def _described(flow: Flow, calls: Sequence[Call]) -> tuple[Block, ...]:
    inputs = [step.shape for step in flow.steps if step.name == "input"]
    n_axes = max(max(map(len, inputs)) - 2, 1)  # of the resolution: two of an image, one of a text

    def times_finer(before: float, after: float) -> float:
        return float((before / after) ** (1 / n_axes))

    blocks: list[Block] = []
    stage, last, last_output = 0, 0.0, -1
    for call in calls:
        width, axis = _width(flow, call)
        output, read = flow.output_of(call) or 0, flow.inputs_of(call)
        given = flow.steps[output].shape
        taken = flow.steps[last_output if last_output in read else read[0]].shape
        resolution = prod(given) / width
        before = prod(taken) / taken[axis] if len(taken) == len(given) else resolution
        if last and not 2 / 3 < times_finer(last, resolution) < 3 / 2:  # a class token more or less is no change
            stage += 1
        last, last_output = resolution, output
        blocks.append(Block(name_of(call), width, max(round(times_finer(before, resolution)), 1), stage))
    return tuple(blocks)


def _width(flow: Flow, call: Call) -> tuple[int, int]:
    """Return the number of channels of what a call gives, and their axis: second or last.

    Of the sizes of these axes it is the one that most of the layers inside have as their number of channels, on the
    same axis as they if that is the case of any; a layer between permutations has its channels elsewhere.
    """
    shape = flow.steps[flow.output_of(call) or 0].shape
    axis = 1 if len(shape) == 4 else -1
    own = [(flow.steps[number].shape, channel_axis(flow.steps[number].name)) for number in flow.matrices(call)]
    there = Counter((size[at], at) for size, at in own if size[at] == shape[at])
    elsewhere = Counter((size[at], axis) for size, at in own for axis in (1, -1) if size[at] == shape[axis])
    return next((found for votes in (there, elsewhere) for found, _ in votes.most_common(1)), (shape[axis], axis))

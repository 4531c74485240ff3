"""Places: where a network is steered, found by running it once on example inputs.

A chain of blocks with attention is steered in the values of each one; any other network in what each stage reads, a
stage being all between two changes of resolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from model_handler import Block, ModelError, ModelHandler, NoBlocksError, Projection
from model_handler.graph.naming import module_path
from model_handler.network.module_hooks import watched
from model_handler.network.outputs import tensors_in
from repurpose.data.inputs import Inputs
from repurpose.neural_network.toast.feedback import StageSize
from repurpose.training.steps.forward import call

__all__ = ["Places", "find_places", "signal_of"]

_NEEDED = "(n_rows, n_tokens, width): TOAST steers attention over tokens, or stages of maps"


@dataclass(frozen=True)
class Places:
    """Where a network is steered.

    Attributes
    ----------
    ends : tuple of str
        The module that gives the output of each block or stage, in order of execution; a module that runs several times
        is named as often.
    sizes : tuple of StageSize
    values : tuple of Projection
        What computes the values of each block; empty for a network that is steered by stages.
    final_norm : str or None
        The normalisation behind the last block.
    channels_last : bool
        Whether the last axis of maps has the channels; true of tokens.
    """

    ends: tuple[str, ...]
    sizes: tuple[StageSize, ...]
    values: tuple[Projection, ...]
    final_norm: str | None
    channels_last: bool

    @property
    def of_maps(self) -> bool:
        """Whether the network is steered by stages, in maps."""
        return not self.values

    @property
    def width(self) -> int:
        """The number of channels behind the last block."""
        return self.sizes[-1].width_out


@dataclass
class _Run:
    """What ran: the path and the shape of the output of each call, in order of return, and of the inputs."""

    inputs: tuple[int, ...]
    calls: list[str] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def last(self, path: str) -> int:
        """Return the number of the last call of a module; -1 where it did not run."""
        return max((number for number, ran in enumerate(self.calls) if ran == path), default=-1)


def _blocks(handler: ModelHandler) -> tuple[Block, ...]:
    try:
        return handler.blocks
    except NoBlocksError as error:
        raise NoBlocksError(f"{error}; TOAST steers blocks: use AdapterRepurposer(..., layers='all')") from error


def find_places(handler: ModelHandler, network: nn.Module, example_inputs: Inputs) -> Places:
    """Find where `network` is steered: a copy of the one of `handler`, ended at the layer whose output is transferred.

    Raises NoBlocksError for a network without a chain of blocks, ModelError for one that has neither attention in all
    of them nor stages of maps, and for one that ends before its last block has run.
    """
    blocks, run = _blocks(handler), _run(network, example_inputs)
    last = module_path(blocks[-1].name)
    if run.last(last) < 0:
        raise ModelError(
            f"the layer that is transferred lies before the end of the last block, {blocks[-1].name!r}, which TOAST "
            "steers by; name one behind it, or leave transfer_layer_name out"
        )
    values = _values(handler, blocks)
    if values:
        ends = tuple(module_path(block.name) for block in blocks)
        sizes = tuple(StageSize(block.width, block.width) for block in blocks)
        if len(run.shapes[run.last(last)]) != 3:
            raise ModelError(f"the blocks of {handler.name} have attention, and no tokens {_NEEDED}")
        return Places(ends, sizes, values, _final_norm(network, run, last, all_tokens=True), channels_last=True)
    ends = tuple(module_path(list(stage)[-1].name) for _, stage in groupby(blocks, lambda block: block.stage))
    sizes, channels_last = _stage_sizes(handler, run, ends, blocks[-1].width)
    return Places(ends, sizes, (), _final_norm(network, run, last, all_tokens=False), channels_last)


def signal_of(output: object) -> Tensor:
    """Return what a block hands on: the first tensor of what it returns."""
    return tensors_in(output)[0]


def _run(network: nn.Module, example_inputs: Inputs) -> _Run:
    run = _Run(tuple(tensors_in(example_inputs)[0].shape))

    def leave(path: str, output: object) -> None:
        found = tensors_in(output)
        run.calls.append(path)
        run.shapes.append(tuple(found[0].shape) if found else ())

    with torch.no_grad(), watched(network, lambda *arguments: None, leave):
        call(network, example_inputs)
    return run


def _values(handler: ModelHandler, blocks: Sequence[Block]) -> tuple[Projection, ...]:
    """Return what computes the values of each block; none for blocks of several widths, or where none has attention.

    Raises ModelError where some blocks have attention and others do not.
    """
    if len({(block.width, block.stage) for block in blocks}) > 1:
        return ()
    found = {block.name: _value(handler, block) for block in blocks}
    values = [value for value in found.values() if value is not None]
    if values and len(values) < len(blocks):
        without = next(name for name, value in found.items() if value is None)
        raise ModelError(f"no weight makes the values of attention in {without!r}, as in other blocks: {_NEEDED}")
    return tuple(values)


def _value(handler: ModelHandler, block: Block) -> Projection | None:
    try:
        return handler.attention(block).value
    except ModelError:
        return None


def _final_norm(network: nn.Module, run: _Run, last: str, *, all_tokens: bool) -> str | None:
    """Find the first normalisation behind the last block: of all its tokens, or of maps a LayerNorm of their channels.

    The LayerNorm of a ConvNet often stands behind the pooling, and says all the same how channels are normalised.
    """
    end = run.last(last)
    width = run.shapes[end]
    for path, shape in zip(run.calls[end + 1 :], run.shapes[end + 1 :], strict=True):
        module = network.get_submodule(path)
        if all_tokens and "norm" in type(module).__name__.lower() and shape == width:
            return path
        if not all_tokens and isinstance(module, nn.LayerNorm) and module.normalized_shape[-1] in width[1:]:
            return path
    return None


def _stage_sizes(
    handler: ModelHandler, run: _Run, ends: Sequence[str], width: int
) -> tuple[tuple[StageSize, ...], bool]:
    """Measure what each stage reads and gives, and tell whether channels are the last axis of what stages give.

    Raises ModelError where stages do not hand on maps.
    """
    shapes = [run.shapes[run.last(end)] for end in ends]
    if len(run.inputs) != 4 or any(len(shape) != 4 for shape in shapes):
        raise ModelError(
            f"the stages of {handler.name} read {run.inputs} and give {shapes}, which are no maps of four axes, and "
            f"not all of its blocks have attention over as many tokens of one width {_NEEDED}"
        )
    channels_last = shapes[-1][1] != width and shapes[-1][3] == width
    given = [(shape[3], *shape[1:3]) if channels_last else shape[1:] for shape in shapes]
    read: list[Any] = [run.inputs[1:], *given[:-1]]
    sizes = [StageSize(of[0], to[0], max(1, round(of[1] / to[1]))) for of, to in zip(read, given, strict=True)]
    return tuple(sizes), channels_last

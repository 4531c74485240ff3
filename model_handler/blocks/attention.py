"""Attention: which rows of which weights make the queries, keys, values and outputs of the attention in each block.

The network runs once with numbers. Inside blocks the result of each layer with a matrix of weights becomes a leaf of
autograd, so that the gradient of what enters a product shows of which channels of which layer it was made, whatever
reshapes, normalises, scales or rotates it between.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from model_handler.blocks.flow import (
    CONTRACTIONS,
    Call,
    Flow,
    Recorder,
    channel_axis,
    matrix_among,
    name_of,
    record_flow,
)
from model_handler.blocks.records import Attention, Projection
from model_handler.errors import ModelError
from model_handler.graph.tracing import Trace
from model_handler.network.inputs import NamedInputs
from model_handler.network.outputs import tensors_in

__all__ = ["find_attentions"]

_MULTI_HEAD = "multi_head_attention_forward"
_FUSED = "scaled_dot_product_attention"
_OPERANDS = ("query", "key", "value")


@dataclass(frozen=True, eq=False)
class _Leaf:
    """The result of a layer in a block, as a leaf of autograd, and where its channels are."""

    block: Call
    weight: str
    value: Tensor
    axis: int


class _Probe(Recorder):
    """Makes leaves of what layers inside blocks give, and keeps what the other products there were called with."""

    def __init__(self, network: nn.Module, blocks: Collection[Call]) -> None:
        super().__init__(network)
        self.leaves: list[_Leaf] = []
        self.arguments: dict[int, tuple[Any, Any]] = {}
        self._blocks = frozenset(blocks)

    def computed(self, name: str, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        read = tensors_in([args, kwargs])
        block = next((call for call in self.open if call in self._blocks), None)
        inside = block is not None and self.depends_on_inputs(read)
        matrix = matrix_among(name, self.weights_among(read), self.parameters) if inside else ""
        tracked = inside and not matrix
        own_args, own_kwargs = tree_map_only(Tensor, _of_autograd, (args, kwargs)) if tracked else (args, kwargs)
        with torch.set_grad_enabled(tracked):
            result = func(*own_args, **own_kwargs)
        if block is not None and matrix and isinstance(result, Tensor):
            leaf = result.detach().requires_grad_()
            self.leaves.append(_Leaf(block, matrix, leaf, channel_axis(name)))
            with torch.enable_grad():
                return leaf.clone()  # what follows may work in place
        if inside and (name in CONTRACTIONS or name == _FUSED):
            self.arguments[len(self.steps)] = (args, kwargs)
        return result


def _of_autograd(tensor: Tensor) -> Tensor:
    """Return a tensor that autograd can save: weights may have been made in inference mode."""
    return tensor.clone() if tensor.is_inference() else tensor


def find_attentions(
    network: nn.Module, inputs: NamedInputs, blocks: Collection[Call], trace: Trace | None
) -> dict[Call, Attention | str]:
    """Return the projections of the first attention in each block, in one forward on `inputs`.

    Where a block has none, or the rows of a projection do not lie together in their weight, a sentence says so.
    """
    probe = _Probe(network, blocks)
    flow = record_flow(network, inputs, probe, trace)
    found: dict[Call, Attention | str] = {}
    for block in blocks:
        try:
            found[block] = _attention_in(block, probe, flow)
        except ModelError as error:
            found[block] = str(error)
    return found


def _attention_in(block: Call, probe: _Probe, flow: Flow) -> Attention:
    for number in flow.inside.get(block, ()):
        step = flow.steps[number]
        if step.name == _MULTI_HEAD:
            return _of_torch(probe, number)
        if step.name == _FUSED:
            args, kwargs = probe.arguments[number]
            operands = [args[place] if len(args) > place else kwargs[key] for place, key in enumerate(_OPERANDS)]
            return _described(probe, flow, block, operands, number, step.shape)
        if step.name == "softmax" and (products := _products_around(flow, probe, block, number)):
            mixed, operands = products
            return _described(probe, flow, block, operands, mixed, step.shape)
    raise ModelError(
        f"there is no attention in block {name_of(block)!r}: neither scaled_dot_product_attention nor a softmax "
        "between two products of what its layers give"
    )


def _of_torch(probe: _Probe, number: int) -> Attention:
    """Return the projections of an `nn.MultiheadAttention`, which are rows of one weight or weights of their own."""
    args, kwargs = probe.arguments[number]
    n_channels, n_heads, fused, out = args[3], args[4], args[5], args[11]

    def part(number: int, key: str) -> Projection:
        own = kwargs.get(key)
        start = number * n_channels if own is None else 0
        return _projection(probe.weights_among([fused if own is None else own])[0], start, start + n_channels)

    query, key, value = (part(place, f"{letter}_proj_weight") for place, letter in enumerate("qkv"))
    return Attention(query, key, value, _projection(probe.weights_among([out])[0], 0, len(out)), n_heads)


def _products_around(flow: Flow, probe: _Probe, block: Call, number: int) -> tuple[int, list[Tensor]] | None:
    """Return, of a softmax between two products, the second product, and query, key and value; None of any other."""
    inside = [place for place in flow.inside[block] if place in probe.arguments]
    scores = next((place for place in inside if place < number and flow.depends(number, place)), None)
    mixed = next((place for place in inside if place > number and flow.depends(place, number)), None)
    if scores is None or mixed is None:
        return None
    first, second = _factors(probe, mixed)
    # the value is the factor that does not come of the softmax
    value = first if flow.depends(flow.steps[mixed].reads[-1], number) else second
    return mixed, [*_factors(probe, scores), value]


def _factors(probe: _Probe, number: int) -> list[Tensor]:
    return tensors_in(list(probe.arguments[number]))[-2:]  # before them, in `baddbmm`, is what is added


def _described(
    probe: _Probe, flow: Flow, block: Call, operands: Sequence[Tensor], mixed: int, shape: tuple[int, ...]
) -> Attention:
    query, key, value = (_rows_behind(probe, block, operand) for operand in operands)
    n_heads = shape[1] if len(shape) == 4 else None
    return Attention(query, key, value, _output_behind(probe, flow, block, mixed), n_heads)


def _output_behind(probe: _Probe, flow: Flow, block: Call, mixed: int) -> Projection | None:
    """Return the first layer behind an attention; None where a shortcut around the attention ends before it."""
    matrices = flow.matrices(block)
    place = next((later for later in matrices if later > mixed and flow.depends(later, mixed)), None)
    if place is None:
        return None
    for number in flow.between(mixed, place):
        others = [read for read in flow.steps[number].reads if not flow.depends(read, mixed)]
        # what is added to an attention inside of it, such as a convolution of its values, depends on its projections
        if others and not any(flow.depends(other, own) for other in others for own in matrices if own < mixed):
            return None
    weight, axis = flow.matrix_of(place), channel_axis(flow.steps[place].name)
    _refuse_more_axes(probe, weight, axis)
    return _projection(weight, 0, flow.steps[place].shape[axis])


def _rows_behind(probe: _Probe, block: Call, operand: Tensor) -> Projection | None:
    """Return the rows of the weight of a block that makes an operand; of several that are added the largest weight's.

    What blocks before it have made of the operand is none of its own.
    """
    leaves = [leaf for leaf in probe.leaves if leaf.block == block]
    if not leaves or not operand.requires_grad:
        return None
    direction = torch.rand(operand.shape, generator=torch.Generator().manual_seed(0)).to(operand)
    values = [leaf.value for leaf in leaves]
    gradients = torch.autograd.grad(operand, values, direction, retain_graph=True, allow_unused=True)
    reached = [(leaf, g) for leaf, g in zip(leaves, gradients, strict=True) if g is not None and g.any()]
    if not reached:
        return None
    leaf, gradient = max(reached, key=lambda pair: torch.Size(probe.parameters[pair[0].weight]).numel())
    _refuse_more_axes(probe, leaf.weight, leaf.axis)
    rows = gradient.movedim(leaf.axis, 0).flatten(1).any(1).nonzero().flatten().tolist()
    if len(rows) != rows[-1] + 1 - rows[0]:
        raise ModelError(
            f"the rows of {leaf.weight!r} that make one of query, key and value do not lie together (they are those of "
            "each head, one head after the other), so no slice of it stands for them"
        )
    return _projection(leaf.weight, rows[0], rows[-1] + 1)


def _refuse_more_axes(probe: _Probe, weight: str, axis: int) -> None:
    shape = probe.parameters[weight]
    if axis == -1 and len(shape) > 2:
        raise ModelError(f"{weight!r} of shape {shape} makes part of the attention: it has no one axis of outputs")


def _projection(weight: str, start: int, stop: int) -> Projection:
    module, _, name = weight.rpartition(".")
    return Projection(module, start, stop, name)

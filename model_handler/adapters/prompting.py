"""Prompting: whether prompts can run through the blocks of a network, and where among the tokens they stand.

Each block is called alone with what it gets in one forward of one row: with more tokens, and with its tokens in another
order. Where the last token then comes out otherwise, positions enter attention (a relative bias, rotary positions,
windows), and prompts, which have none, cannot be told from tokens that do.
"""

import copy
import inspect
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from model_handler.adapters.prompts import PROMPTS, Prompts, mask_names, refuse_nested
from model_handler.blocks.records import Block
from model_handler.errors import ModelError
from model_handler.graph.naming import module_path
from model_handler.network.adapted_layer import AdaptedLayer, adapt
from model_handler.network.closeness import tensors_are_close
from model_handler.network.inputs import NamedInputs, call_network
from model_handler.network.outputs import tensors_in

__all__ = ["check_prompts", "place_of_prompts", "put_prompts"]


@dataclass(frozen=True, eq=False)
class _Call:
    """What a block was called with: arguments by name, the tokens first."""

    block: Block
    module: nn.Module
    arguments: inspect.BoundArguments

    def run(self, tokens: Tensor) -> Tensor:
        """Return what the block makes of other tokens, without masks."""
        call = copy.copy(self.arguments)
        call.arguments = {**call.arguments, **dict.fromkeys(mask_names(call)), self._first: tokens}
        return tensors_in(self.module(*call.args, **call.kwargs))[0]

    @property
    def tokens(self) -> Any:
        return self.arguments.arguments[self._first]

    @property
    def _first(self) -> str:
        return next(iter(self.arguments.arguments))


def check_prompts(n_tokens: int, deep: bool) -> None:
    """Raise ModelError for a number of prompts below 1, and for what is neither True nor False."""
    if not isinstance(n_tokens, Integral) or isinstance(n_tokens, bool) or n_tokens < 1:
        raise ModelError(f"n_tokens must be a whole number of at least 1, got {n_tokens!r}")
    if deep not in (True, False):
        raise ModelError(f"deep must be True or False, got {deep!r}")


def place_of_prompts(network: nn.Module, inputs: NamedInputs, blocks: Sequence[Block], *, deep: bool) -> int:
    """Return behind how many tokens prompts are to stand: 1, as a class token is the first, or 0 of a causal network.

    `network` runs on `inputs`, one row. Raises ModelError naming the block that prompts cannot run through.
    """
    paths = [module_path(block.name) for block in blocks]
    if len(set(paths)) < len(paths) and not deep:
        raise ModelError(
            f"{paths[0]!r} is several blocks, one after the other: give it prompts in each call, deep=True"
        )
    with torch.no_grad(), _recorded(network, blocks) as calls:
        call_network(network, inputs)
    if missing := [block.name for block in blocks if block.name not in calls]:
        raise ModelError(
            f"the graph of an earlier edit runs what is in {missing[0]!r}, and prompts need its own forward: add them "
            "first, and make the other edits then"
        )
    with torch.no_grad():
        for call in calls.values():
            _refuse_positions(call)
            if call.tokens.shape != calls[blocks[0].name].tokens.shape:
                raise ModelError(
                    f"block {call.block.name!r} runs on tokens of another number or width than {blocks[0].name!r}, so "
                    "prompts cannot run through both"
                )
        return 0 if _is_causal(calls[blocks[0].name]) else 1


def put_prompts(network: nn.Module, blocks: Sequence[Block], n_tokens: int, place: int, *, deep: bool) -> list[str]:
    """Put prompts before the first block, or before each one, in place; return the names of the parameters.

    They are drawn as in the paper, uniform with Xavier's bound, here of the width alone.
    """
    names = []
    paths = list(dict.fromkeys(module_path(block.name) for block in blocks))
    for path in paths:
        block = network.get_submodule(path)
        adapter = Prompts(n_tokens, place, deep or path == paths[0], deep or path == paths[-1])
        own: dict[str, nn.Parameter] = {}
        if adapter.puts_in:
            like, width = next(block.parameters()), blocks[0].width
            bound = math.sqrt(3 / width)
            own[PROMPTS] = nn.Parameter(like.new_empty(n_tokens, width).uniform_(-bound, bound))
            names.append(f"{path}.{PROMPTS}")
        adapt(block, adapter, own)
    return names


@contextmanager
def _recorded(network: nn.Module, blocks: Sequence[Block]) -> Iterator[dict[str, _Call]]:
    """Note the first call of each block while the network runs."""
    calls: dict[str, _Call] = {}
    hooks = []
    for block in blocks:
        module = network.get_submodule(module_path(block.name))
        if isinstance(module, AdaptedLayer):
            raise ModelError(f"{block.name!r} has an adapter already, {module._adapter}: call remove_adapters() first")

        def note(module: nn.Module, inputs: Any, options: Any, block: Block = block) -> None:
            call = inspect.signature(module.forward).bind(*inputs, **options)
            calls.setdefault(block.name, _Call(block, module, call))

        hooks.append(module.register_forward_pre_hook(note, with_kwargs=True))
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _refuse_positions(call: _Call) -> None:
    name, tokens = call.block.name, call.tokens
    refuse_nested(tokens)
    if not isinstance(tokens, Tensor) or tokens.ndim != 3 or tokens.shape[-1] != call.block.width:
        shape = tuple(tokens.shape) if isinstance(tokens, Tensor) else type(tokens).__name__
        raise ModelError(
            f"prompts are tokens, and block {name!r} runs on {shape}, not on (n_rows, n_tokens, {call.block.width}): "
            "use another kind of adapter, such as 'lora'"
        )
    why = "a relative bias, rotary positions or windows: prompts have no position. Use another kind, such as 'lora'"
    plain = call.run(tokens)
    try:
        call.run(torch.cat([tokens, tokens[:, -1:]], dim=1))
    except Exception as error:
        raise ModelError(f"block {name!r} takes no more than its {tokens.shape[1]} tokens, as by {why}") from error
    order = torch.randperm(tokens.shape[1] - 1, generator=torch.Generator().manual_seed(0))
    turned = torch.cat([tokens[:, order.to(tokens.device)], tokens[:, -1:]], dim=1)
    if plain.shape != tokens.shape or not tensors_are_close([call.run(turned)[:, -1]], [plain[:, -1]]):
        raise ModelError(f"positions enter the attention of block {name!r}, as by {why}")


def _is_causal(call: _Call) -> bool:
    """Tell whether the first token comes out the same whatever the last one is."""
    tokens = call.tokens
    if tokens.shape[1] < 2:
        return False
    other = torch.cat([tokens[:, :-1], -tokens[:, -1:]], dim=1)
    return tensors_are_close([call.run(other)[:, 0]], [call.run(tokens)[:, 0]])

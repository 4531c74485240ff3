"""Finding: the methods of `ModelHandler` that tell the blocks of a network and the attention inside one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from model_handler.blocks.attention import find_attentions
from model_handler.blocks.chain import find_blocks
from model_handler.blocks.flow import Recorder, call_of, name_of, record_flow
from model_handler.blocks.records import Attention, Block
from model_handler.errors import ModelError, UnknownLayerError, nearest
from model_handler.extraction.backends import HookBackend, TracedBackend
from model_handler.extraction.engine import NETWORK_LOCK
from model_handler.graph.graph_network import GraphNetwork, Part
from model_handler.graph.tracing import Trace
from model_handler.network.ambient_modes import undisturbed
from model_handler.sources import blank_input
from model_handler.surgery.edit_history import EditHistory

__all__ = ["BlocksMixin"]


@dataclass(frozen=True, eq=False)
class _Found:
    """The blocks of the network that a backend runs, and once asked for, what is known of the attention in each."""

    backend: TracedBackend | HookBackend
    blocks: tuple[Block, ...]
    attentions: dict[str, Attention | str] = field(default_factory=dict)


class BlocksMixin(EditHistory):
    """The chain of blocks of a network, as the edits so far have left it."""

    name: str
    transform: Callable[[Any], Tensor] | None
    _found_blocks: _Found | None = None

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The chain of repeated residual blocks, in order of execution.

        A block is the outermost module whose class repeats and that adds, to its input or to something computed of it,
        what layers with weights compute of it; between such modules, those of several layers that stand where they
        stand count too, as do blocks of MobileNet that change the width. They are found by following every tensor
        through one forward of one row, on torch's device "meta" where that goes. Raises NoBlocksError, which says what
        was looked for, where the network has no such chain, and ModelError without example inputs.

        >>> import torch
        >>> from torchvision.models import resnet18
        >>> from model_handler import ModelHandler
        >>> ModelHandler(resnet18(), torch.empty(1, 3, 64, 64, device="meta")).blocks[2:4]
        (Block(name='layer2.0', width=128, stride=2, stage=1), Block(name='layer2.1', width=128, stride=1, stage=1))
        """
        return self._chain().blocks

    def attention(self, block: Block | str) -> Attention:
        """Return the projections of the attention inside a block: its first one, where there are several.

        They are found by following, back to the weights, what reaches a softmax or `scaled_dot_product_attention`, in
        one forward of one row for all blocks. `block` is one of `blocks`, or the name of one. Raises UnknownLayerError
        for what is none of them, and ModelError where there is no attention in it, or where the rows of a projection do
        not lie together in their weight.

        >>> import torch
        >>> from model_handler import ModelHandler
        >>> layer = torch.nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16, batch_first=True)
        >>> network = torch.nn.TransformerEncoder(layer, num_layers=2)
        >>> handler = ModelHandler(network, torch.rand(1, 5, 8))
        >>> handler.attention(handler.blocks[0]).value
        Projection(module='layers.0.self_attn', start=16, stop=24, weight='in_proj_weight')
        """
        name = block.name if isinstance(block, Block) else block
        with NETWORK_LOCK:
            chain = self._chain()
            known = [known.name for known in chain.blocks]
            if name not in known:
                raise UnknownLayerError(f"no block is named {name!r}; nearest: {nearest(str(name), known)}")
            if not chain.attentions:
                chain.attentions.update(self._attentions_in(known))
        found = chain.attentions[str(name)]
        if isinstance(found, str):
            raise ModelError(found)
        return found

    def _chain(self) -> _Found:
        """Return what is known of the blocks of the network as it is now."""
        with NETWORK_LOCK:
            self._engine.follow_source()
            found = self._found_blocks
            if found is None or found.backend is not self._engine.backend:
                blocks = self._blocks_on(self._inputs_to_follow("finding blocks"))
                found = self._found_blocks = _Found(self._engine.backend, blocks)
            return found

    @undisturbed()
    def _attentions_in(self, names: Sequence[str]) -> dict[str, Attention | str]:
        """Return the attention in each block, or why there is none, in one forward."""
        calls = [call_of(name) for name in names]
        found = self._engine.observe_numbers(
            self._inputs_to_follow("finding attention"),
            lambda module, inputs: find_attentions(module, inputs, calls, self._trace_of(module)),
        )
        return {name_of(call): attention for call, attention in found.items()}

    def _blocks_on(self, inputs: object) -> tuple[Block, ...]:
        """Return the blocks that a forward of the first row of `inputs` shows. Raises NoBlocksError and ModelError."""
        with undisturbed():
            flow = self._engine.observe(
                inputs,
                lambda module, row, _: record_flow(module, row, Recorder(module), self._trace_of(module)),
            )
        return find_blocks(flow, self._kinds(), self.name)

    def _inputs_to_follow(self, use: str) -> Any:
        inputs = self._state.example_inputs
        inputs = blank_input(self.transform) if inputs is None else inputs
        if inputs is None:
            raise ModelError(
                f"{use} needs example inputs, of which the sizes are enough: "
                'ModelHandler(network, torch.empty(1, 3, 224, 224, device="meta"))'
            )
        return inputs

    def _trace_of(self, module: nn.Module) -> Trace | None:
        """Return the trace by which an edited network is run; None where it runs as it is."""
        backend = self._engine.backend
        return backend.trace if isinstance(module, GraphNetwork) and isinstance(backend, TracedBackend) else None

    def _kinds(self) -> dict[str, type]:
        """Return the class of each module, of the containers of an edited network the one that they had before."""
        original = {
            self._name_now(path): type(module) for path, module in self._states[0].engine.backend.modules.items()
        }
        now = self._engine.backend.modules
        return {path: original.get(path, Part) if type(now[path]) is Part else type(now[path]) for path in now}

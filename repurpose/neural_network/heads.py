"""The new head of a network: its output pooled to one row of numbers an input, and a linear layer on these."""

from typing import Any

import torch
from torch import Tensor, nn

from model_handler import ModelHandler
from model_handler.extraction.channel_layout import Layout
from model_handler.extraction.pooling import pool
from model_handler.network.outputs import select_tensor

__all__ = ["HEAD", "Pooled", "add_head"]

HEAD, POOLED = "head", "pooled"
MASK = "attention_mask"


class Pooled(nn.Module):
    """Maps and tokens as one row an input, by a rule of `model_handler.extraction.pooling`."""

    def __init__(self, pooling: Any, layout: Layout | None) -> None:
        super().__init__()
        self.pooling, self.layout = pooling, layout
        self.mask: Tensor | None = None  # of the tokens that count, in the pass that runs

    def forward(self, value: Tensor) -> Tensor:
        """(n_rows, ...) to (n_rows, n_features), floating."""
        rows = pool(value, self.pooling, self.layout, self.mask)
        return rows if rows.is_floating_point() else rows.float()

    def extra_repr(self) -> str:
        """What stands in its text form."""
        return f"{self.pooling!r}, channels {self.layout or 'by the number of axes'}"


def add_head(handler: ModelHandler, n_outputs: int, pooling: Any) -> nn.Module:
    """The network of a handler with example inputs, its output pooled, and a linear layer of `n_outputs` on top.

    The new layers are called "pooled" and "head", or "head_2" and so on where the network has such a name already.
    """
    output = select_tensor(handler.example_output(), "the network", None)
    rows = pool(output.detach(), pooling, handler.output_layout)
    linear = nn.Linear(rows.shape[1], n_outputs, dtype=_dtype_of(output), device=_device_of(handler))
    added: list[tuple[str, nn.Module]] = [(_free(HEAD, handler), linear)]
    if output.ndim > 2 or not output.is_floating_point():
        added.insert(0, (_free(POOLED, handler), Pooled(pooling, handler.output_layout)))
    module = handler.add_layer_top(added).get_module()
    pooled = module.get_submodule(added[0][0])
    if isinstance(pooled, Pooled) and MASK in handler.input_names:
        module.register_forward_pre_hook(_TellMask(pooled), with_kwargs=True)
    return module


class _TellMask:
    """Before each pass, tells the pooling which tokens are padding; an object, so that copies refer to their own."""

    def __init__(self, pooled: Pooled) -> None:
        self.pooled = pooled

    def __call__(self, module: nn.Module, inputs: Any, options: dict[str, Any]) -> None:
        self.pooled.mask = options.get(MASK)


def _dtype_of(output: Tensor) -> torch.dtype:
    return output.dtype if output.is_floating_point() else torch.float32


def _device_of(handler: ModelHandler) -> torch.device:
    own = next(handler.network.parameters(), None)
    return torch.device("cpu") if own is None else own.device


def _free(name: str, handler: ModelHandler) -> str:
    number, found = 2, name
    while hasattr(handler.network, found) or found in {path.partition(".")[0] for path in handler.layer_names}:
        found, number = f"{name}_{number}", number + 1
    return found

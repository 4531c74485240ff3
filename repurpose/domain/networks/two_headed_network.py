"""A network with two heads on one trunk: one answers the new task, one the task of the source.

Both read the same rows, so that the trunk runs once; which of them learns, and from what, is up to the method.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from model_handler import ModelHandler
from model_handler.errors import ModelError
from model_handler.extraction.pooling import Pooling
from repurpose.neural_network.heads import add_on_top

__all__ = ["HEADS", "SourceTask", "TwoHeads", "heads_of", "two_headed_network"]

HEADS = "heads"


class TwoHeads(nn.Module):
    """Two layers side by side, `target` and `source`, each with logits of its own of the same rows.

    `n_source_outputs` is how many logits the second one gives.
    """

    def __init__(self, target: nn.Module, source: nn.Module, n_source_outputs: int) -> None:
        super().__init__()
        self.target, self.source = target, source
        self.n_source_outputs = n_source_outputs

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        """Map rows (n_rows, width) to "logits" (n_rows, n_outputs) and "source_logits" (n_rows, n_source_outputs)."""
        return {"logits": self.target(rows), "source_logits": self.source(rows)}


class SourceTask(nn.Module):
    """Runs a network with two heads, and gives what the head of the source says."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Any, **options: Any) -> Tensor:
        """Map what the network takes to logits (n_rows, n_source_outputs)."""
        logits: Tensor = self.network(*inputs, **options)["source_logits"]
        return logits


def two_headed_network(
    handler: ModelHandler,
    n_outputs: int,
    source: int | nn.Module,
    pooling: Pooling,
    kind: Callable[[nn.Module, nn.Module, int], TwoHeads] = TwoHeads,
) -> nn.Module:
    """Build the network of a handler with example inputs, its output pooled, and two heads on top, as "heads".

    "heads.target" is a new linear layer of `n_outputs`. "heads.source" is one too where `source` is a number, that of
    its outputs, else that very layer, on its device. `kind` puts the two side by side.
    Raises ModelError for a layer that does not read the rows.
    """

    def make(width: int, **place: Any) -> TwoHeads:
        target = nn.Linear(width, n_outputs, **place)
        if isinstance(source, int):
            return kind(target, nn.Linear(width, source, **place), source)
        return kind(target, source, _n_outputs(source, torch.zeros(1, width, **place)))

    return add_on_top(handler, HEADS, make, pooling)


def heads_of(network: nn.Module) -> TwoHeads:
    """Return the two heads of a network."""
    return next(module for module in network.modules() if isinstance(module, TwoHeads))


def _n_outputs(head: nn.Module, rows: Tensor) -> int:
    """Count the logits that a head gives a row. Raises ModelError for one that does not take such rows."""
    try:
        with torch.no_grad():
            shape = tuple(head(rows).shape)
    except RuntimeError as error:
        raise ModelError(f"the head {head} does not read rows of {rows.shape[1]} numbers: {error}") from error
    if len(shape) != 2:
        raise ModelError(f"the head {head} must give a row of logits for each row, got the shape {shape}")
    return shape[1]

"""`ExportableNetwork`: from the inputs of a file to the features of some layers, pooled as extraction pools them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from model_handler.extraction.engine import NETWORK_LOCK
from model_handler.extraction.pooling import Pooling, Wanted
from model_handler.extraction.programs import Program
from model_handler.handler import ModelHandler
from model_handler.network.inputs import named_inputs
from model_handler.onnx_export.file_inputs import FileInputs

__all__ = ["ExportableNetwork", "LayerFeatures"]


class LayerFeatures(nn.Module):
    """Maps what a network gets to features (n_rows, n_features), float32, of some layers side by side.

    It runs the handler's copy of the network up to these layers, in evaluation mode, and changes nothing.

    Parameters
    ----------
    handler : ModelHandler
    layer_names : sequence of str
    pooling : str or callable
        As in `ModelHandler.extract`.
    example_inputs : tensor, tuple or dict of tensors
        A few rows as the network gets them.
    """

    def __init__(
        self, handler: ModelHandler, layer_names: Sequence[str], pooling: Pooling, example_inputs: Any
    ) -> None:
        super().__init__()
        engine = handler._engine  # which only handlers hold
        with NETWORK_LOCK, torch.no_grad():
            engine.follow_source()
            placed = engine.prepare_inputs(example_inputs)
            engine.refuse_unknown(layer_names)
            wanted = [Wanted(name, pooling) for name in layer_names]
            self._programs: list[tuple[Program, list[int]]] = engine.backend.programs(
                engine.workspace.module, wanted, placed
            )
        self._input_names = tuple(placed)
        self._network = (engine.network,)  # in a tuple, as its parameters are those of the programs
        self._dtype = next((p.dtype for p in engine.network.parameters() if p.is_floating_point()), torch.float32)
        self.parts = nn.ModuleList(program.module for program, _ in self._programs)

    def forward(self, inputs: Any) -> Tensor:
        named = named_inputs(self._network[0], inputs, self._input_names)
        placed = {name: named[name] for name in self._input_names}
        placed = {name: part.to(self._dtype) if part.is_floating_point() else part for name, part in placed.items()}
        rows: dict[int, Tensor] = {}
        for program, places in self._programs:
            own = {name: part.clone() for name, part in placed.items()}  # a network may write into its inputs
            rows.update(zip(places, program.run(own, placed.get("attention_mask")), strict=True))
        return torch.cat([rows[place] for place in range(len(rows))], dim=1)


class ExportableNetwork(nn.Module):
    """Maps the inputs of a file to features (n_rows, n_features), float32.

    Parameters
    ----------
    body : nn.Module
        Maps what the network gets to features, such as `LayerFeatures`.
    inputs : FileInputs
        What the file takes, and how that becomes what the network gets.
    """

    def __init__(self, body: nn.Module, inputs: FileInputs) -> None:
        super().__init__()
        self.reading, self.body = inputs.reading, body

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.body(self.reading(*tensors))

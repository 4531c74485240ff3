"""The first pass as the frozen part of a steered network: what it gives is cached beside the inputs of the second."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from model_handler import ModelError
from model_handler.extraction.engine import NETWORK_LOCK
from model_handler.frozen_prefix.frontier import Frontier, SplitsItself
from model_handler.network.precision import computing_in
from repurpose.neural_network.toast.ended_network import on_network
from repurpose.neural_network.toast.steered_network import SteeredNetwork
from repurpose.training.steps.forward import arguments_of

__all__ = ["OnFirstPass", "SelfSplitting"]


class SelfSplitting(SteeredNetwork, SplitsItself):
    """A steered network that hands its first pass over, to be computed once where rows repeat.

    A class with a `second_pass` of its own sets `rest_class`, a class that puts `OnFirstPass` before it.
    """

    rest_class: ClassVar[type[nn.Module]]

    def frontier(self, inputs: object, *, precision: str, fixed_sizes: bool = True) -> Frontier:
        """Return the first pass and the inputs, on which the second pass goes on.

        Raises ModelError for a network in which rows are not the first axis.
        """
        names = tuple(inputs) if isinstance(inputs, Mapping) else None
        rest: Any = self.rest_class.__new__(self.rest_class)
        vars(rest).update(vars(self))  # the same children, parameters and buffers
        rest.names = names
        found = _FirstPass((), (), (), rest, self.end_of_first_pass, _n_layers(self.network), self, names, precision)
        values = found.values(inputs)
        if len(values[0]) != len(values[1]):
            raise ModelError("its blocks hand on tokens in front of rows, which cannot be cached by row")
        return replace(
            found,
            layer_names=(self.end_of_first_pass, *(names or map(str, range(len(values) - 1)))),
            shapes=tuple(tuple(value.shape[1:]) for value in values),
            dtypes=tuple(value.dtype for value in values),
        )


class OnFirstPass(SteeredNetwork):
    """The rest of a steered network; `names` are the inputs that it takes by name, None where by position."""

    names: tuple[str, ...] | None

    def forward(self, z: Tensor, *inputs: Tensor) -> Any:
        """Map the first pass and the inputs to what the network returns."""
        if self.names is None:
            return self.second_pass(z, *inputs)
        return self.second_pass(z, **dict(zip(self.names, inputs, strict=True)))


SelfSplitting.rest_class = OnFirstPass


@dataclass(frozen=True, eq=False)
class _FirstPass(Frontier):
    _module: SteeredNetwork
    _names: tuple[str, ...] | None
    _precision: str

    def values(self, inputs: Any, *, folded: bool = True) -> tuple[Tensor, ...]:
        device = self._module.selection.xi.device
        args, options = arguments_of(on_network(self._module, inputs))
        with NETWORK_LOCK, torch.no_grad(), computing_in(self._precision, device):
            z = self._module.first_pass(*args, **options)
        return (z, *args, *(options[name] for name in self._names or ()))

    def n_flops(self, inputs: object) -> int:
        from torch.utils.flop_counter import FlopCounterMode  # which takes a while, and few need it

        with FlopCounterMode(display=False) as counter:
            z = self.values(inputs)[0]
        return counter.get_total_flops() // len(z)


def _n_layers(network: nn.Module) -> int:
    return sum(not list(module.children()) for module in network.modules())

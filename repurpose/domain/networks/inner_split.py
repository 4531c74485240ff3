"""A network around another one: with more on top of what that one gives, and split in two inside it.

A second head, or a look at layers on the way, is not in the graph of the network; what of it is frozen, and where that
ends, is found in the network alone, so that the frozen part is computed once here too.
"""

from copy import copy
from dataclasses import replace
from typing import Self

from torch import nn

from model_handler import ModelError
from model_handler.frozen_prefix.frontier import Frontier, SplitsItself
from model_handler.frozen_prefix.splitting import split
from repurpose.neural_network.architecture import WithParts

__all__ = ["SplitInside"]


class SplitInside(WithParts, SplitsItself):
    """Carries `parts` beside a network, under whose own names its weights stay, and is split where the network is.

    A subclass defines `forward`, which calls `self.network` and goes on with what that gives. Modules inside of that,
    such as one that remembers what passes, are asked for by path each time, ``self.network.get_submodule(path)``: the
    rest behind a frozen part has copies of them. Whatever else a subclass keeps is the same around the rest.
    """

    network: nn.Module

    def around(self, network: nn.Module) -> Self:
        """Return the same around another network, with these very parts."""
        made = copy(self)
        own = self.network._modules
        parts = {name: part for name, part in self._modules.items() if name not in own and part is not None}
        WithParts.__init__(made, network, parts)
        return made

    def frontier(self, inputs: object, *, precision: str, fixed_sizes: bool = True) -> Frontier:
        """Return where the frozen part of the network ends, and what is left of it with the parts around.

        Raises ModelError where the network cannot be split.
        """
        found = split(self.network, inputs, precision=precision, fixed_sizes=fixed_sizes)
        if found.frontier is None:
            raise ModelError(found.reason)
        return replace(found.frontier, rest=self.around(found.frontier.rest))

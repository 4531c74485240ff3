"""Monte Carlo dropout: a network asked many times with units left out, as in training; what it says then differs.

Gal and Ghahramani (2016), arXiv:1506.02142. Only dropout layers that acted in training act here: none in a frozen part.
What comes before them is the same each time, and computed once.
"""

from collections.abc import Iterator
from typing import Any

from torch import nn

from model_handler.frozen_prefix.splitting import split
from model_handler.network.eval_lock import hold
from model_handler.network.layer_types import is_of_type
from model_handler.network.replica import share_weights

__all__ = ["DroppingNetwork", "drops", "with_dropout"]


class DroppingNetwork:
    """A trained network in evaluation mode but for its dropout layers, to be asked many times about the same rows.

    `rest` takes what `before` gives for the inputs, any number of times: what its dropout layers do not reach is
    computed there, or all of it, where the network cannot be split.

    Parameters
    ----------
    module : nn.Module
        Left as it is.
    inputs : tensor, tuple of tensors or dict of tensors
        A batch of those to come.
    precision : str
        What it computes in.
    """

    def __init__(self, module: nn.Module, inputs: Any, precision: str) -> None:
        fixed, found = _fixed(with_dropout(module)).train(), None
        if all(layer.training for layer in _acting(fixed)):  # a `train` of the network's own may keep some from it
            found = split(fixed, inputs, precision=precision, fixed_sizes=False).frontier
        self._frontier = found if found is not None and any(True for _ in found.rest.parameters()) else None
        self.rest = with_dropout(module if self._frontier is None else self._frontier.rest)

    def before(self, inputs: Any) -> Any:
        """What `rest` takes for a batch of inputs."""
        return inputs if self._frontier is None else self._frontier.values(inputs, folded=False)


def drops(module: nn.Module) -> bool:
    """Whether a trained network has dropout layers that act in training."""
    return any(True for _ in _acting(module))


def with_dropout(module: nn.Module) -> nn.Module:
    """A network of the same weights in evaluation mode but for its dropout layers; `module` is left as it is."""
    twin = share_weights(module).eval()
    acting = set(_acting(twin))
    for part in twin.modules():
        fuses = isinstance(part, nn.TransformerEncoderLayer)  # in evaluation mode into one operation, without dropout
        if part in acting or (fuses and not acting.isdisjoint(part.modules())):
            part.training = True
    return twin


def _fixed(twin: nn.Module) -> nn.Module:
    """A network of which nothing but the acting dropout layers may give something else the next time, in place."""
    acting = set(_acting(twin))
    weights = {id(one): nn.Parameter(one.detach(), requires_grad=False) for one in twin.parameters()}
    for part in twin.modules():
        for name, own in part._parameters.items():
            part._parameters[name] = None if own is None else weights[id(own)]
        if part not in acting:
            hold(part)
    return twin


def _acting(module: nn.Module) -> Iterator[nn.Module]:
    for layer in module.modules():
        held = "train" in vars(layer)  # as freezing holds a layer in evaluation mode
        if is_of_type(layer, "dropout") and not held and getattr(layer, "p", 0) > 0:
            yield layer

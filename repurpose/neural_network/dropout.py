"""Monte Carlo dropout: many passes through one network with units left out, as in training, whose results differ.

Gal and Ghahramani (2016), arXiv:1506.02142. Only dropout layers that acted in training act here: none in a frozen part.
What comes before them is the same in each pass, and computed once.
"""

from collections.abc import Iterator

from torch import nn

from model_handler.frozen_prefix.splitting import split
from model_handler.network.eval_lock import hold
from model_handler.network.layer_types import is_of_type
from model_handler.network.replica import share_weights
from repurpose.data.inputs import Inputs

__all__ = ["DroppingNetwork", "drops", "with_dropout"]


class DroppingNetwork:
    """A trained network in evaluation mode but for its dropout layers, for many passes over the same rows.

    `before` computes once what no dropout layer reaches, and `rest` takes its result, any number of times. Where the
    network cannot be split, `rest` is all of it.

    Parameters
    ----------
    module : nn.Module
        It is left as it is.
    inputs : tensor, tuple of tensors or dict of tensors
        A batch like those to come.
    precision : str
        The precision of the passes, "float32" or "bfloat16".
    """

    def __init__(self, module: nn.Module, inputs: Inputs, precision: str) -> None:
        # `split` looks for what cannot change between two passes of a network in training mode: of this copy that is
        # all but the acting dropout layers.
        constant, found = _hold_all_but_dropout(with_dropout(module)).train(), None
        if all(layer.training for layer in _acting(constant)):  # the network's own `train` may keep some from it
            found = split(constant, inputs, precision=precision, fixed_sizes=False).frontier
        self._frontier = found if found is not None and any(True for _ in found.rest.parameters()) else None
        self.rest = with_dropout(module if self._frontier is None else self._frontier.rest)

    def before(self, inputs: Inputs) -> Inputs:
        """Compute what `rest` takes for a batch of inputs."""
        return inputs if self._frontier is None else self._frontier.values(inputs, folded=False)


def drops(module: nn.Module) -> bool:
    """Return whether a trained network has dropout layers that act in training."""
    return any(True for _ in _acting(module))


def with_dropout(module: nn.Module) -> nn.Module:
    """Return a copy that shares the weights, in evaluation mode but for its dropout layers; `module` stays as it is."""
    copy = share_weights(module).eval()
    acting = set(_acting(copy))
    for part in copy.modules():
        # In evaluation mode an encoder layer runs as one fused operation, which leaves dropout out.
        fuses = isinstance(part, nn.TransformerEncoderLayer)
        if part in acting or (fuses and not acting.isdisjoint(part.modules())):
            part.training = True
    return copy


def _hold_all_but_dropout(module: nn.Module) -> nn.Module:
    """Let nothing but the acting dropout layers differ from pass to pass, in place: no other layer trains or learns."""
    acting = set(_acting(module))
    frozen = {id(tensor): nn.Parameter(tensor.detach(), requires_grad=False) for tensor in module.parameters()}
    for part in module.modules():
        for name, parameter in part._parameters.items():
            part._parameters[name] = None if parameter is None else frozen[id(parameter)]
        if part not in acting:
            hold(part)
    return module


def _acting(module: nn.Module) -> Iterator[nn.Module]:
    for layer in module.modules():
        is_held = "train" in vars(layer)  # freezing gives a layer that it holds in evaluation mode a `train` of its own
        if is_of_type(layer, "dropout") and not is_held and getattr(layer, "p", 0) > 0:
            yield layer

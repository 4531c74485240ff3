"""One call: an adapter of a layer that runs several times in one forward acts in one of its calls alone.

The layer counts its calls from when the network is called, so such a network is run by its own forward, and not by a
graph of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from model_handler.errors import ModelError
from model_handler.network.adapted_layer import LayerAdapter, adapted_layers

__all__ = ["OneCall", "count_calls_in", "forget_calls"]

_COUNT, _ACTS = "_adapter_calls", "_adapter_acts"  # kept on the layer, beside its parameters


@dataclass(frozen=True)
class OneCall(LayerAdapter):
    """Lets an adapter act in call `number`, from 0, of the `n_calls` of its layer."""

    inner: LayerAdapter
    number: int
    n_calls: int

    wraps_calls = True
    counts_calls = True

    @property
    def kind(self) -> str:  # type: ignore[override]
        return self.inner.kind

    @property
    def parameter_names(self) -> tuple[str, ...]:
        return self.inner.parameter_names

    @property
    def targets(self) -> frozenset[str]:
        return self.inner.targets

    def changed(self, layer: nn.Module, name: str, tensor: Tensor) -> Tensor:
        return self.inner.changed(layer, name, tensor) if vars(layer).get(_ACTS) else tensor

    def around(self, layer: nn.Module, forward: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
        held = vars(layer)
        number = held.get(_COUNT, 0)
        held[_COUNT] = number + 1
        if number >= self.n_calls:
            raise ModelError(
                f"a layer with an adapter for call {self.number} of {self.n_calls} runs more often; recomputing "
                "activations (checkpointing) is one reason, other inputs are another"
            )
        held[_ACTS] = number == self.number
        try:
            return forward(*inputs, **options)
        finally:
            held[_ACTS] = False

    def called(self, path: str) -> str:
        return f"{path}@{self.number}"

    def __str__(self) -> str:
        return f"{self.inner} in call {self.number} of {self.n_calls}"


def count_calls_in(network: nn.Module) -> bool:
    """Let layers of a network that count their calls begin anew each time that it is called, in place.

    Return whether any did so before, or does now.
    """
    hooks = network._forward_pre_hooks
    counted = [key for key, hook in hooks.items() if hook is forget_calls]
    for key in counted:
        del hooks[key]
    counts = any(layer._adapter.counts_calls for layer in adapted_layers(network).values())
    if counts:
        network.register_forward_pre_hook(forget_calls)
    return counts or bool(counted)


def forget_calls(network: nn.Module, inputs: object) -> None:
    """Begin to count the calls of layers of a network at 0."""
    for layer in adapted_layers(network).values():
        vars(layer).pop(_COUNT, None)

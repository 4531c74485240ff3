"""Steering: what feedback made for each block is added where the block reads it, while a network runs.

In attention W_v td is added to the values, behind the network's own projection: W_v (x + td) would round otherwise,
and a signal of zeros would not leave the same bits. Queries and keys stay. In a ConvNet it is added to what a stage
reads. Nothing hangs on the network afterwards; values are caught where torch computes them, which serves modules that
read the weight of another one instead of calling it.
"""

import inspect
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from model_handler import ModelError, Projection
from model_handler.network.adapted_layer import is_column_linear
from repurpose.neural_network.toast.places import Places

__all__ = ["MULTI_HEAD", "SteeredValues", "resized", "steered_stages", "value_weights"]

MULTI_HEAD = inspect.signature(F.multi_head_attention_forward)


class SteeredValues(TorchFunctionMode):
    """Adds to the values of each block, in the `with` block, what was fed back to it and projected as they are.

    Parameters
    ----------
    network : nn.Module
        The network that runs.
    places : sequence of Projection
        Where values are computed, in order of execution; of a module that runs several times, an entry for each.
    added : sequence of Tensor
        W_v td for each of them, (n_rows, n_tokens, n_values).
    """

    def __init__(self, network: nn.Module, places: Sequence[Projection], added: Sequence[Tensor]) -> None:
        super().__init__()
        self._network = network
        self._weights = [_weight_of(network, place) for place in places]  # kept alive: they are known by identity
        self._left: dict[int, deque[tuple[Projection, Tensor]]] = {}
        for weight, place, values in zip(self._weights, places, added, strict=True):
            self._left.setdefault(id(weight), deque()).append((place, values))

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.linear:
            return self._projected(func(*args, **kwargs), _argument(args, kwargs, 1, "weight"))
        if func is torch.addmm:  # by the layers of GPT-2
            return self._projected(func(*args, **kwargs), _argument(args, kwargs, 2, "mat2"))
        if func is F.multi_head_attention_forward:
            return self._attended(func, args, kwargs)
        return func(*args, **kwargs)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        super().__exit__(kind, error, traceback)
        if error is None and (missed := [place.module for left in self._left.values() for place, _ in left]):
            raise ModelError(f"the values of attention in {missed[0]!r} were not computed, so TOAST cannot steer them")

    def _next(self, weight: object) -> tuple[Projection, Tensor] | None:
        """Return what is added in this call, if the weight is one of a value projection."""
        left = self._left.get(id(weight))
        return left.popleft() if left else None

    def _projected(self, output: Tensor, weight: object) -> Tensor:
        found = self._next(weight)
        if found is None:
            return output
        place, added = found
        values = output[..., place.start : place.stop]
        if values.ndim == 2:  # layers that read all tokens of all rows one below the other
            added = added.flatten(0, 1)
        if added.shape != values.shape:
            raise ModelError(
                f"the values in {place.module!r} are of shape {tuple(values.shape)}, and not {tuple(added.shape)}: "
                "TOAST cannot steer attention over other tokens than those that blocks hand on"
            )
        values += added
        return output

    def _attended(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        """Run multi-head attention of torch with values of ours, which it takes as static ones."""
        arguments = MULTI_HEAD.bind(*args, **kwargs)
        arguments.apply_defaults()
        given = arguments.arguments
        weight = given["v_proj_weight"] if given["use_separate_proj_weight"] else given["in_proj_weight"]
        found = self._next(weight)
        if found is None:
            return func(*args, **kwargs)
        place, added = found
        weight, bias = weight[place.start : place.stop], given["in_proj_bias"]
        bias = None if bias is None else bias[-len(weight) :]  # that of values stands last, as their weight does
        inputs = given["value"]  # (n_tokens, n_rows, width), whatever the order outside
        is_rows_first = self._network.get_submodule(place.module).batch_first
        values = F.linear(inputs, weight, bias) + (added.transpose(0, 1) if is_rows_first else added)
        n_tokens, n_rows = inputs.shape[:2]
        given["static_v"] = values.reshape(n_tokens, n_rows * given["num_heads"], -1).transpose(0, 1)
        return func(*arguments.args, **arguments.kwargs)


def value_weights(network: nn.Module, places: Sequence[Projection]) -> list[Tensor]:
    """Return the matrix W_v of each place, (n_values, width)."""
    found = []
    for place in places:
        weight = _weight_of(network, place)
        is_transposed = is_column_linear(network.get_submodule(place.module))
        found.append((weight.mT if is_transposed else weight)[place.start : place.stop])
    return found


@contextmanager
def steered_stages(network: nn.Module, places: Places, top_down: Sequence[Tensor]) -> Iterator[None]:
    """Add to what each stage reads, in this block, what was fed back to it: maps (n_rows, channels, height, width).

    The first stage reads the input of the network, each other one what the one before gives. Signals of another size
    are interpolated.
    """

    def steer_input(module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if inputs:
            return (_added(inputs[0], top_down[0], channels_last=False), *inputs[1:]), options
        name = next(name for name, value in options.items() if isinstance(value, Tensor))
        return inputs, {**options, name: _added(options[name], top_down[0], channels_last=False)}

    def steer_output(td: Tensor) -> Callable[..., Any]:
        return lambda module, inputs, output: _added(output, td, channels_last=places.channels_last)

    with ExitStack() as hooks:
        hooks.enter_context(network.register_forward_pre_hook(steer_input, with_kwargs=True))
        for path, td in zip(places.ends, top_down[1:], strict=False):
            hooks.enter_context(network.get_submodule(path).register_forward_hook(steer_output(td)))
        yield


def _added(output: Any, td: Tensor, *, channels_last: bool) -> Any:
    """Return an output with the signal added to its one tensor."""
    if not isinstance(output, Tensor):
        return type(output)([_added(output[0], td, channels_last=channels_last), *output[1:]])
    size = output.shape[1:3] if channels_last else output.shape[2:]
    td = resized(td, size)
    return output + (td.movedim(1, -1) if channels_last else td)


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate maps (n_rows, channels, height, width) to a height and width, where they have others."""
    if maps.shape[2:] == torch.Size(size):
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


def _weight_of(network: nn.Module, place: Projection) -> Tensor:
    return getattr(network.get_submodule(place.module), place.weight)


def _argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], place: int, name: str) -> Any:
    return args[place] if len(args) > place else kwargs.get(name)

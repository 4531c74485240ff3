"""New heads: the output of a network pooled to one row of features an input, and a linear layer as wide as asked."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model_handler import ModelHandler
from model_handler.extraction.channel_layout import Layout
from model_handler.extraction.pooling import Pooling, check_pooling, pool
from model_handler.network.outputs import select_tensor
from repurpose.data.padding import MASK
from repurpose.parameters import is_whole

__all__ = [
    "HEAD",
    "Pooled",
    "add_head",
    "add_on_top",
    "class_count_mistakes",
    "end_mistakes",
    "pooling_mistakes",
    "unused_name",
    "width_of_head",
    "with_masks",
]

HEAD, POOLED = "head", "pooled"


class Pooled(nn.Module):
    """Pools maps and tokens to one row an input, by a rule of `model_handler.extraction.pooling`."""

    def __init__(self, pooling: Pooling, layout: Layout | None) -> None:
        super().__init__()
        self.pooling, self.layout = pooling, layout
        self.mask: Tensor | None = None  # of the tokens that count, in the pass that runs

    def forward(self, value: Tensor) -> Tensor:
        """Map (n_rows, ...) to (n_rows, n_features), floating."""
        rows = pool(value, self.pooling, self.layout, self.mask)
        return rows if rows.is_floating_point() else rows.float()

    def extra_repr(self) -> str:
        """Describe the rule, for the text form of a network."""
        return f"{self.pooling!r}, channels {self.layout or 'by the number of axes'}"


def class_count_mistakes(target_class_count: object) -> list[str]:
    """Say what is wrong with the parameter, before the labels are known."""
    if target_class_count is None or is_whole(target_class_count, 2):
        return []
    return [f"target_class_count must be a whole number of at least 2, or None, got {target_class_count!r}"]


def pooling_mistakes(pooling: Pooling) -> list[str]:
    """Say what is wrong with the parameter."""
    try:
        check_pooling(pooling)
    except ValueError as error:
        return [str(error)]
    return []


def end_mistakes(transfer_layer_name: object, pooling: Pooling, *, may_be_left_out: bool = False) -> list[str]:
    """Say what is wrong with the parameters that tell where the network ends: the layer, and how it is pooled."""
    mistakes = pooling_mistakes(pooling)
    if isinstance(transfer_layer_name, str) or (transfer_layer_name is None and may_be_left_out):
        return mistakes
    or_none = ", or None" if may_be_left_out else ""
    return [f"transfer_layer_name must be the name of a layer{or_none}, got {transfer_layer_name!r}", *mistakes]


def width_of_head(target_class_count: int | None, classes: np.ndarray) -> int:
    """Return how many logits the network is to give. Raises ValueError for fewer than there are classes."""
    n_classes = len(classes)
    if target_class_count is None:
        return n_classes
    if target_class_count < n_classes:
        first = ", ".join(map(repr, classes[:5].tolist())) + (", ..." if n_classes > 5 else "")
        raise ValueError(
            f"target_class_count={target_class_count} is too small: the labels hold {n_classes} classes ({first}); "
            f"leave it out, or give at least {n_classes}"
        )
    return int(target_class_count)


def add_head(
    handler: ModelHandler, n_outputs: int, pooling: Pooling, below: Sequence[tuple[str, nn.Module]] = ()
) -> nn.Module:
    """Build the network of a handler with example inputs, its output pooled, and a linear layer of `n_outputs` on top.

    The new layers are called "pooled" and "head", or "head_2" and so on where the network has such a name already.
    Modules `below` the head, by names that the network does not have, are what it reads from.
    """
    return add_on_top(handler, HEAD, partial(nn.Linear, out_features=n_outputs), pooling, below)


def add_on_top(
    handler: ModelHandler,
    name: str,
    make: Callable[..., nn.Module],
    pooling: Pooling,
    below: Sequence[tuple[str, nn.Module]] = (),
) -> nn.Module:
    """Build the network of a handler with example inputs, its output pooled, and on top what `make` makes.

    It is called with the width of the rows that the new layer reads, and `dtype` and `device`; its `name` gets a number
    where the network has such a name already.
    """
    output = select_tensor(handler.example_output(), "the network", None)
    rows = pool(output.detach(), pooling, handler.output_layout)
    made = make(rows.shape[1], dtype=_dtype_of(output), device=_device_of(handler))
    added: list[tuple[str, nn.Module]] = [*below, (unused_name(name, handler), made)]
    if output.ndim > 2 or not output.is_floating_point():
        added.insert(0, (unused_name(POOLED, handler), Pooled(pooling, handler.output_layout)))
    return with_masks(handler.add_layer_top(added))


def with_masks(handler: ModelHandler) -> nn.Module:
    """Take the network of a handler, each `Pooled` in which is told before each pass which tokens count."""
    module = handler.get_module()
    pooled = [part for part in module.modules() if isinstance(part, Pooled)]
    if pooled and MASK in handler.input_names:
        module.register_forward_pre_hook(_PassMask(pooled), with_kwargs=True)
    return module


class _PassMask:
    """Tells the pooling before each pass which tokens are padding; an object, so that copies refer to their own."""

    def __init__(self, pooled: list[Pooled]) -> None:
        self.pooled = pooled

    def __call__(self, module: nn.Module, inputs: Any, options: dict[str, Any]) -> None:
        for pooled in self.pooled:
            pooled.mask = options.get(MASK)


def _dtype_of(output: Tensor) -> torch.dtype:
    return output.dtype if output.is_floating_point() else torch.float32


def _device_of(handler: ModelHandler) -> torch.device:
    first = next(handler.network.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def unused_name(name: str, handler: ModelHandler) -> str:
    """Return a name that nothing in the network of a handler has: `name`, or with a number behind."""
    number, unused = 2, name
    taken = {path.partition(".")[0] for path in handler.layer_names}
    while hasattr(handler.network, unused) or unused in taken:
        unused, number = f"{name}_{number}", number + 1
    return unused

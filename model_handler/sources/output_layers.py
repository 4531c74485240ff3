"""Which layer gives what a network returns: found by one run, as the last one whose output is that very tensor."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["find_output_layer"]


def find_output_layer(network: nn.Module, inputs: dict[str, Tensor], parts: Sequence[str]) -> str | None:
    """Return the layer whose output is a part of what the network returns, the first of `parts` that one gives.

    A layer that runs several times has the number of its call behind the name ("norm@3"), as elsewhere. None where no
    layer gives any of them, as what the network itself computes has no name.
    """
    calls: list[tuple[str, Tensor]] = []
    counts: dict[str, int] = {}

    def note(path: str) -> Any:
        def hook(module: nn.Module, given: Any, returned: Any) -> None:
            number = counts.get(path, 0)
            counts[path] = number + 1
            if isinstance(returned, Tensor):
                calls.append((f"{path}@{number}" if number else path, returned))

        return hook

    leaves = [(path, part) for path, part in network.named_modules() if path and not any(part.children())]
    handles = [part.register_forward_hook(note(path)) for path, part in leaves]
    try:
        with torch.no_grad():
            returned = network(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    for wanted in (getattr(returned, part, None) for part in parts):
        if isinstance(wanted, Tensor):
            for name, output in reversed(calls):
                if output.numel() == wanted.numel() and output.data_ptr() == wanted.data_ptr():
                    return name
    return None

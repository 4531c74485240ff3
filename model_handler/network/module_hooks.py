"""Module hooks: a pre-forward and a forward hook on every module of a network, for the length of a `with` block."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["watched"]


@contextmanager
def watched(
    network: nn.Module, enter: Callable[[str, nn.Module, Any], None], leave: Callable[[str, Any], None]
) -> Iterator[None]:
    """Call `enter(path, module, arguments)` when a module begins, and `leave(path, output)` when it returns.

    The network itself is not watched, nor is what is inside TorchScript, which takes no hooks.
    """

    def watch(path: str, module: nn.Module) -> None:
        hooks.enter_context(module.register_forward_pre_hook(lambda module, arguments: enter(path, module, arguments)))
        hooks.enter_context(module.register_forward_hook(lambda module, arguments, output: leave(path, output)))

    # every hook goes again, also where setting one of them or the forward fails
    with ExitStack() as hooks:
        for path, module in network.named_modules():
            if path and not isinstance(module, torch.jit.ScriptModule):
                watch(path, module)
        yield

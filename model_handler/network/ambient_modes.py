"""Modes of torch that are on around a call (no_grad, inference, autocast, default device) are put aside inside it.

What a call gives must follow from what it is given: training inside `torch.no_grad()` trains, tensors made inside
`torch.inference_mode()` can be trained later, and `precision` alone decides about digits, whatever `torch.autocast`
says outside. The default dtype is left as it is: it belongs to the whole process, other threads included, and the
user's network may rely on it; what is computed for ourselves names its dtypes.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

__all__ = ["on_cpu", "undisturbed"]


@contextmanager
def undisturbed() -> Iterator[None]:
    """Compute with gradients, without inference mode or autocast, in a block or, by `@undisturbed()`, a function.

    All three are of this thread alone, and as before when it ends.
    """
    with ExitStack() as modes:
        if torch.is_inference_mode_enabled():
            modes.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            modes.enter_context(torch.enable_grad())
        for device_type in _device_types():
            if torch.is_autocast_enabled(device_type):
                modes.enter_context(torch.autocast(device_type, enabled=False))
        yield


@contextmanager
def on_cpu() -> Iterator[None]:
    """Make tensors that name no device on the CPU, whatever the default device, in a block or a function.

    For computations of our own; a user's network may rely on the default.
    """
    with ExitStack() as modes:
        if torch.get_default_device().type != "cpu":
            modes.enter_context(torch.device("cpu"))
        yield


def _device_types() -> list[str]:
    # autocast is switched for each type of device, and on the CPU beside any other
    accelerator = torch.accelerator.current_accelerator()
    return ["cpu"] if accelerator is None else ["cpu", accelerator.type]

"""Shape propagation: shapes and FLOPs of every layer from the shapes of the inputs, with nothing computed.

A copy of the network with all its tensors on torch's device `meta`, which knows shapes and no numbers, runs under
torch's `FlopCounterMode`.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from model_handler.errors import ModelError
from model_handler.extraction.failures import explained
from model_handler.network.inputs import NamedInputs, place
from model_handler.network.replica import Workspace

__all__ = ["counting", "propagate"]

T = TypeVar("T")
Count = Callable[[], int]

_META = torch.device("meta")


def propagate(
    network: nn.Module, run: Callable[[nn.Module, NamedInputs, Count], T], inputs: NamedInputs, dtype: torch.dtype
) -> T:
    """Call `run` on a copy of `network` in evaluation mode, inputs and a count of FLOPs; all of it is on `meta`.

    Floating inputs are taken as `dtype`. Raises ModelError naming the layer that fails, for shapes that do not fit or
    because it needs numbers to go on.
    """
    given = {
        name: place(part, _META, dtype, channels_last=False) if isinstance(part, Tensor) else part
        for name, part in inputs.items()
    }
    workspace = _on_meta(network)
    with counting() as count, _META:  # tensors that a `forward` makes are on `meta` too
        try:
            with explained(workspace, given):
                return run(workspace, given, count)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"shapes cannot be followed through {type(network).__name__}: {error}") from error


@contextmanager
def counting() -> Iterator[Count]:
    """Gives a function that returns the FLOPs so far, as torch's `FlopCounterMode` counts them, without gradients.

    Attention and recurrent layers run as the matrix products that they are, since the counter sees none in their fused
    kernels.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    fused, onednn = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.set_flags(_enabled=False)[0]
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            yield counter.get_total_flops
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        torch.backends.mkldnn.set_flags(_enabled=onednn)


def _on_meta(network: nn.Module) -> nn.Module:
    """Return a copy without weights and without the hooks of the user, who may keep what these are given."""
    try:
        module = Workspace(network, _META).module
    except Exception as error:  # TorchScript holds its tensors where they are
        raise ModelError(f"{type(network).__name__} has no copy on the device meta: {error}") from error
    for part in module.modules():
        if not isinstance(part, torch.jit.ScriptModule):
            part.__dict__.update(_forward_hooks=OrderedDict(), _forward_pre_hooks=OrderedDict())
    return module

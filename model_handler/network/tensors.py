"""Tensors: the parameters and buffers that a network holds, each once or under each of its names."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from model_handler.errors import ModelError

__all__ = ["named_tensors", "refuse_without_weights", "tensor_bytes", "tensors_of"]


def tensors_of(network: nn.Module) -> Iterator[Tensor]:
    """Yield the parameters and then the buffers of a network, each once."""
    yield from network.parameters()
    yield from network.buffers()


def named_tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters and then the buffers of a network, under each of their names."""
    yield from network.named_parameters(remove_duplicate=False)
    yield from network.named_buffers(remove_duplicate=False)


def refuse_without_weights(network: nn.Module) -> None:
    """Raise ModelError for weights that have no shape yet, and for TorchScript that has none left."""
    if lazy := [name for name, tensor in named_tensors(network) if is_lazy(tensor)]:
        raise ModelError(f"the weights {lazy} have no shape yet; run the network once on some input, then give it here")
    scripts = ((name, part) for name, part in network.named_modules() if isinstance(part, torch.jit.ScriptModule))
    # torch.jit.freeze writes weights into the code as constants, and takes the attribute `training` off
    if frozen := [name for name, part in scripts if not part._c.hasattr("training")]:
        raise ModelError(
            f"{frozen[:3]} are TorchScript after torch.jit.freeze, which has no weights and no modes left; put what "
            "they were made from there: the nn.Module, or torch.jit.script of it"
        )


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Return the bytes of the numbers of a tensor, of a sparse one with its zeros."""
    values = tensor.detach().cpu()
    # torch conjugates and negates by a flag: the bytes are those of before until that is resolved.
    values = values.resolve_conj().resolve_neg() if values.layout is torch.strided else values.to_dense()
    flat = values.contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data  # as bytes: numpy has no bfloat16

"""The fingerprint of a network: a hash of its state that tells whether a saved repurposer was trained with it."""

from hashlib import sha256

import torch
from torch import nn

__all__ = ["fingerprint"]


def fingerprint(network: nn.Module) -> str:
    """Compute the SHA-256, in hexadecimal, of every name, shape, dtype and byte of the network's state."""
    digest = sha256()
    for name, tensor in network.state_dict().items():
        if not isinstance(tensor, torch.Tensor):  # extra state of a module's own
            digest.update(f"{name}:{type(tensor).__qualname__};".encode())
            continue
        # Names and shapes too: the same bytes under other names are another network.
        digest.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype};".encode())
        values = tensor.detach().cpu()
        # torch conjugates and negates by a flag: the bytes are those of before until that is resolved.
        values = values.resolve_conj().resolve_neg() if values.layout is torch.strided else values.to_dense()
        flat = values.contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)  # as bytes: numpy has no bfloat16
    return digest.hexdigest()

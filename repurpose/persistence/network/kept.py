"""Weights of a source network in the file: its state as arrays, each tensor once, and a network filled with them.

A tensor that has several names, as tied weights have, is written under the first; the others are noted. Dtypes that
numpy lacks, such as bfloat16, are written as their bytes: the table of the network has the dtype and the shape.
"""

from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from model_handler.errors import CorruptFileError, first_few
from model_handler.network.states import has_channels_last, load_state, with_channels_last
from repurpose.persistence.network.fingerprint import Table, shapes_of, table_differences

__all__ = ["arrays_of", "channels_last_of", "fill", "ties_of"]

# What safetensors and numpy both have.
_OF_NUMPY = frozenset(
    {
        *(torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8),
        *(torch.uint64, torch.uint32, torch.uint16, torch.uint8, torch.bool),
    }
)


def arrays_of(network: nn.Module) -> dict[str, np.ndarray]:
    """Return the state of a network as arrays by name, tied ones under their first name, in memory of the network.

    Raises ValueError where the state holds what is no tensor of plain numbers, such as packed quantized weights.
    """
    state, ties = network.state_dict(), ties_of(network)
    if strange := [name for name, value in state.items() if not _is_plain(value)]:
        raise ValueError(
            f"save_source_model=True cannot keep {first_few(strange)} of the source, which are no plain numbers; leave "
            "it out, and give the network again to load(path, source_model=...)"
        )
    if broken := [name for name, value in state.items() if _has_nan(value)]:
        raise ValueError(f"save_source_model=True cannot keep a source that holds NaN, in {first_few(broken)}")
    return {name: _array(tensor) for name, tensor in state.items() if name not in ties}


def ties_of(network: nn.Module) -> dict[str, str]:
    """Return the first name of each tensor that has another before, by the further name."""
    first: dict[int, str] = {}
    found = {}
    for name, value in network.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor) and first.setdefault(id(value), name) != name:
            found[name] = first[id(value)]
    return found


def channels_last_of(network: nn.Module) -> list[str]:
    """Return the names of tensors whose channels are the last in memory, on which the last digit may depend."""
    state = network.state_dict()
    return [name for name, value in state.items() if isinstance(value, Tensor) and has_channels_last(value)]


def fill(
    network: nn.Module,
    arrays: Mapping[str, np.ndarray],
    table: Table,
    ties: Mapping[str, str],
    what: str,
    *,
    channels_last: Collection[str] = (),
) -> None:
    """Set the state of a network to the one that was saved, in place, whatever it was.

    Raises ValueError, saying what differs, for a network of other names, shapes, dtypes or ties; CorruptFileError,
    naming the file `what`, for arrays that are not those of the table. The network is then as it was.
    """
    mistakes = table_differences({name: entry[:2] for name, entry in table.items()}, shapes_of(network))
    if not mistakes and ties != ties_of(network):
        mistakes = [f"weights are tied otherwise: {_pairs(ties_of(network))}, saved {_pairs(ties)}"]
    if mistakes:
        raise ValueError("; ".join(mistakes))
    own = network.state_dict()
    if strange := sorted({*arrays} ^ ({*own} - {*ties})):
        raise CorruptFileError(f"{what} is damaged: it does not hold the weights that were saved: {first_few(strange)}")
    state = {name: _tensor(arrays[ties.get(name, name)], own[name], f"{what}: {name}") for name in own}
    for name in state:
        if name in channels_last and state[name].ndim in (4, 5):
            state[name] = with_channels_last(state[name])
    load_state(network, state)


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) and not value.is_quantized and value.layout is torch.strided


def _has_nan(tensor: Tensor) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return False
    # The sum is NaN wherever a number is, or infinities cancel: ten times as fast as to ask each of many millions.
    is_maybe = tensor.itemsize < 4 or bool(torch.isnan(tensor.sum()))
    return is_maybe and bool(torch.isnan(tensor).any())


def _array(tensor: Tensor) -> np.ndarray:
    values = tensor.detach().cpu().resolve_conj().resolve_neg()
    return values.numpy() if tensor.dtype in _OF_NUMPY else values.contiguous().reshape(-1).view(torch.uint8).numpy()


def _tensor(array: np.ndarray, like: Tensor, what: str) -> Tensor:
    """Return the tensor that an array was made of. Raises CorruptFileError unless it can be one `like` that."""
    as_bytes = like.dtype not in _OF_NUMPY
    dtype = np.dtype(np.uint8) if as_bytes else torch.empty(0, dtype=like.dtype).numpy().dtype
    shape = (like.numel() * like.element_size(),) if as_bytes else tuple(like.shape)
    if array.dtype != dtype or array.shape != shape:
        raise CorruptFileError(f"{what} has the dtype {array.dtype} and the shape {array.shape}: it is damaged")
    # Copied, since bytes may begin anywhere in memory, and numbers may not.
    tensor = torch.from_numpy(array.copy()).view(like.dtype) if as_bytes else torch.from_numpy(array)
    tensor = tensor.reshape(like.shape)
    if _has_nan(tensor):
        raise CorruptFileError(f"{what} holds NaN: it is damaged")
    return tensor


def _pairs(ties: Mapping[str, str]) -> str:
    return first_few([f"{name} to {first}" for name, first in ties.items()]) or "none"

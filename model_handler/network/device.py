"""Devices: which one a network computes on, whether it is here, and which GPU belongs to this process."""

import os
from multiprocessing import parent_process

import torch
from torch import nn

from model_handler.network.tensors import tensors_of

__all__ = ["check_device", "is_launched", "local_gpu", "resolve_device"]

_LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR")


def resolve_device(device: str | torch.device, network: nn.Module) -> torch.device:
    """Return the device to compute on: as asked; for "auto" the network's if it is an accelerator, else a GPU if any.

    Raises ValueError if the device asked for is no device name, or none that is here. On "meta" there are shapes.
    """
    check_device(device, computes=False)
    if device != "auto":
        asked = torch.device(device)
        unnumbered = asked.type == "cuda" and asked.index is None and torch.cuda.is_available()
        return local_gpu() if unnumbered else asked
    own = next((tensor.device for tensor in tensors_of(network)), torch.device("cpu"))
    if own.type == "cpu" and torch.cuda.is_available():
        return local_gpu()
    return own


def check_device(device: str | torch.device, *, computes: bool = True) -> None:
    """Raise ValueError unless `device` is "auto" or a device that torch has here.

    On "meta" nothing is computed: it will do where shapes are all that is wanted (`computes=False`).
    """
    try:
        wanted = torch.device("cpu" if device == "auto" else device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"device must be 'auto' or a torch device such as 'cpu' or 'cuda:0', got {device!r}"
            f"{' (a GPU is cuda)' if str(device).lower().startswith(('gpu', 'cuda')) else ''}"
        ) from error
    if wanted.type == "meta" and not computes:
        return
    if reason := _why_absent(wanted):
        there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        raise ValueError(f"device={str(device)!r} cannot be: {reason}; give 'auto' or one of {there}")


def local_gpu() -> torch.device:
    """Return the GPU of this process: the current one; that of its rank where a launcher started several processes."""
    current = torch.cuda.current_device()
    local_rank = int(os.environ["LOCAL_RANK"]) if is_launched() else 0
    return torch.device("cuda", current or local_rank % torch.cuda.device_count())


def is_launched() -> bool:
    """Return whether a launcher started this very process as one of several, not a process that started this one."""
    launched = all(name in os.environ for name in _LAUNCHED) and parent_process() is None
    return launched and int(os.environ["WORLD_SIZE"]) > 1


def _why_absent(device: torch.device) -> str:
    """Return why nothing can be computed on a device, or ""."""
    if device.type == "meta":
        return "tensors on 'meta' have a shape and no numbers"
    if device.type == "cuda":  # asked without beginning to use it: each of several processes has a GPU of its own
        if not torch.cuda.is_available():
            return "torch finds no GPU here (torch.cuda.is_available() is False)"
        n_gpus = torch.cuda.device_count()
        return "" if (device.index or 0) < n_gpus else f"torch finds {n_gpus} GPU{'s' * (n_gpus > 1)}, counted from 0"
    try:
        torch.empty(0, device=device)
    except Exception as error:  # of any kind, as the backend that is missing raises it
        return f"torch cannot compute on it here ({str(error).splitlines()[0].partition('. ')[0]})"
    return ""

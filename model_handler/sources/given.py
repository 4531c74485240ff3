"""What is given as a source, a module, a `Source` or a name, becomes a `Source`; anything else is refused."""

import inspect
from collections.abc import Mapping
from os import PathLike, fspath

import torch
from torch import nn

from model_handler.sources.embedded import EMBEDDED
from model_handler.sources.loading import load_source
from model_handler.sources.naming import unknown_name
from model_handler.sources.source import Source

__all__ = ["as_source", "no_source"]


def as_source(model: object) -> Source:
    """Return what a network, `Source` or name stands for. Raises TypeError for anything else; as `load_source`."""
    if isinstance(model, str):
        return load_source(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError("a TorchScript module has no Python forward to look into; give the nn.Module it was made from")
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return as_source(model.module)
    if isinstance(model, nn.Module):
        return Source(getattr(model, "_orig_mod", model))  # torch.compile keeps the original under this name
    if isinstance(model, Source):
        return model
    raise no_source(model)


def no_source(value: object, what: str = "the source") -> TypeError:
    """Make the error for what is no network, `Source` or name, with what it takes to make a network of it."""
    if isinstance(value, PathLike):
        return TypeError(str(unknown_name(fspath(value))))
    got = fix = ""
    if isinstance(value, type) or inspect.isroutine(value):
        kind = "class" if isinstance(value, type) else "function"
        got, fix = f"the {kind} {value.__name__}", f"; call the {kind} to make a network: {value.__name__}(...)"
    elif isinstance(value, Mapping):
        got = (
            f"{type(value).__name__} with the keys {', '.join(map(repr, list(value)[:3]))}{', ...' * (len(value) > 3)}"
        )
        fix = "; weights are no network: make the one they belong to, network.load_state_dict(weights), and give that"
    kinds = f"a torch.nn.Module, a Source, or a name such as 'torchvision/resnet50' or {EMBEDDED!r}"
    return TypeError(f"{what} must be {kinds}, got {got or type(value).__name__}{fix}")

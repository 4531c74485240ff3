"""Layers whose weights are computed (weight norm, spectral norm, pruning, parametrizations) are reinitialised here.

`torch.nn.utils.weight_norm`, `spectral_norm` and `prune` compute `weight` before each forward, those of
`parametrizations`, and a user's own, whenever it is read. What `reset_parameters` or an initialiser writes into it
would be lost: so a plain layer of the same kind is drawn, and its weight given to what the layer computes its own from.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm

from model_handler.network.copying import deep_copy

__all__ = ["inside_of_parametrizations", "is_reparametrised", "redraw"]

_ROUNDS = 15  # of power iteration, as torch makes them for a new layer


def is_reparametrised(module: nn.Module) -> bool:
    """Return whether a module itself computes a weight of other ones."""
    return parametrize.is_parametrized(module) or bool(_hooks(module))


def inside_of_parametrizations(network: nn.Module) -> set[nn.Module]:
    """Return the modules that only compute weights of others: each is a part of the layer whose weight it computes."""
    owners = [module for module in network.modules() if parametrize.is_parametrized(module)]
    return {part for owner in owners for part in owner.parametrizations.modules()}  # type: ignore[union-attr]


def redraw(module: nn.Module, draw: Callable[[nn.Module], object]) -> None:
    """Reinitialise a reparametrised module, in place: `draw` is called with a plain one of the same kind.

    A mask of pruning stays. Raises ValueError for a parametrization that cannot tell what gives a weight.
    """
    hooks, names = _hooks(module), list(getattr(module, "parametrizations", {}))
    plain = _without_parametrizations(module)
    draw(plain)
    for name, tensor in (*plain._parameters.items(), *plain._buffers.items()):
        if tensor is not None and (name in module._parameters or name in module._buffers):
            getattr(module, name).copy_(tensor)
    for hook in hooks:
        _write_weight(module, hook, plain)
    for name in names:
        _assign(module, name, getattr(plain, name).detach())
    _iterate_norms(module, hooks, names)


def _hooks(module: nn.Module) -> list[Any]:
    kinds = (WeightNorm, SpectralNorm, prune.BasePruningMethod)
    return [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, kinds)]


def _without_parametrizations(module: nn.Module) -> nn.Module:
    """Return a copy whose weights are its own, as they were before they came to be computed."""
    plain = deep_copy(module)
    # the last one put on computes from what the others gave, so it comes off first
    for hook in reversed(_hooks(plain)):
        if isinstance(hook, WeightNorm):
            remove_weight_norm(plain, hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(plain, hook.name)
        else:
            prune.remove(plain, hook._tensor_name)
    if parametrize.is_parametrized(plain):
        weights = {name: getattr(plain, name).detach() for name in plain.parametrizations}  # type: ignore[union-attr]
        del plain.parametrizations
        plain.__class__ = type(plain).__mro__[1]  # torch's own removal takes the weight from all of this class
        for name, weight in weights.items():
            plain.register_parameter(name, nn.Parameter(weight))
    return plain


def _write_weight(module: nn.Module, hook: Any, plain: nn.Module) -> None:
    name = hook._tensor_name if isinstance(hook, prune.BasePruningMethod) else hook.name
    weight = getattr(plain, name, None)
    if weight is None:  # a part of another weight is pruned, which is given through the mask
        return
    if isinstance(hook, WeightNorm):
        _copy_into(module, f"{name}_v", weight)
        _copy_into(module, f"{name}_g", torch.norm_except_dim(weight, 2, hook.dim))
    else:
        _copy_into(module, f"{name}_orig", weight)


def _copy_into(module: nn.Module, name: str, value: Tensor) -> None:
    held = module._parameters.get(name)
    (getattr(module, f"{name}_orig") if held is None else held).copy_(value)


def _assign(module: nn.Module, name: str, weight: Tensor) -> None:
    parametrizations: Any = module.parametrizations[name]  # type: ignore[index]
    original = getattr(parametrizations, "original", None)
    if all(hasattr(parametrization, "right_inverse") for parametrization in parametrizations):
        setattr(module, name, weight)
    elif original is not None and original.shape == weight.shape:  # what it is made of is drawn as the weight would be
        original.copy_(weight)
    else:
        kinds = [
            type(parametrization).__name__
            for parametrization in parametrizations
            if not hasattr(parametrization, "right_inverse")
        ]
        raise ValueError(
            f"{kinds}, of which {name!r} is computed, has no right_inverse to tell what gives a new weight"
        )


def _iterate_norms(module: nn.Module, hooks: list[Any], names: list[str]) -> None:
    """Compute the weights some times as in training: the norm of a spectral one is found by iteration, in training."""
    modes = [(part, part.training) for part in module.modules()]
    for part, _ in modes:
        part.training = True
    for _ in range(_ROUNDS):
        for hook in hooks:
            hook(module, None)
        for name in names:
            getattr(module, name)
    for part, training in modes:
        part.training = training

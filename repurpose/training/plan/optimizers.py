"""Optimisers of torch.optim are given by name or class; their parameters are judged before the network is known."""

import inspect
from collections.abc import Mapping
from numbers import Real
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.optim import Optimizer

from model_handler.errors import ModelError, nearest
from repurpose.training.plan.parameter_groups import GroupTable
from repurpose.training.plan.sparse_gradients import refuse_sparse_gradients

__all__ = [
    "OptimizerChoice",
    "base_learning_rate",
    "base_weight_decay",
    "make_optimizer",
    "optimizer_class",
    "optimizer_mistakes",
    "trial_optimizer",
]

OptimizerChoice: TypeAlias = str | type[Optimizer]
Params: TypeAlias = Mapping[str, Any] | None

_RATE_NAMES = ("learning_rate", "lr")


def optimizer_class(optimizer: object) -> type[Optimizer]:
    """Find the class of torch.optim that is meant. Raises ValueError, naming the nearest, for what is none."""
    if isinstance(optimizer, type) and issubclass(optimizer, Optimizer) and optimizer is not Optimizer:
        return optimizer
    known = {
        name.lower(): kind
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, Optimizer) and kind is not Optimizer
    }
    if isinstance(optimizer, str) and optimizer.lower() in known:
        return known[optimizer.lower()]
    names = [kind.__name__ for kind in known.values()]
    near = nearest(optimizer, names) if isinstance(optimizer, str) else names[:3]
    raise ValueError(f"optimizer must be a class of torch.optim or its name, got {optimizer!r}; nearest: {near}")


def base_learning_rate(optimizer: OptimizerChoice, params: Params) -> float:
    """Return the rate of reinitialised parameters: as `optimizer_params` gives it, else the optimiser's own default."""
    given = dict(params or {})
    default = inspect.signature(optimizer_class(optimizer)).parameters.get("lr")
    fallback = 1e-3 if default is None or default.default is inspect.Parameter.empty else float(default.default)
    return float(next((given[name] for name in _RATE_NAMES if name in given), fallback))


def base_weight_decay(optimizer: OptimizerChoice, params: Params, *, has_l2_sp: bool = False) -> float:
    """Return the weight decay: as given, else the optimiser's own; with L2-SP, which takes its place, none."""
    given = dict(params or {})
    if "weight_decay" in given:
        return float(given["weight_decay"])
    default = inspect.signature(optimizer_class(optimizer)).parameters.get("weight_decay")
    return 0.0 if default is None or has_l2_sp else float(default.default)


def make_optimizer(
    module: nn.Module, groups: GroupTable, optimizer: OptimizerChoice, params: Params, *, has_l2_sp: bool = False
) -> Optimizer:
    """Make the optimiser, with a parameter group for each group of the table. Raises ModelError if it refuses them."""
    kind = optimizer_class(optimizer)
    parameters = dict(module.named_parameters())
    given = _without_rate(params)
    has_decay = "weight_decay" in inspect.signature(kind).parameters
    entries = [
        {
            "params": [parameters[name] for name in group.parameters],
            "lr": group.learning_rate,
            **({"weight_decay": group.weight_decay} if has_decay else {}),
        }
        for group in groups
    ]
    refuse_sparse_gradients(module, entries, kind, given, has_l2_sp=has_l2_sp)
    try:
        return kind(entries, **given)
    except (TypeError, ValueError) as error:
        raise ModelError(f"optimizer {kind.__name__} cannot train these parameters: {error}") from error


def trial_optimizer(optimizer: OptimizerChoice, params: Params) -> Optimizer:
    """Make an optimiser of a single weight, by which torch judges the parameters. Raises what torch raises."""
    weight = nn.Parameter(torch.zeros(1, 1, device="cpu"))
    return optimizer_class(optimizer)([{"params": [weight], "lr": 1e-3}], **_without_rate(params))


def optimizer_mistakes(optimizer: object, params: object, learning_rates: object) -> list[str]:
    """List what is wrong with the optimiser, its parameters and the learning rates, before the network is known."""
    try:
        kind = optimizer_class(optimizer)
    except ValueError as error:
        return [str(error)]
    if issubclass(kind, torch.optim.SparseAdam):
        return [
            "optimizer SparseAdam is for sparse gradients, and new heads give dense ones; take Adam, or SGD for both"
        ]
    if issubclass(kind, torch.optim.LBFGS):
        return ["optimizer LBFGS evaluates the loss several times a step, which training in batches does not serve"]
    if params is not None and not isinstance(params, Mapping):
        return [f"optimizer_params must be a dict, such as {{'learning_rate': 1e-3}}, got {params!r}"]
    given = dict(params or {})
    known = [name for name in inspect.signature(kind).parameters if name not in ("params", "lr")]
    mistakes = [
        f"{kind.__name__} has no parameter {name!r}; nearest: {nearest(str(name), ['learning_rate', *known])}"
        for name in given
        if name not in (*known, *_RATE_NAMES)
    ]
    mistakes += _mistakes_in_rates(given, learning_rates)
    if "weight_decay" in given and not _is_rate(given["weight_decay"]):
        mistakes.append(f"optimizer_params['weight_decay'] must be at least 0, got {given['weight_decay']!r}")
    return (mistakes or _objections_of_optimizer(kind, given)) + _mistakes_in_learning_rates(learning_rates)


def _mistakes_in_rates(given: Mapping[str, object], learning_rates: object) -> list[str]:
    """List what is wrong with the rate that `optimizer_params` may give."""
    mistakes = []
    rates = [name for name in _RATE_NAMES if name in given]
    if len(rates) == 2:
        mistakes.append("optimizer_params has both 'learning_rate' and 'lr', which are one thing; give one")
    if rates and learning_rates is not None:
        mistakes.append(
            f"optimizer_params[{rates[0]!r}] and learning_rates both say how fast to learn: give one; a rate for all "
            'that is not named otherwise is learning_rates={"*": ...}'
        )
    return mistakes + [
        f"optimizer_params[{name!r}] must be a positive number, got {given[name]!r}"
        for name in rates
        if not _is_rate(given[name]) or given[name] == 0
    ]


def _mistakes_in_learning_rates(rates: object) -> list[str]:
    if rates is None:
        return []
    if not isinstance(rates, Mapping) or not rates:
        return [f'learning_rates must be a dict such as {{"layer4": 1e-4, "new": 1e-2, "*": 1e-5}}, got {rates!r}']
    wrong = {name: rate for name, rate in rates.items() if not _is_rate(rate)}
    mistakes = [f"learning rates must be numbers of at least 0 (0 freezes), got {wrong}"] if wrong else []
    others = [name for name in rates if not isinstance(name, (str, type))]
    return mistakes + [f"learning_rates names layers, types, 'new', 'transferred' or '*', got {n!r}" for n in others]


def _objections_of_optimizer(kind: type[Optimizer], given: Mapping[str, Any]) -> list[str]:
    """Return what the optimiser says to its parameters."""
    try:
        trial_optimizer(kind, given)
    except Exception as error:
        return [f"{kind.__name__} does not take optimizer_params={dict(given)!r}: {error}"]
    return []


def _without_rate(params: Params) -> dict[str, Any]:
    """Leave out the learning rate, which each group has of its own."""
    return {name: value for name, value in dict(params or {}).items() if name not in _RATE_NAMES}


def _is_rate(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) < float("inf")

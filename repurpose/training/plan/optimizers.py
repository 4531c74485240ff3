"""Optimisers and schedulers of torch.optim, by name or class, and the default schedule: warm-up, then a half cosine.

How many steps there will be is known beforehand, so that schedules end where training ends.
"""

import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from model_handler.errors import ModelError, nearest
from repurpose.training.plan.sparse_gradients import refuse_sparse_gradients

if TYPE_CHECKING:
    from repurpose.training.plan.groups import GroupTable
    from repurpose.training.plan.plan import TrainingPlan

__all__ = [
    "base_learning_rate",
    "base_weight_decay",
    "make_optimizer",
    "make_scheduler",
    "optimizer_class",
    "optimizer_mistakes",
    "scheduler_mistakes",
    "step_epoch",
    "steps_each_batch",
    "warmup_cosine",
]

WARMUP_COSINE = "warmup_cosine"
_WARMUP = 0.1  # of all steps
_RATE_NAMES = ("learning_rate", "lr")
_ENOUGH = 1000  # epochs of a training that is only tried out
_BASES = ("Optimizer", "LRScheduler", "_LRScheduler")
_EACH_BATCH = (lr_scheduler.OneCycleLR, lr_scheduler.CyclicLR)


def optimizer_class(optimizer: Any) -> type[Optimizer]:
    """The class of torch.optim that is meant. Raises ValueError, naming the nearest, for what is none."""
    if isinstance(optimizer, type) and issubclass(optimizer, Optimizer) and optimizer is not Optimizer:
        return optimizer
    known = {name.lower(): kind for name, kind in vars(torch.optim).items() if _is_kind(kind, Optimizer)}
    if isinstance(optimizer, str) and optimizer.lower() in known:
        return known[optimizer.lower()]
    names = [kind.__name__ for kind in known.values()]
    near = nearest(optimizer, names) if isinstance(optimizer, str) else names[:3]
    raise ValueError(f"optimizer must be a class of torch.optim or its name, got {optimizer!r}; nearest: {near}")


def base_learning_rate(plan: "TrainingPlan") -> float:
    """The rate of what learns anew: as given in `optimizer_params`, else the optimiser's own default."""
    given = _params(plan.optimizer_params)
    default = inspect.signature(optimizer_class(plan.optimizer)).parameters.get("lr")
    fallback = 1e-3 if default is None or default.default is inspect.Parameter.empty else float(default.default)
    return float(next((given[name] for name in _RATE_NAMES if name in given), fallback))


def base_weight_decay(plan: "TrainingPlan") -> float:
    """The weight decay of weights: as given, else the optimiser's own; with L2-SP, which takes its place, none."""
    given = _params(plan.optimizer_params)
    if "weight_decay" in given:
        return float(given["weight_decay"])
    default = inspect.signature(optimizer_class(plan.optimizer)).parameters.get("weight_decay")
    return 0.0 if default is None or plan.l2_sp is not None else float(default.default)


def make_optimizer(module: nn.Module, groups: "GroupTable", plan: "TrainingPlan") -> Optimizer:
    """The optimiser of a plan with a group of parameters for each of the table."""
    kind = optimizer_class(plan.optimizer)
    parameters = dict(module.named_parameters())
    given = {name: value for name, value in _params(plan.optimizer_params).items() if name not in _RATE_NAMES}
    has_decay = "weight_decay" in inspect.signature(kind).parameters
    entries = [
        {
            "params": [parameters[name] for name in group.parameters],
            "lr": group.learning_rate,
            **({"weight_decay": group.weight_decay} if has_decay else {}),
        }
        for group in groups
    ]
    refuse_sparse_gradients(module, entries, kind, given, plan)
    try:
        return kind(entries, **given)
    except (TypeError, ValueError) as error:
        raise ModelError(f"optimizer {kind.__name__} cannot train these parameters: {error}") from error


def make_scheduler(
    optimizer: Optimizer, plan: "TrainingPlan", steps_per_epoch: int
) -> lr_scheduler.LRScheduler | lr_scheduler.ReduceLROnPlateau | None:
    """The scheduler of a plan, which takes `steps_per_epoch` steps of the optimiser in each epoch."""
    total, given = steps_per_epoch * plan.num_epochs, _params(plan.scheduler_params)
    if plan.scheduler is None:
        return None
    if plan.scheduler == WARMUP_COSINE:
        return lr_scheduler.LambdaLR(optimizer, warmup_cosine(total, **given))
    kind = _scheduler_class(plan.scheduler)
    if kind is None:
        made = plan.scheduler(optimizer, **given)
        if not callable(getattr(made, "step", None)):
            raise TypeError(f"scheduler must make a scheduler of torch.optim of an optimiser, but gave {made!r}")
        return made
    known = inspect.signature(kind).parameters
    if issubclass(kind, lr_scheduler.OneCycleLR):
        rates = [group["lr"] for group in optimizer.param_groups]
        given = {"max_lr": rates, "total_steps": total, **given}
    elif "T_max" in known:
        given = {"T_max": plan.num_epochs, **given}
    elif issubclass(kind, lr_scheduler.PolynomialLR):
        given = {"total_iters": plan.num_epochs, **given}
    made = kind(optimizer, **given)
    if isinstance(made, lr_scheduler.OneCycleLR) and made.total_steps < total:
        raise ModelError(
            f"OneCycleLR ends after {made.total_steps} steps, and training takes {total}; leave its length out"
        )
    return made


def steps_each_batch(scheduler: Any) -> bool:
    """Whether a scheduler moves on with each step of the optimiser rather than with each epoch."""
    own = isinstance(scheduler, lr_scheduler.LambdaLR) and any(
        getattr(factor, "by_step", False) for factor in scheduler.lr_lambdas
    )
    return own or isinstance(scheduler, _EACH_BATCH)


def step_epoch(scheduler: Any, score: float) -> None:
    """Move on after an epoch of this validation loss, or without validation loss."""
    if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
        scheduler.step(score)
    else:
        scheduler.step()


def warmup_cosine(n_steps: int, warmup: float = _WARMUP, final: float = 0.0) -> Callable[[int], float]:
    """The factor of every learning rate at each step, from 0 on.

    It rises linearly to 1 over the first `warmup` of the `n_steps` and falls along a half cosine to `final`, which the
    step after the last would have. Cosine: Loshchilov and Hutter (2017), arXiv:1608.03983, without restarts.
    """
    n_warmup = math.floor(warmup * n_steps)

    def factor(step: int) -> float:
        if step < n_warmup:
            return (step + 1) / (n_warmup + 1)
        done = min(1.0, (step - n_warmup) / max(1, n_steps - n_warmup))
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))

    factor.by_step = True  # type: ignore[attr-defined]
    return factor


def optimizer_mistakes(plan: "TrainingPlan") -> list[str]:
    """What is wrong with the optimiser, its parameters and the learning rates, before the network is known."""
    try:
        kind = optimizer_class(plan.optimizer)
    except ValueError as error:
        return [str(error)]
    if issubclass(kind, torch.optim.SparseAdam):
        return [
            "optimizer SparseAdam is for sparse gradients, and new heads give dense ones; take Adam, or SGD for both"
        ]
    if issubclass(kind, torch.optim.LBFGS):
        return ["optimizer LBFGS evaluates the loss several times a step, which training in batches does not serve"]
    if plan.optimizer_params is not None and not isinstance(plan.optimizer_params, Mapping):
        return [f"optimizer_params must be a dict, such as {{'learning_rate': 1e-3}}, got {plan.optimizer_params!r}"]
    given = _params(plan.optimizer_params)
    known = [name for name in inspect.signature(kind).parameters if name not in ("params", "lr")]
    mistakes = [
        f"{kind.__name__} has no parameter {name!r}; nearest: {nearest(str(name), ['learning_rate', *known])}"
        for name in given
        if name not in (*known, *_RATE_NAMES)
    ]
    rates = [name for name in _RATE_NAMES if name in given]
    if len(rates) == 2:
        mistakes.append("optimizer_params has both 'learning_rate' and 'lr', which are one thing; give one")
    if rates and plan.learning_rates is not None:
        mistakes.append(
            f"optimizer_params[{rates[0]!r}] and learning_rates both say how fast to learn: give one; a rate for all "
            'that is not named otherwise is learning_rates={"*": ...}'
        )
    mistakes += [
        f"optimizer_params[{name!r}] must be a positive number, got {given[name]!r}"
        for name in rates
        if not _is_rate(given[name]) or given[name] == 0
    ]
    if "weight_decay" in given and not _is_rate(given["weight_decay"]):
        mistakes.append(f"optimizer_params['weight_decay'] must be at least 0, got {given['weight_decay']!r}")
    return (mistakes or _refused_by(kind, given)) + _rate_mistakes(plan.learning_rates)


def scheduler_mistakes(plan: "TrainingPlan") -> list[str]:
    """What is wrong with the scheduler and its parameters."""
    if plan.scheduler_params is not None and not isinstance(plan.scheduler_params, Mapping):
        return [f"scheduler_params must be a dict, got {plan.scheduler_params!r}"]
    given = _params(plan.scheduler_params)
    if plan.scheduler is None:
        return ["scheduler_params are given without a scheduler"] if given else []
    if plan.scheduler == WARMUP_COSINE:
        known = ["warmup", "final"]
        unknown = [name for name in given if name not in known]
        wrong = [name for name in known if name in given and not (_is_rate(given[name]) and given[name] <= 1)]
        return [f"the schedule {WARMUP_COSINE!r} has no parameter {name!r}; it has {known}" for name in unknown] + [
            f"scheduler_params[{name!r}] must be a share from 0 to 1, got {given[name]!r}" for name in wrong
        ]
    try:
        kind = _scheduler_class(plan.scheduler)
    except ValueError as error:
        return [str(error)]
    if kind is None:
        return []
    parameters = inspect.signature(kind).parameters
    unknown = [name for name in given if name not in parameters]
    filled = ("optimizer", "T_max", *(("max_lr",) if issubclass(kind, lr_scheduler.OneCycleLR) else ()))
    missing = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty and name not in (*given, *filled)
    ]
    hint = "; a function makes one: scheduler=lambda optimizer: ..." if "schedulers" in missing else ""
    mistakes = [
        f"{kind.__name__} has no parameter {name!r}; nearest: {nearest(str(name), parameters)}" for name in unknown
    ] + [f"{kind.__name__} needs scheduler_params[{name!r}]{hint}" for name in missing]
    return mistakes or _refused_steps(kind, plan)


def _refused_by(kind: type[Optimizer], given: Mapping[str, Any]) -> list[str]:
    """What the optimiser says to its parameters, asked with a network of one weight."""
    own = {name: value for name, value in given.items() if name not in _RATE_NAMES}
    try:
        kind(_one_weight(), **own)
    except Exception as error:
        return [f"{kind.__name__} does not take optimizer_params={dict(given)!r}: {error}"]
    return []


def _refused_steps(kind: type[Any], plan: "TrainingPlan") -> list[str]:
    """What the scheduler says to its parameters, asked to take a step for a network of one weight.

    Not asked where there are lists, which may have a number for each group.
    """
    if any(isinstance(value, (list, tuple)) for value in _params(plan.scheduler_params).values()):
        return []
    own = {name: value for name, value in _params(plan.optimizer_params).items() if name not in _RATE_NAMES}
    try:
        optimizer = optimizer_class(plan.optimizer)(_one_weight(), **own)
    except Exception:  # told of already
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that no step of the optimiser came first
            step_epoch(make_scheduler(optimizer, replace(plan, num_epochs=_ENOUGH), steps_per_epoch=1), 1.0)
    except Exception as error:
        return [f"{kind.__name__} does not take scheduler_params={_params(plan.scheduler_params)!r}: {error}"]
    return []


def _one_weight() -> list[dict[str, Any]]:
    return [{"params": [nn.Parameter(torch.zeros(1, 1, device="cpu"))], "lr": 1e-3}]


def _scheduler_class(scheduler: Any) -> type[Any] | None:
    """The class that is meant, or None for a function that makes a scheduler of an optimiser."""
    base = (lr_scheduler.LRScheduler, lr_scheduler.ReduceLROnPlateau)
    if isinstance(scheduler, type) and issubclass(scheduler, base):
        return scheduler
    if callable(scheduler) and not isinstance(scheduler, type):
        return None
    known = {name.lower(): kind for name, kind in vars(lr_scheduler).items() if _is_kind(kind, base)}
    if isinstance(scheduler, str) and scheduler.lower() in known:
        return known[scheduler.lower()]
    names = [WARMUP_COSINE, *(kind.__name__ for kind in known.values())]
    near = nearest(scheduler, names) if isinstance(scheduler, str) else names[:3]
    raise ValueError(
        f"scheduler must be a class of torch.optim.lr_scheduler or its name, {WARMUP_COSINE!r}, a function of an "
        f"optimiser, or None, got {scheduler!r}; nearest: {near}"
    )


def _is_kind(value: Any, base: Any) -> bool:
    return isinstance(value, type) and issubclass(value, base) and value.__name__ not in _BASES


def _params(params: Any) -> dict[str, Any]:
    return dict(params or {})


def _is_rate(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) < float("inf")


def _rate_mistakes(rates: Any) -> list[str]:
    if rates is None:
        return []
    if not isinstance(rates, Mapping) or not rates:
        return [f'learning_rates must be a dict such as {{"layer4": 1e-4, "new": 1e-2, "*": 1e-5}}, got {rates!r}']
    wrong = {name: rate for name, rate in rates.items() if not _is_rate(rate)}
    mistakes = [f"learning rates must be numbers of at least 0 (0 freezes), got {wrong}"] if wrong else []
    strange = [name for name in rates if not isinstance(name, (str, type))]
    return mistakes + [f"learning_rates names layers, types, 'new', 'transferred' or '*', got {n!r}" for n in strange]

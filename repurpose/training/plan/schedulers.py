"""Schedulers of torch.optim are given by name or class; the default schedule is a warm-up and then a half cosine.

How many steps there will be is known beforehand, so that schedules end where training ends.
"""

import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, TypeAlias

from torch.optim import Optimizer, lr_scheduler

from model_handler.errors import ModelError, nearest
from repurpose.training.plan.optimizers import OptimizerChoice, Params, trial_optimizer

__all__ = [
    "Scheduler",
    "SchedulerChoice",
    "make_scheduler",
    "scheduler_mistakes",
    "step_epoch",
    "steps_each_batch",
    "warmup_cosine",
]

Scheduler: TypeAlias = lr_scheduler.LRScheduler | lr_scheduler.ReduceLROnPlateau
SchedulerChoice: TypeAlias = str | type[Scheduler] | Callable[..., Scheduler] | None

WARMUP_COSINE = "warmup_cosine"
_WARMUP = 0.1  # of all steps
_TRIAL_EPOCHS = 1000  # of the training of one weight, by which torch judges the parameters
_EACH_BATCH = (lr_scheduler.OneCycleLR, lr_scheduler.CyclicLR)


def make_scheduler(
    optimizer: Optimizer, scheduler: SchedulerChoice, params: Params, *, num_epochs: int, steps_per_epoch: int
) -> Scheduler | None:
    """Make the scheduler of an optimiser that takes `steps_per_epoch` steps in each epoch."""
    total, given = steps_per_epoch * num_epochs, dict(params or {})
    if scheduler is None:
        return None
    if scheduler == WARMUP_COSINE:
        return lr_scheduler.LambdaLR(optimizer, warmup_cosine(total, **given))
    kind = _scheduler_class(scheduler)
    if kind is None:
        made = scheduler(optimizer, **given)  # type: ignore[operator]  # a function: `_scheduler_class` has no class
        if not callable(getattr(made, "step", None)):
            raise TypeError(f"scheduler must make a scheduler of torch.optim of an optimiser, but gave {made!r}")
        return made
    known = inspect.signature(kind).parameters
    if issubclass(kind, lr_scheduler.OneCycleLR):
        rates = [group["lr"] for group in optimizer.param_groups]
        given = {"max_lr": rates, "total_steps": total, **given}
    elif "T_max" in known:
        given = {"T_max": num_epochs, **given}
    elif issubclass(kind, lr_scheduler.PolynomialLR):
        given = {"total_iters": num_epochs, **given}
    made = kind(optimizer, **given)
    if isinstance(made, lr_scheduler.OneCycleLR) and made.total_steps < total:
        raise ModelError(
            f"OneCycleLR ends after {made.total_steps} steps, and training takes {total}; leave its length out"
        )
    return made


def steps_each_batch(scheduler: Scheduler) -> bool:
    """Tell whether a scheduler moves on with each step of the optimiser rather than with each epoch."""
    own = isinstance(scheduler, lr_scheduler.LambdaLR) and any(
        getattr(factor, "by_step", False) for factor in scheduler.lr_lambdas
    )
    return own or isinstance(scheduler, _EACH_BATCH)


def step_epoch(scheduler: Scheduler, score: float) -> None:
    """Move the scheduler on after an epoch of this validation loss, or of this training loss without validation."""
    if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
        scheduler.step(score)
    else:
        scheduler.step()


def warmup_cosine(n_steps: int, warmup: float = _WARMUP, final: float = 0.0) -> Callable[[int], float]:
    """Return the factor of every learning rate at each step, from 0 on.

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


def scheduler_mistakes(
    scheduler: object, params: object, optimizer: OptimizerChoice, optimizer_params: Params
) -> list[str]:
    """List what is wrong with the scheduler and its parameters, for an optimiser of this kind."""
    if params is not None and not isinstance(params, Mapping):
        return [f"scheduler_params must be a dict, got {params!r}"]
    given = dict(params or {})
    if scheduler is None:
        return ["scheduler_params are given without a scheduler"] if given else []
    if scheduler == WARMUP_COSINE:
        return _mistakes_in_warmup_cosine(given)
    try:
        kind = _scheduler_class(scheduler)
    except ValueError as error:
        return [str(error)]
    if kind is None:
        return []
    parameters = inspect.signature(kind).parameters
    filled = ("optimizer", "T_max", *(("max_lr",) if issubclass(kind, lr_scheduler.OneCycleLR) else ()))
    missing = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty and name not in (*given, *filled)
    ]
    hint = "; a function makes one: scheduler=lambda optimizer: ..." if "schedulers" in missing else ""
    mistakes = [
        f"{kind.__name__} has no parameter {name!r}; nearest: {nearest(str(name), parameters)}"
        for name in given
        if name not in parameters
    ] + [f"{kind.__name__} needs scheduler_params[{name!r}]{hint}" for name in missing]
    return mistakes or _objections_of_scheduler(kind, given, optimizer, optimizer_params)


def _mistakes_in_warmup_cosine(given: Mapping[str, object]) -> list[str]:
    known = ["warmup", "final"]
    wrong = [name for name in known if name in given and not _is_share(given[name])]
    return [
        f"the schedule {WARMUP_COSINE!r} has no parameter {name!r}; it has {known}"
        for name in given
        if name not in known
    ] + [f"scheduler_params[{name!r}] must be a share from 0 to 1, got {given[name]!r}" for name in wrong]


def _objections_of_scheduler(
    kind: type[Scheduler], given: Mapping[str, Any], optimizer: OptimizerChoice, optimizer_params: Params
) -> list[str]:
    """Return what the scheduler says to its parameters, asked to take a step for a network of one weight.

    It is not asked where there are lists, which may have a number for each group.
    """
    if any(isinstance(value, (list, tuple)) for value in given.values()):
        return []
    try:
        of_one_weight = trial_optimizer(optimizer, optimizer_params)
    except Exception:  # told of already
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that no step of the optimiser came first
            made = make_scheduler(of_one_weight, kind, given, num_epochs=_TRIAL_EPOCHS, steps_per_epoch=1)
            if made is not None:
                step_epoch(made, 1.0)
    except Exception as error:
        return [f"{kind.__name__} does not take scheduler_params={dict(given)!r}: {error}"]
    return []


def _scheduler_class(scheduler: object) -> type[Any] | None:
    """Find the class that is meant; None for a function that makes a scheduler of an optimiser."""
    base = (lr_scheduler.LRScheduler, lr_scheduler.ReduceLROnPlateau)
    if isinstance(scheduler, type) and issubclass(scheduler, base):
        return scheduler
    if callable(scheduler) and not isinstance(scheduler, type):
        return None
    known = {
        name.lower(): kind
        for name, kind in vars(lr_scheduler).items()
        if isinstance(kind, type) and issubclass(kind, base) and kind.__name__ not in ("LRScheduler", "_LRScheduler")
    }
    if isinstance(scheduler, str) and scheduler.lower() in known:
        return known[scheduler.lower()]
    names = [WARMUP_COSINE, *(kind.__name__ for kind in known.values())]
    near = nearest(scheduler, names) if isinstance(scheduler, str) else names[:3]
    raise ValueError(
        f"scheduler must be a class of torch.optim.lr_scheduler or its name, {WARMUP_COSINE!r}, a function of an "
        f"optimiser, or None, got {scheduler!r}; nearest: {near}"
    )


def _is_share(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) <= 1

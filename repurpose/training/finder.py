"""The learning-rate finder takes steps at ever higher rates, which show where learning begins and where it diverges.

Smith (2017), arXiv:1506.01186. Every group keeps its share of the highest rate, and everything that the steps move is
put back: weights, buffers, gradients, modes, and all generators of random numbers, that of a DataLoader too.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from numbers import Real

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from repurpose.parameters import is_whole
from repurpose.training.callbacks import Callback
from repurpose.training.loop import train
from repurpose.training.plan.groups import make_groups
from repurpose.training.rate_search import RateSearch
from repurpose.training.state import TrainingState, load_states, states_of
from repurpose.training.steps.objective import DivergedError
from repurpose.training.task import Task

__all__ = ["find_learning_rate"]

_WIDTH = 3.0  # of the smoothing of losses, in steps
_HOPELESS = 4.0  # how many times the lowest mean loss of some steps ends the search
_FEWEST = 5  # steps in such a mean, and for a suggestion


def find_learning_rate(task: Task, *, lowest: float = 1e-6, highest: float = 1.0, n_steps: int = 100) -> RateSearch:
    """Take `n_steps` steps of the plan's optimiser at rates rising from `lowest` to `highest`; all is put back after.

    The search ends early where the loss is not finite, or four times the lowest (means of five steps). No callback is
    called, nothing is evaluated, and layers that a plan would let learn later learn at once. Raises ModelError as
    `train` does, and DivergedError if the first step has no finite loss.
    """
    _check_span(lowest, highest, n_steps)
    plain = replace(task.plan, ema=None, unfreeze=None, probe_epochs=0, scheduler_params=None)
    groups = make_groups(task.module, plain, task.new, task.blocks)
    fastest = max(group.learning_rate for group in groups)
    rates = np.geomspace(lowest, highest, n_steps)
    seen = _Losses(n_steps)
    n_steps_an_epoch = math.ceil(task.batches.n_batches / task.plan.accumulation)
    plain = replace(
        plain,
        num_epochs=math.ceil(n_steps / n_steps_an_epoch),
        scheduler=lambda optimizer: LambdaLR(optimizer, _factors(rates / fastest)),
        early_stopping=None,
        callbacks=(seen,),
    )
    search = replace(task, plan=plain, groups=groups, evaluation=None)
    with _put_back(task), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the loss became NaN", category=UserWarning)
        try:
            train(search)
        except DivergedError:
            if not seen.losses:
                raise
    shares: dict[str, float] = {}
    for group in groups:
        shares[group.name] = max(group.learning_rate / fastest, shares.get(group.name, 0.0))
    smoothed, reached = _smooth(seen.losses), rates[: len(seen.losses)]
    return RateSearch(reached, np.array(seen.losses), smoothed, _steepest(reached, smoothed), shares)


@contextmanager
def _put_back(task: Task) -> Iterator[None]:
    """Leave all that training moves as it is before this block.

    That is weights, buffers, gradients, what learns and what is held in evaluation mode, the generators of the data,
    and what the method saves.
    """
    module, stateful = task.module, {"": task.batches, **task.saved}
    states = states_of(stateful)
    tensors = {name: tensor.detach().clone() for name, tensor in _tensors(module)}
    learned = [(parameter, parameter.requires_grad, parameter.grad) for parameter in module.parameters()]
    modes = [(part, part.training, part.__dict__.get("train")) for part in module.modules()]
    try:
        yield
    finally:
        with torch.no_grad():
            for name, tensor in _tensors(module):
                tensor.copy_(tensors[name])
        for parameter, learns, gradient in learned:
            parameter.requires_grad_(learns).grad = gradient
        for part, training, own_train in modes:
            part.__dict__.pop("train", None)
            if own_train is not None:
                part.__dict__["train"] = own_train
            part.training = training
        load_states(stateful, states)


def _tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters()
    yield from ((f"{name}#", buffer) for name, buffer in module.named_buffers())


class _Losses(Callback):
    """Notes the loss of each step, and ends training after `n_steps` or when there is no more to see."""

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps
        self.losses: list[float] = []
        self.lowest = math.inf

    def begin(self, state: TrainingState) -> None:
        self.losses, self.lowest = [], math.inf  # begun again, where memory did not suffice

    def step(self, state: TrainingState, loss: float) -> bool:
        self.losses.append(loss)
        recent = float(np.mean(self.losses[-_FEWEST:]))
        self.lowest = min(self.lowest, recent)
        hopeless = len(self.losses) >= _FEWEST and recent > _HOPELESS * self.lowest
        return hopeless or len(self.losses) >= self.n_steps


def _factors(factors: np.ndarray) -> Callable[[int], float]:
    """Return the factor of every learning rate at each step, as a schedule that moves on with each."""

    def factor(step: int) -> float:
        return float(factors[min(step, len(factors) - 1)])

    factor.by_step = True  # type: ignore[attr-defined]
    return factor


def _smooth(losses: list[float]) -> np.ndarray:
    """Average losses with those before and after, by normal weights: a mean of past ones alone would lag behind."""
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(np.array(losses), _WIDTH, mode="nearest")


def _steepest(rates: np.ndarray, smoothed: np.ndarray) -> float | None:
    """Find the rate before the lowest loss at which it falls most steeply; None if it never does."""
    end = int(smoothed.argmin()) + 1
    if end < _FEWEST:
        return None
    slopes = np.gradient(smoothed[:end], np.log(rates[:end]))
    return float(rates[slopes.argmin()]) if slopes.min() < 0 else None


def _check_span(lowest: object, highest: object, n_steps: object) -> None:
    rates = [float(rate) for rate in (lowest, highest) if isinstance(rate, Real) and not isinstance(rate, bool)]
    if len(rates) < 2 or not 0 < rates[0] < rates[1] < math.inf:
        raise ValueError(f"lowest and highest must be rates, 0 < lowest < highest, got {lowest!r} and {highest!r}")
    if not is_whole(n_steps, _FEWEST):
        raise ValueError(f"n_steps must be a whole number of at least {_FEWEST}, got {n_steps!r}")

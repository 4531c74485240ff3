"""The learning-rate finder: some steps at ever higher rates, from which one sees where learning begins and diverges.

Smith (2017), arXiv:1506.01186. Every group keeps its share of the highest rate, and everything that the steps move is
put back: weights, buffers, gradients, modes, and all generators of random numbers, that of a DataLoader too.
"""

import math
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from model_handler.data import unmoved_generators
from repurpose.parameters import is_whole
from repurpose.training.callbacks import Callback
from repurpose.training.data.batches import TrainingBatches
from repurpose.training.loop import train
from repurpose.training.plan.groups import make_groups
from repurpose.training.plan.plan import TrainingPlan
from repurpose.training.state import TrainingState
from repurpose.training.steps.objective import DivergedError, Objective

__all__ = ["RateSearch", "find_learning_rate"]

_WIDTH = 3.0  # of the smoothing of losses, in steps
_HOPELESS = 4.0  # how many times the lowest mean loss of some steps ends the search
_FEWEST = 5  # steps in such a mean, and for a suggestion


@dataclass(frozen=True, eq=False)
class RateSearch:
    """What a search for a learning rate saw.

    Attributes
    ----------
    rates, losses : ndarray of shape (n_steps,)
        The rate of the fastest group in each step, rising, and the loss before that step.
    smoothed : ndarray of shape (n_steps,)
        The losses averaged with those of the steps before and after.
    suggestion : float or None
        The rate at which the smoothed loss falls most steeply over the logarithm of the rate; None where it never
        falls. It is a place to begin, not an optimum: other groups, longer training and schedules move the best one.
    shares : dict of str to float
        The rate of each group beside that of the fastest.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import NeuralNetworkFineTuneRepurposer
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> search = NeuralNetworkFineTuneRepurposer(network, "1").find_learning_rate(make_blobs(30), n_steps=20)
    >>> search.shares
    {'transferred': 0.1, 'new': 1.0}
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float | None
    shares: dict[str, float]

    @property
    def learning_rates(self) -> dict[str, float]:
        """The suggested rate of each group; empty without a suggestion."""
        return {} if self.suggestion is None else {name: self.suggestion * share for name, share in self.shares.items()}

    def plot(self, ax: Any = None) -> Any:
        """Loss by learning rate; see `repurpose.plots.plot_rate_search`."""
        from repurpose.plots import plot_rate_search

        return plot_rate_search(self, ax=ax)

    def __repr__(self) -> str:
        found = "no rate at which the loss falls" if self.suggestion is None else f"suggestion {self.suggestion:.2g}"
        return f"RateSearch({found}; {len(self.rates)} steps from {self.rates[0]:.2g} to {self.rates[-1]:.2g})"


def find_learning_rate(
    module: nn.Module,
    batches: TrainingBatches,
    plan: TrainingPlan,
    objective: Objective,
    *,
    new: Collection[str] = (),
    lowest: float = 1e-6,
    highest: float = 1.0,
    n_steps: int = 100,
) -> RateSearch:
    """Take `n_steps` steps of the plan's optimiser at rates rising from `lowest` to `highest`; all is put back after.

    The search ends early where the loss is no finite number, or four times the lowest (means of five steps). No
    callback is called, and layers that a plan would let learn later learn at once. Arguments as in `train`. Raises
    ModelError as `train` does, and DivergedError if the first step has no finite loss.
    """
    _check_span(lowest, highest, n_steps)
    plain = replace(plan, ema=None, unfreeze=None, probe_epochs=0, scheduler_params=None)
    groups = make_groups(module, plain, new)
    fastest = max(group.learning_rate for group in groups)
    rates = np.geomspace(lowest, highest, n_steps)
    seen = _Losses(n_steps)
    per_epoch = math.ceil(batches.n_batches / plan.accumulation)
    plain = replace(
        plain,
        num_epochs=math.ceil(n_steps / per_epoch),
        scheduler=lambda optimizer: LambdaLR(optimizer, _factors(rates / fastest)),
        early_stopping=None,
        callbacks=(seen,),
    )
    with _put_back(module), unmoved_generators(batches.data), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the loss became NaN", category=UserWarning)
        try:
            train(module, batches, plain, objective, new=new)
        except DivergedError:
            if not seen.losses:
                raise
    shares: dict[str, float] = {}
    for group in groups:
        shares[group.name] = max(group.learning_rate / fastest, shares.get(group.name, 0.0))
    smoothed, reached = _smooth(seen.losses), rates[: len(seen.losses)]
    return RateSearch(reached, np.array(seen.losses), smoothed, _steepest(reached, smoothed), shares)


@contextmanager
def _put_back(module: nn.Module) -> Iterator[None]:
    """Weights, buffers, gradients, what learns and what is held in evaluation mode, as before this block."""
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


def _tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters()
    yield from ((f"{name}#", buffer) for name, buffer in module.named_buffers())


class _Losses(Callback):
    """The loss of each step; ends training after `n_steps`, or when there is no more to see."""

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
    """The factor of every learning rate at each step, as a schedule that moves on with each."""

    def factor(step: int) -> float:
        return float(factors[min(step, len(factors) - 1)])

    factor.by_step = True  # type: ignore[attr-defined]
    return factor


def _smooth(losses: list[float]) -> np.ndarray:
    """Losses averaged with those before and after, by normal weights: a mean of past ones alone would lag behind."""
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(np.array(losses), _WIDTH, mode="nearest")


def _steepest(rates: np.ndarray, smoothed: np.ndarray) -> float | None:
    """The rate before the lowest loss at which it falls most steeply; None if it never does."""
    end = int(smoothed.argmin()) + 1
    if end < _FEWEST:
        return None
    slopes = np.gradient(smoothed[:end], np.log(rates[:end]))
    return float(rates[slopes.argmin()]) if slopes.min() < 0 else None


def _check_span(lowest: Any, highest: Any, n_steps: Any) -> None:
    numbers = all(isinstance(one, Real) and not isinstance(one, bool) for one in (lowest, highest))
    if not numbers or not 0 < lowest < highest < math.inf:
        raise ValueError(f"lowest and highest must be rates, 0 < lowest < highest, got {lowest!r} and {highest!r}")
    if not is_whole(n_steps, _FEWEST):
        raise ValueError(f"n_steps must be a whole number of at least {_FEWEST}, got {n_steps!r}")

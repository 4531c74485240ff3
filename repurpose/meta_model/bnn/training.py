"""Training raises the evidence lower bound by Adam, while the weight of its divergence rises from 0."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from threading import RLock
from typing import Any

import numpy as np
import torch
from pyro import poutine
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor

from repurpose.meta_model.bnn.program import BayesianNetwork
from repurpose.threads import threads_for

__all__ = ["Schedule", "bound", "train"]

# pyro keeps the handlers that are at work in one list for all threads.
_ONE_AT_A_TIME = RLock()


@dataclass(frozen=True)
class Schedule:
    """How a network is trained.

    Attributes
    ----------
    n_epochs, batch_size, n_particles : int
        `n_particles` draws of the outputs are averaged in each step of `batch_size` rows.
    learning_rate : float
        The learning rate of the first step; it falls to 0 by a cosine.
    start, end : int
        Epochs between which the weight of the divergence rises evenly from 0 to `kl_weight`.
    kl_weight : float
    """

    n_epochs: int
    batch_size: int
    n_particles: int
    learning_rate: float
    start: int
    end: int
    kl_weight: float

    def kl_weight_of(self, epoch: int) -> float:
        """Return the weight during an epoch, counted from 0; after `end` epochs it has risen."""
        risen = (epoch + 1 - self.start) / max(1, self.end - self.start)
        return self.kl_weight * min(1.0, max(0.0, risen))


def train(
    network: BayesianNetwork,
    rows: Tensor,
    codes: Tensor,
    row_weights: Tensor,
    schedule: Schedule,
    repeats: Tensor | None = None,
) -> dict[str, np.ndarray]:
    """Train the network in place; the history: ``"loss"``, ``"accuracy"`` and ``"kl_weight"`` of each epoch.

    The loss is the negative bound with that weight, in nats a row; the accuracy is that of the draws it was computed
    from. Rows whose weight is 0 are left out. Weights may hold those of classes; `repeats` tells how many rows each is.
    Raises ValueError where the numbers do not stay finite.
    """
    counted = row_weights > 0
    rows, codes, row_weights = rows[counted], codes[counted], row_weights[counted]
    repeats = None if repeats is None else repeats[counted].double()
    n_counted = len(rows) if repeats is None else float(repeats.sum())
    for tensor in network.learned:
        tensor.requires_grad_(True)
    optimizer = torch.optim.Adam(network.learned, lr=schedule.learning_rate, betas=(0.9, 0.99))
    n_steps = schedule.n_epochs * math.ceil(len(rows) / schedule.batch_size)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 + 0.5 * math.cos(math.pi * step / n_steps))
    history = np.zeros((schedule.n_epochs, 3))
    n_at_once = min(len(rows), schedule.batch_size)
    with _ONE_AT_A_TIME, threads_for(n_at_once), poutine.block(), torch.enable_grad():
        for epoch in range(schedule.n_epochs):
            kl_weight = schedule.kl_weight_of(epoch)
            for chosen in _batches(len(rows), schedule.batch_size, network.generator):
                # A batch stands for all rows, or the divergence would count once a batch.
                scales = row_weights[chosen] * (len(rows) / len(chosen))
                arguments = (rows[chosen], codes[chosen], scales, kl_weight)
                of_chosen = None if repeats is None else repeats[chosen]
                loss, n_right = bound(network, arguments, schedule.n_particles, of_chosen)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                decay.step()
                history[epoch] += float(loss.detach()) * len(chosen) / len(rows), n_right, 0
            history[epoch] = *(history[epoch, :2] / n_counted), kl_weight
            _refuse_overflow(history[epoch], network, epoch, schedule.learning_rate)
    for tensor in network.learned:
        tensor.requires_grad_(False)
    return dict(zip(("loss", "accuracy", "kl_weight"), np.ascontiguousarray(history.T)))


def bound(
    network: BayesianNetwork,
    arguments: tuple[Tensor, Tensor, Tensor, float],
    n_particles: int,
    repeats: Tensor | None = None,
) -> tuple[Tensor, float]:
    """Compute the negative bound, with gradients, and how many rows, each `repeats` times, draws get right on average.

    `arguments` are those of `BayesianNetwork.program`.
    """
    logits = []

    def program(*arguments: Any) -> None:
        # pyro gives back the loss alone; the draws that it is computed from are caught on their way.
        logits.append(network.program(*arguments).detach())

    elbo = TraceMeanField_ELBO(num_particles=n_particles, max_plate_nesting=1)
    loss = elbo.differentiable_loss(program, network.guide, *arguments)
    right = torch.stack(logits).argmax(dim=-1) == arguments[1]
    n_right = right.sum() if repeats is None else (right * repeats).sum()
    return loss, float(n_right) / n_particles


def _refuse_overflow(measures: np.ndarray, network: BayesianNetwork, epoch: int, learning_rate: float) -> None:
    learned = (*network.means, *network.deviations, network.intercepts)
    if not np.isfinite(measures).all() or not all(tensor.isfinite().all() for tensor in learned):
        raise ValueError(
            f"training came to numbers that are not finite in epoch {epoch + 1}, with a learning_rate of "
            f"{learning_rate:g}; use a smaller one, such as 0.01, or a sigma nearer to 1 where one is given"
        )


def _batches(n_rows: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Return all rows in batches, shuffled where there is more than one."""
    if n_rows <= size:
        return iter([torch.arange(n_rows)])
    return iter(torch.randperm(n_rows, generator=generator).split(size))

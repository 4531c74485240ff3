"""A training by hand and the same by `train`: what the measurements of fine-tuning put side by side."""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repurpose import NeuralNetworkRepurposer
from repurpose.training.data.batches import TrainingBatches
from repurpose.training.loop import train
from repurpose.training.plan.groups import make_groups
from repurpose.training.plan.plan import TrainingPlan
from repurpose.training.steps.forward import call
from repurpose.training.steps.losses import cross_entropy
from repurpose.training.steps.objective import ClassificationObjective
from repurpose.training.task import Task

__all__ = ["N_CLASSES", "Job", "furthest", "ours", "plain_loop"]

N_CLASSES = 10
LEARNING_RATE = 0.01


@dataclass(frozen=True, eq=False)
class Job:
    """A network, of which a part may be frozen, and what to train it on; the classes follow each other."""

    network: nn.Module
    images: Tensor
    batch_size: int
    n_epochs: int

    @property
    def codes(self) -> np.ndarray:
        """The class of each image."""
        return np.arange(len(self.images)) % N_CLASSES

    def batches(self) -> TrainingBatches:
        """The rows in an order that the seed gives each epoch."""
        n_rows = len(self.images)
        return TrainingBatches(
            (self.images, self.codes),
            np.arange(N_CLASSES),
            rows=np.arange(n_rows),
            n_rows=n_rows,
            max_batch_size=self.batch_size,
            seed=0,
            batch_size=self.batch_size,
        )


def plain_loop(job: Job) -> nn.Module:
    """What a user would write."""
    network = copy.deepcopy(job.network)
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=LEARNING_RATE, momentum=0.9)
    codes, batches = torch.from_numpy(job.codes), job.batches()
    for epoch in range(job.n_epochs):
        network.train()  # what is frozen stays in evaluation mode
        for numbers in torch.from_numpy(batches.order(epoch)).split(job.batch_size):
            loss = F.cross_entropy(network(job.images[numbers]), codes[numbers])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


def ours(job: Job, **options: Any) -> nn.Module:
    """The same through `train`; `options` are further ones of its plan."""
    network = copy.deepcopy(job.network)
    how = NeuralNetworkRepurposer(
        network,
        num_epochs=job.n_epochs,
        optimizer="SGD",
        optimizer_params={"momentum": 0.9},
        learning_rates={"*": LEARNING_RATE},
        scheduler=None,
        norm_statistics="batch",
        verbose=False,
        **options,
    )
    plan, batches = TrainingPlan(**how._plan_values(), seed=0), job.batches()
    objective = ClassificationObjective(
        lambda module, inputs, targets: cross_entropy(call(module, inputs), targets), N_CLASSES
    )
    train(Task(network, plan, make_groups(network, plan, ()), (), batches, objective))
    return network


def furthest(network: nn.Module, other: nn.Module) -> float:
    """The largest difference of a tensor of two networks, in norm, beside that of the other's."""
    theirs = other.state_dict()
    pairs = [(tensor.double(), theirs[name].double()) for name, tensor in network.state_dict().items()]
    return max(float((mine - other).norm() / other.norm().clamp(min=1e-12)) for mine, other in pairs)

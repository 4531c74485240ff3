"""What computing the frozen part once is worth, beside a loop written by hand.

The plain loop is what a user would write: the same network, optimiser, batches and order, with `requires_grad=False`
and evaluation mode for what is frozen. Both sides pay for all that they need; ours traces, decides and extracts within
its time.
"""

import copy
import statistics
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from benchmarks.timing import interleaved, median_ratio, print_table
from model_handler import ModelHandler
from repurpose.training.batches import TrainingBatches
from repurpose.training.loop import train
from repurpose.training.losses import cross_entropy
from repurpose.training.objective import Objective
from repurpose.training.plan import TrainingPlan

N_IMAGES, N_CLASSES, BATCH_SIZE, N_EPOCHS = 128, 10, 32, 10
LEARNING_RATE = 0.01


@dataclass(frozen=True, eq=False)
class Job:
    """A network of which a part is frozen, and what to train it on."""

    network: nn.Module
    images: Tensor
    codes: np.ndarray

    def batches(self) -> TrainingBatches:
        """The rows in an order that the seed gives each epoch."""
        n_rows = len(self.images)
        return TrainingBatches(
            (self.images, self.codes),
            np.arange(N_CLASSES),
            rows=np.arange(n_rows),
            n_rows=n_rows,
            n_batches=-(-n_rows // BATCH_SIZE),
            most=BATCH_SIZE,
            seed=0,
            batch_size=BATCH_SIZE,
        )


def head_only(runs: int) -> None:
    """Only the new head of a ResNet-18 learns."""
    _frozen(runs, "head only", up_to="avgpool")


def last_stage(runs: int) -> None:
    """The last stage of a ResNet-18 and the new head learn."""
    _frozen(runs, "last stage and head", up_to="layer3")


def _frozen(runs: int, what: str, up_to: str) -> None:
    """The plain loop beside ours, and how far apart they end."""
    job = _job(up_to)
    sides = {"plain": lambda: plain_loop(job), "ours": lambda: ours(job), "unfolded": lambda: ours(job, folded=False)}
    seconds = interleaved(sides, runs)
    plain = plain_loop(job)
    rows = [
        [
            name,
            f"{statistics.median(times):.1f}",
            f"{median_ratio(seconds['plain'], times):.2f}",
            f"{furthest(side(), plain):.1e}",
        ]
        for (name, times), side in zip(seconds.items(), sides.values())
    ]
    n_rows = f"{N_EPOCHS} epochs of {N_IMAGES} images at 224 x 224, batches of {BATCH_SIZE}"
    print(f"\nresnet18, {what}: {n_rows}; medians of {runs} interleaved runs")
    print_table(["side", "seconds", "times as fast", "largest difference of a tensor, in norm"], rows)


def _job(up_to: str) -> Job:
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None, num_classes=N_CLASSES)
    images = torch.randn(N_IMAGES, 3, 224, 224)
    module = ModelHandler(network, device="cpu").freeze(up_to=up_to).get_module()
    return Job(module, images, np.arange(N_IMAGES) % N_CLASSES)


def plain_loop(job: Job) -> nn.Module:
    """What a user would write."""
    network = copy.deepcopy(job.network)
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=LEARNING_RATE, momentum=0.9)
    codes, batches = torch.from_numpy(job.codes), job.batches()
    for epoch in range(N_EPOCHS):
        network.train()  # what is frozen stays in evaluation mode
        for numbers in torch.from_numpy(batches.order(epoch)).split(BATCH_SIZE):
            loss = F.cross_entropy(network(job.images[numbers]), codes[numbers])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


def ours(job: Job, *, folded: bool = True) -> nn.Module:
    """The same through `train`."""
    network = copy.deepcopy(job.network)
    plan = TrainingPlan(
        num_epochs=N_EPOCHS,
        optimizer="SGD",
        optimizer_params={"lr": LEARNING_RATE, "momentum": 0.9},
        scheduler=None,
        cache_frozen={"folded": folded},
        verbose=False,
    )
    new = [name for name, parameter in network.named_parameters() if parameter.requires_grad]  # one rate for all
    objective = Objective(lambda module, inputs, targets: cross_entropy(module(*inputs), targets), N_CLASSES)
    train(network, job.batches(), plan, objective, new=new)
    return network


def furthest(network: nn.Module, other: nn.Module) -> float:
    """The largest difference of a tensor of two networks, in norm, beside that of the other's."""
    theirs = other.state_dict()
    pairs = [(tensor.double(), theirs[name].double()) for name, tensor in network.state_dict().items()]
    return max(float((mine - other).norm() / other.norm().clamp(min=1e-12)) for mine, other in pairs)

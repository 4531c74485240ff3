"""What computing the frozen part once is worth, beside a loop written by hand.

The plain loop is what a user would write: the same network, optimiser, batches and order, with `requires_grad=False`
and evaluation mode for what is frozen. Both sides pay for all that they need; ours traces, decides and extracts within
its time.
"""

import statistics
from collections.abc import Callable
from functools import partial

import torch
import torchvision
from torch import Tensor, nn

from benchmarks.loops import N_CLASSES, Job, furthest, ours, plain_loop
from benchmarks.timing import interleaved, median_ratio, print_table
from model_handler import ModelHandler

N_IMAGES, BATCH_SIZE, N_EPOCHS = 128, 32, 10


def head_only(runs: int) -> None:
    """Only the new head of a ResNet-18 learns."""
    _frozen(runs, "head only", up_to="avgpool")


def last_stage(runs: int) -> None:
    """The last stage of a ResNet-18 and the new head learn."""
    _frozen(runs, "last stage and head", up_to="layer3")


def _frozen(runs: int, what: str, up_to: str) -> None:
    """The plain loop beside ours, and how far apart they end."""
    job = _job(up_to)
    sides = {
        "plain": lambda: plain_loop(job),
        "ours": lambda: ours(job),
        "unfolded": lambda: ours(job, cache_frozen={"folded": False}),
    }
    trained: dict[str, nn.Module] = {}
    seconds = interleaved({name: partial(_keep, trained, name, side) for name, side in sides.items()}, runs)
    rows = [
        [
            name,
            f"{statistics.median(times):.1f}",
            f"{median_ratio(seconds['plain'], times):.2f}",
            f"{furthest(trained[name], trained['plain']):.1e}",
        ]
        for name, times in seconds.items()
    ]
    n_rows = f"{N_EPOCHS} epochs of {N_IMAGES} images at 224 x 224, batches of {BATCH_SIZE}"
    print(f"\nresnet18, {what}: {n_rows}; medians of {runs} interleaved runs", flush=True)
    print_table(["side", "seconds", "times as fast", "largest difference of a tensor, in norm"], rows)


def _job(up_to: str) -> Job:
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None, num_classes=N_CLASSES)
    images = torch.randn(N_IMAGES, 3, 224, 224)
    _settle(network, images[:BATCH_SIZE])
    module = ModelHandler(network, device="cpu").freeze(up_to=up_to).get_module()
    return Job(module, images, BATCH_SIZE, N_EPOCHS)


def _keep(trained: dict[str, nn.Module], name: str, side: Callable[[], nn.Module]) -> None:
    trained[name] = side()


@torch.no_grad()
def _settle(network: nn.Module, images: Tensor) -> None:
    """Give BatchNorm the statistics of some images: with those it begins with, activations grow from block to block."""
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    network.train()(images)
    for norm in norms:
        norm.momentum = 0.1
    network.eval()

"""What computing the frozen part once is worth, beside a loop written by hand.

The plain loop is what a user would write: the same network, optimiser, batches and order, with `requires_grad=False`
and evaluation mode for what is frozen. Both sides pay for all that they need; ours traces, decides and extracts within
its time.
"""

import statistics

import torch
import torchvision

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
    return Job(module, images, BATCH_SIZE, N_EPOCHS)

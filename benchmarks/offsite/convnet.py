"""ConvNet: EfficientNet-Lite0, trained on ImageNet, learns the digits of scikit-learn, 10 labels a class.

The emulator is distilled on rendered letters and line drawings, as there is no ImageNet here.
"""

from collections.abc import Mapping
from pathlib import Path

import torch

from benchmarks.adapters.cells import Cell
from benchmarks.adapters.convnet import BATCH_SIZE, LAYER, N_EPOCHS, NETWORK, PRETUNED_ON, draw, images_of, missing
from benchmarks.offsite.sides import KINDS, UNTRAINED, Task
from benchmarks.offsite.sides import examine as examine_task

__all__ = ["HEADS", "NAME", "RATES", "examine", "kinds", "missing"]

NAME = "convnet"
RATES = (1e-3, 3e-3, 1e-2)
HEADS = UNTRAINED
ADAPTER, EMULATOR, DISTILL_STEPS = (4, 4), 4, 500


def kinds() -> list[str]:
    """List what is compared."""
    return list(KINDS)


def examine(cell: Cell, folder: Path) -> Mapping[str, float]:
    """Train on a draw of few images and measure on others; by those learning rates are not chosen."""
    return examine_task(cell, _task(), *draw("digits", cell.seed), folder)


def _task() -> Task:
    images = torch.cat([images_of(task)[0] for task in PRETUNED_ON])
    options = {"num_epochs": N_EPOCHS, "batch_size": BATCH_SIZE}
    return Task(NAME, NETWORK, ADAPTER, EMULATOR, images[:2], images, DISTILL_STEPS, (LAYER, LAYER), options)

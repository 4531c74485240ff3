"""Transfer: what the ImageNet weights of a backbone are worth to a detector, beside random ones at as many steps."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.adapters.cells import Cell
from benchmarks.detection.scenes import LEARNED, OTHERS, write_scenes
from model_handler import load_source
from repurpose.detection import DetectionRepurposer, VocFolderData

__all__ = [
    *(
        "BATCH_SIZE",
        "CHANNELS",
        "KINDS",
        "NAME",
        "N_LEARNED",
        "N_OTHERS",
        "N_STEPS",
        "PRETRAINED",
        "RANDOM",
        "RATES",
        "SIDES",
    ),
    "examine",
]

NAME = "transfer"
PRETRAINED, RANDOM = "ImageNet weights", "random weights"
KINDS = (PRETRAINED, RANDOM)
RATES = (1e-3, 3e-3)
N_LEARNED, N_OTHERS, SIDES = 400, 100, (96, 128)
N_STEPS, BATCH_SIZE, CHANNELS = 500, 8, 64  # the first two as by default


def examine(cell: Cell, folder: Path) -> Mapping[str, float]:
    """Learn the scenes of a seed, and measure on scenes of other digits and other parts of the photographs."""
    root = _scenes(folder, cell.seed)
    detector = DetectionRepurposer(
        **_backbone(cell),
        channels=CHANNELS,
        batch_size=BATCH_SIZE,
        num_epochs=N_STEPS * BATCH_SIZE // N_LEARNED,
        random_state=cell.seed,
        verbose=False,
    )
    start, start_of_process = time.perf_counter(), time.process_time()
    detector.repurpose(VocFolderData(root, LEARNED))
    seconds, of_process = time.perf_counter() - start, time.process_time() - start_of_process
    found = detector.evaluate(VocFolderData(root, OTHERS), n_bootstrap=1)
    loss = detector.history_.records[-1]["loss"]
    return {"ap50": found.ap50, "ap": found.ap, "loss": loss, "seconds": seconds, "of process": of_process}


def _backbone(cell: Cell) -> dict[str, Any]:
    """Give each kind what it needs: random weights learn as fast as new layers, and follow statistics of batches."""
    if cell.kind == PRETRAINED:
        rates = {"new": cell.rate, "transferred": cell.rate / 10}
        return {"source_model": "efficientnet-lite0", "learning_rates": rates}
    torch.manual_seed(cell.seed)
    source = load_source("efficientnet-lite0", pretrained=False)
    return {"source_model": source, "learning_rates": {"*": cell.rate}, "norm_statistics": "batch"}


def _scenes(folder: Path, seed: int) -> Path:
    """Return the folder of the scenes of a seed, and write them before if they are not there."""
    root = folder / f"scenes_{seed}"
    for split, n_images in ((LEARNED, N_LEARNED), (OTHERS, N_OTHERS)):
        if not (root / "ImageSets/Main" / f"{split}.txt").exists():  # written last
            write_scenes(root, split, n_images, seed, SIDES)
    return root

"""Overfitting: eight images, learned by heart, are found again. What goes wrong between boxes and losses shows here."""

import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.adapters.cells import Cell
from benchmarks.detection.scenes import LEARNED, write_scenes
from repurpose.detection import DetectionRepurposer, VocFolderData

__all__ = ["BATCH_SIZE", "KINDS", "NAME", "N_IMAGES", "N_STEPS", "SIDE", "examine"]

NAME = "overfitting"
KINDS = ("fcos", "retinanet")
N_IMAGES, SIDE, N_STEPS, BATCH_SIZE = 8, 128, 400, 4


def examine(cell: Cell) -> Mapping[str, float]:
    """Learn the scenes of a seed, without augmentation and with all defaults, and measure on them."""
    with TemporaryDirectory() as directory:
        write_scenes(Path(directory), LEARNED, N_IMAGES, cell.seed, (SIDE, SIDE))
        data = VocFolderData(directory, LEARNED)
        detector = DetectionRepurposer(
            "efficientnet-lite0",
            detector=cell.kind,
            batch_size=BATCH_SIZE,
            num_epochs=N_STEPS * BATCH_SIZE // N_IMAGES,
            random_state=cell.seed,
            verbose=False,
        )
        start, start_of_process = time.perf_counter(), time.process_time()
        detector.repurpose(data)
        seconds, of_process = time.perf_counter() - start, time.process_time() - start_of_process
        found = detector.evaluate(data, n_bootstrap=1)
    loss = detector.history_.records[-1]["loss"]
    return {"ap50": found.ap50, "ap": found.ap, "loss": loss, "seconds": seconds, "of process": of_process}

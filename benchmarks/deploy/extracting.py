"""One extraction in a process, whose memory is its own: `python -m benchmarks.deploy.extracting OUT N SHARD`.

OUT is the directory of shards, or "memory" for `extract`; it prints seconds of the processor and megabytes as JSON.
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms import ToTensor

from model_handler import ModelHandler, load_source

__all__ = ["LAYER", "Simulated", "extracted", "make_handler"]

LAYER = "_swish@1"  # behind the last convolution: 1,280 channels of 2 x 2 places
_SIZE = 64  # pixels
_MEGABYTE = 2**20 if sys.platform == "darwin" else 2**10  # of what the system counts in


class Simulated(Dataset):
    """So many images of noise in colours of their own, each known by its number, with labels of ten classes."""

    def __init__(self, n_rows: int) -> None:
        self.n_rows = n_rows

    def __len__(self) -> int:
        return self.n_rows

    def __getitem__(self, row: int) -> tuple[Image.Image, int]:
        rng = np.random.default_rng(row)
        pixels = rng.normal(rng.uniform(0, 255, 3), 40, (_SIZE, _SIZE, 3)).clip(0, 255).astype(np.uint8)
        return Image.fromarray(pixels), row % 10


def make_handler() -> ModelHandler:
    """Return the handler of the network, with whatever is made once, on one thread."""
    torch.set_num_threads(1)
    handler = ModelHandler(load_source("efficientnet-lite0").network, transform=ToTensor(), verbose=False)
    handler.extract(Simulated(64), [LAYER])
    return handler


def extracted(out: str, n_rows: int, rows_per_shard: int) -> dict[str, float]:
    """Extract features of simulated images, and return the seconds, and the megabytes before it and at most."""
    handler = make_handler()
    before, started = _peak(), time.process_time()  # others may keep the processor busy
    if out == "memory":
        handler.extract(Simulated(n_rows), [LAYER])
    else:
        handler.extract_to(Path(out), Simulated(n_rows), [LAYER], rows_per_shard=rows_per_shard)
    return {"seconds": time.process_time() - started, "before": before, "peak": _peak()}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MEGABYTE


if __name__ == "__main__":
    print(json.dumps(extracted(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))

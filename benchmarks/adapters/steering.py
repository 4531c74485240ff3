"""Steering: a small ViT that names two digits side by side is asked for the left one alone, from few labels.

What it knows of each digit is there; that only the left one matters has to be learned.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from torch import nn

from benchmarks.adapters.cells import Cell
from benchmarks.adapters.methods import (
    LEARNED,
    LEFT_AFTER,
    LEFT_BEFORE,
    TUNING_SEEDS,
    make_method,
    methods_for,
    n_learned,
)
from benchmarks.adapters.pairs import left_pairs, left_share, pair_network, source_pairs
from repurpose import ToastRepurposer
from repurpose.neural_network.toast.pretuning import ToastPretuning

__all__ = ["HEADS", "NAME", "RATES", "examine", "kinds", "missing"]

NAME = "steering"
RATES = (3e-3, 1e-2, 3e-2)
HEADS = ()
N_PER_CLASS, N_TEST = 50, 1000
N_EPOCHS, BATCH_SIZE = 20, 32
N_PRETUNING, PRETUNING_EPOCHS, PRETUNING_RATE = 12800, 6, 2e-3
_LAYER = "head_drop"


def missing() -> str:
    """Say what this part needs and is not installed; "" where nothing is."""
    return "" if find_spec("mlxtend") and find_spec("timm") else "mlxtend and timm are not installed"


def kinds() -> list[str]:
    """List what is compared."""
    return methods_for(with_prompts=True)


def examine(cell: Cell, folder: Path) -> Mapping[str, float]:
    """Train on a draw of few pairs and measure on others; the network and its pre-tuning are kept in the folder."""
    network = pair_network(folder)
    options = {"num_epochs": N_EPOCHS, "batch_size": BATCH_SIZE, "random_state": cell.seed}
    method = make_method(cell.kind, network, _LAYER, cell.rate, lambda: pair_pretuning(network, folder), options)
    method.repurpose(left_pairs("train", 10 * N_PER_CLASS, cell.seed))
    images, labels = left_pairs("tune" if cell.seed in TUNING_SEEDS else "test", N_TEST, cell.seed)
    found = {"accuracy": float(method.score(images, labels)), LEARNED: float(n_learned(method))}
    if isinstance(method, ToastRepurposer):
        found[LEFT_BEFORE] = left_share(method.attention_maps(images, before=True))
        found[LEFT_AFTER] = left_share(method.attention_maps(images))
    return found


def pair_pretuning(network: nn.Module, folder: Path) -> ToastPretuning:
    """Open the pre-tuning of the network on pairs of the source's digits, or make it and keep it."""
    file = folder / "pairs_pretuned.safetensors"
    if not file.exists():
        options = {"num_epochs": PRETUNING_EPOCHS, "batch_size": 64, "random_state": 0, "verbose": False}
        learner = ToastRepurposer(network, optimizer_params={"learning_rate": PRETUNING_RATE}, **options)
        learner.pretune(source_pairs(N_PRETUNING, seed=10**6)).save(file)
    return ToastPretuning.load(file)

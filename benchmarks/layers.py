"""What choosing layers is worth: `feature_layer_names="auto"` beside the last layer, with the same splits for both.

EfficientNet-Lite0 on 900 images a task, of which 5 and 10 a class are labelled and the others are predicted: the test
log loss of logistic regression with chosen C and of the Gaussian process.
"""

from collections import Counter

import numpy as np
from sklearn.metrics import log_loss
from torch import nn

from benchmarks.tasks import LAYER, few_per_class, task_features
from benchmarks.timing import print_table
from model_handler import Features, ModelHandler
from repurpose import GpRepurposer, LrRepurposer, MetaModelRepurposer

TASKS, LABELS, N_IMAGES = ("digits", "mnist"), (5, 10), 900
AIM, LIMIT = 0.9, 1.02  # of the ratios to the last layer by logistic regression: their mean, and each of them


def run(runs: int = 5, first_seed: int = 0) -> None:
    """Print mean log losses, their ratios to the last layer's by logistic regression, and the layers taken."""
    candidates = tuple(ModelHandler("efficientnet-lite0").candidate_layers())
    rows, ratios = [], []
    for task in TASKS:
        features = task_features(task, candidates, N_IMAGES)
        for n_per_class in LABELS:
            taken: Counter[str] = Counter()
            seeds = range(first_seed, first_seed + runs)
            losses = np.array([_one_split(features, n_per_class, seed, taken) for seed in seeds])
            ratio = losses[:, 1] / losses[:, 0]
            ratios.extend(ratio)
            means = [f"{loss:.3f}" for loss in losses.mean(axis=0)]
            error = ratio.std(ddof=1) / runs**0.5
            chosen = ", ".join(f"{name} {count}" for name, count in taken.most_common())
            rows.append([task, n_per_class, *means, f"{ratio.mean():.3f} ({error:.3f})", f"{ratio.max():.3f}", chosen])
    print(f"test log loss, means of {runs} splits; ratios of LR, auto to LR, last (standard error)")
    print_table(
        ["task", "labels a class", "LR, last", "LR, auto", "GP, last", "GP, auto", "ratio", "largest", "taken"], rows
    )
    print(
        f"over all: mean ratio {np.mean(ratios):.3f} (aim: at most {AIM}), largest {max(ratios):.3f} (at most {LIMIT})"
    )


def _one_split(features: Features, n_per_class: int, seed: int, taken: Counter[str]) -> list[float]:
    train, test = few_per_class(features.labels, n_per_class, seed)

    def loss(cls: type[MetaModelRepurposer], layers: list[str] | str) -> float:
        repurposer = cls(nn.Identity(), layers, random_state=seed).repurpose(features[train])
        if (cls, layers) == (LrRepurposer, "auto"):
            taken.update(repurposer.feature_layer_names_)
        return float(log_loss(features.labels[test], repurposer.predict_probability(features[test])))

    return [loss(cls, layers) for cls in (LrRepurposer, GpRepurposer) for layers in ([LAYER], "auto")]

"""What finds unfamiliar inputs: the measurement behind `uncertainty/unfamiliarity.py` and its default.

On every task of `benchmarks.quality`: how well each detector tells unfamiliar inputs, what its p-values are on
familiar ones, and how well a head does by its energy or its largest probability.
"""

import argparse
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score
from torch import nn

from benchmarks.quality.findings import Estimate
from benchmarks.quality.heads import RawLrRepurposer
from benchmarks.quality.images import HELD_OUT, TASKS, Split, features_on_disk, load_features, split_of
from benchmarks.tasks import LAYER
from benchmarks.timing import print_table
from model_handler import Features
from repurpose import GpRepurposer, LaplaceRepurposer, LrRepurposer, MetaModelRepurposer, SvmRepurposer
from repurpose.uncertainty.unfamiliarity import DETECTORS

N_LABELS = (2, 5, 10, 50)  # a class
LEVELS = (0.01, 0.05, 0.1)
_HEADS = {
    "raw LR": RawLrRepurposer,
    "LR": LrRepurposer,
    "SVM": SvmRepurposer,
    "GP": GpRepurposer,
    "Laplace": LaplaceRepurposer,
}
Found = dict[Any, list[float]]  # a number for each split


class _DetectorsAlone(MetaModelRepurposer):
    """No head: what is asked of the training rows needs none."""

    def _train_model_from_features(self, *args: Any) -> None:
        return None

    def _predict_label_from_features(self, features: np.ndarray) -> np.ndarray:
        return np.zeros(len(features), dtype=int)


def main(arguments: Sequence[str]) -> None:
    """`--parts auroc p-values` takes some of the parts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks unfamiliar", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="all of them by default")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--runs", type=int, default=20, help="how many splits")
    parser.add_argument("--cache", type=Path, help="a directory in which features are kept")
    options = parser.parse_args(arguments)
    with features_on_disk(options.cache) as directory:
        features = load_features(directory)
    for part in options.parts:
        PARTS[part](features, options.tasks, options.runs)


def _detectors(features: Mapping[str, Features], tasks: Sequence[str], runs: int) -> None:
    """AUROC of each detector, and by how much the default is above the better of the two that it is made for."""
    found: Found = defaultdict(list)
    for place, split, seed in _splits(features, tasks, runs):
        trained = _DetectorsAlone(nn.Identity(), [LAYER], random_state=seed).repurpose(split.train)
        for method in DETECTORS:
            for name, auroc in _aurocs(split, partial(trained.unfamiliarity, method=method)):
                found[*place, name, method].append(auroc)
    rows = []
    for place in dict.fromkeys(key[:-1] for key in found):
        values = {method: np.array(found[*place, method]) for method in DETECTORS}
        better = max((values["mahalanobis"], values["knn"]), key=np.mean)
        gains = [Estimate.of(values["mixed_mahalanobis"] - other).signed for other in (better, values["mahalanobis"])]
        rows.append([*place, *(Estimate.of(each) for each in values.values()), *gains])
    print(f"AUROC of unfamiliar inputs, {runs} splits (standard error)")
    header = ["task", "labels a class", "unfamiliar", *DETECTORS, "mixed less the better of mahalanobis and knn"]
    print_table([*header, "mixed less mahalanobis"], rows)


def _p_values(features: Mapping[str, Features], tasks: Sequence[str], runs: int) -> None:
    """The share of familiar test rows with p-values of at most each level: by training rows, and by given ones."""
    found: Found = defaultdict(list)
    for (_, n_labels), split, seed in _splits(features, tasks, runs, held_out=False):
        given = len(split.test) // 2
        trained = _DetectorsAlone(nn.Identity(), [LAYER], random_state=seed).repurpose(split.train)
        for method in DETECTORS:
            for source, data in {"training rows": None, "given rows": split.test[:given]}.items():
                p_values = trained.conformalize(data).unfamiliarity_p_value(split.test[given:], method)
                for level in LEVELS:
                    found[method, source, n_labels, level].append(float(np.mean(p_values <= level)))
    rows = [
        [*place, *(Estimate.of(found[*place, level]) for level in LEVELS)]
        for place in sorted({key[:3] for key in found}, key=lambda key: (list(DETECTORS).index(key[0]), *key[1:]))
    ]
    print(f"Share of familiar rows with p-values of at most ..., mean over {len(tasks)} tasks, {runs} splits each")
    print_table(["detector", "compared with", "labels a class", *LEVELS], rows)


def _heads(features: Mapping[str, Features], tasks: Sequence[str], runs: int) -> None:
    """AUROC of heads by their energy and their largest probability."""
    found: Found = defaultdict(list)
    for (task, _), split, seed in _splits(features, tasks, runs):
        for title, head in _HEADS.items():
            trained = head(nn.Identity(), [LAYER], random_state=seed).repurpose(split.train)
            scores = {
                "energy": partial(trained.unfamiliarity, method="energy"),
                "largest probability": partial(_doubt, trained),
            }
            for score, ask in scores.items():
                for name, auroc in _aurocs(split, ask):
                    kind = HELD_OUT if name == HELD_OUT else "other images"
                    found[task, kind, title, score].append(auroc)
    rows = []
    for task, kind in dict.fromkeys(key[:2] for key in found):
        for title in _HEADS:
            cells = []
            for score in ("energy", "largest probability"):
                values, base = (np.array(found[task, kind, each, score]) for each in (title, "raw LR"))
                cells += [Estimate.of(values), Estimate.of(values - base).signed]
            rows.append([task, kind, title, *cells])
    print(f"AUROC of unfamiliar inputs by a head alone, mean over labels a class, {runs} splits")
    print_table(["task", "unfamiliar", "head", "energy", "less raw LR's", "largest probability", "less raw LR's"], rows)


def _splits(
    features: Mapping[str, Features], tasks: Sequence[str], runs: int, held_out: bool = True
) -> Iterator[tuple[tuple[str, int], Split, int]]:
    """Each task with so many labels a class, its split and the seed; with all classes, and without some of them."""
    for task in tasks:
        for n_labels in N_LABELS:
            for seed in range(runs):
                split = split_of(features, task, n_labels, seed)
                yield (task, n_labels), split, seed
                if held_out:
                    yield (task, n_labels), split.without_classes(seed), seed


def _doubt(trained: MetaModelRepurposer, rows: Features) -> np.ndarray:
    return -trained.predict_probability(rows).max(axis=1)


def _aurocs(split: Split, score: Callable[[Features], np.ndarray]) -> Iterator[tuple[str, float]]:
    familiar = score(split.test)
    for name, features in split.unfamiliar.items():
        truth = np.repeat([0, 1], [len(familiar), len(features)])
        yield name, float(roc_auc_score(truth, np.concatenate([familiar, score(features)])))


PARTS: dict[str, Callable[[Mapping[str, Features], Sequence[str], int], None]] = {
    "auroc": _detectors,
    "p-values": _p_values,
    "heads": _heads,
}
warnings.filterwarnings("ignore", message="there is no row of")  # half of a small test set

"""What finds unfamiliar inputs: the measurement behind `uncertainty/unfamiliarity.py` and its default.

On every task of `benchmarks.quality`: how well each detector tells unfamiliar inputs, how often its p-values are small
for familiar ones, how well a head does by its energy or its largest probability, and how large sets of labels are.
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

from benchmarks.options import positive
from benchmarks.quality.findings import Estimate
from benchmarks.quality.heads import RawLrRepurposer
from benchmarks.quality.images import HELD_OUT, TASKS, Split, features_on_disk, load_features, split_of
from benchmarks.tasks import LAYER
from benchmarks.timing import Table
from model_handler import Features
from repurpose import GpRepurposer, LaplaceRepurposer, LrRepurposer, MetaModelRepurposer, SvmRepurposer
from repurpose.uncertainty.defaults import RANK_COST
from repurpose.uncertainty.prediction_sets import SCORES
from repurpose.uncertainty.unfamiliarity import DETECTORS

N_LABELS = (2, 5, 10, 50)  # a class
LEVELS = (0.01, 0.05, 0.1)
COVERAGES = (0.9, 0.95)
BOTH = "letter and font"  # 100 classes of twelve images each
_RAW = "raw LR"
_HEADS = {
    _RAW: RawLrRepurposer,
    "LR": LrRepurposer,
    "SVM": SvmRepurposer,
    "GP": GpRepurposer,
    "Laplace": LaplaceRepurposer,
}
Found = defaultdict[Any, list[float]]  # a number for each split


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
    parser.add_argument("--labels", nargs="+", type=int, default=N_LABELS, help="a class")
    parser.add_argument("--runs", type=positive, default=20, help="how many splits")
    parser.add_argument("--cache", type=Path, help="a directory in which features are kept")
    options = parser.parse_args(arguments)
    with features_on_disk(options.cache) as directory:
        features = load_features(directory)
    for part in options.parts:
        PARTS[part](features, [(task, n) for task in options.tasks for n in options.labels], options.runs)


def _detectors(features: Mapping[str, Features], places: Sequence[tuple[str, int]], runs: int) -> None:
    """AUROC of each detector, and by how much the default is above the better of the two that it is made for."""
    print(f"AUROC of unfamiliar inputs, {runs} splits (standard error)")
    gains = {"less the better of mahalanobis and knn": ("mahalanobis", "knn"), "less mahalanobis": ("mahalanobis",)}
    table = Table(["task", "labels", "unfamiliar inputs", *DETECTORS, *(f"mixed {gain}" for gain in gains)], 13)
    for place in places:
        found: Found = defaultdict(list)
        for split, seed in _splits(features, *place, runs):
            trained = _trained(_DetectorsAlone, split.train, seed)
            for method in DETECTORS:
                for name, auroc in _aurocs(split, partial(trained.unfamiliarity, method=method)):
                    found[name, method].append(auroc)
        for name in dict.fromkeys(key[0] for key in found):
            cells = [_signed(found, name, "mixed_mahalanobis", others) for others in gains.values()]
            table.row([*place, name, *(Estimate.of(found[name, method]) for method in DETECTORS), *cells])


def _p_values(features: Mapping[str, Features], places: Sequence[tuple[str, int]], runs: int) -> None:
    """The share of familiar test rows with p-values of at most each level, judged by the training rows."""
    print(f"Share of familiar rows with p-values of at most ..., by training rows, {runs} splits (standard error)")
    table = Table(["task", "labels", "detector            ", *(f"{level:g}" for level in LEVELS)], 13)
    for place in places:
        found: Found = defaultdict(list)
        for split, seed in _splits(features, *place, runs, held_out=False):
            trained = _trained(_DetectorsAlone, split.train, seed)
            for method in DETECTORS:
                p_values = trained.unfamiliarity_p_value(split.test, method)
                for level in LEVELS:
                    found[method, level].append(float(np.mean(p_values <= level)))
        for method in DETECTORS:
            table.row([*place, method, *(Estimate.of(found[method, level]) for level in LEVELS)])


def _heads(features: Mapping[str, Features], places: Sequence[tuple[str, int]], runs: int) -> None:
    """AUROC of heads by their energy and their largest probability; images of two other tasks count as one set."""
    print(f"AUROC of unfamiliar inputs by heads alone, {runs} splits (standard error)")
    scores = {"energy": partial(MetaModelRepurposer.unfamiliarity, method="energy"), "largest probability": _doubt}
    columns = [text for score in scores for text in (score, f"less that of {_RAW}")]
    table = Table(["task", "labels", "unfamiliar inputs", "head", *columns], 13)
    for place in places:
        found: Found = defaultdict(list)
        for split, seed in _splits(features, *place, runs):
            kind = HELD_OUT if HELD_OUT in split.unfamiliar else "other images"
            for title, head in _HEADS.items():
                trained = _trained(head, split.train, seed)
                for score, ask in scores.items():
                    aurocs = [auroc for _, auroc in _aurocs(split, partial(ask, trained))]
                    found[(kind, score), title].append(float(np.mean(aurocs)))
        for kind in ("other images", HELD_OUT):
            for title in _HEADS:
                cells = []
                for score in scores:
                    cells += [Estimate.of(found[(kind, score), title]), _signed(found, (kind, score), title, (_RAW,))]
                table.row([*place, kind, title, *cells])


def _sets(features: Mapping[str, Features], places: Sequence[tuple[str, int]], runs: int) -> None:
    """Size and coverage of sets of labels by each score, after half of the test rows were given to `conformalize`."""
    warnings.filterwarnings("ignore", message="there is no row of")  # of some of a hundred classes
    print(f"Sets of labels of LR by rows given to conformalize, {runs} splits (standard error)")
    costs = {**dict.fromkeys(SCORES, RANK_COST), "raps, earlier cost": (2, 0.1)}
    columns = [f"{score}, {what}" for score in costs for what in ("size", "coverage")]
    gains = {"size by raps less by aps": "raps", "by the earlier cost less by aps": "raps, earlier cost"}
    table = Table(["task           ", "labels", "coverage", *columns, *gains], 13)
    for place in [*places, (BOTH, 0)]:
        found: Found = defaultdict(list)
        for train, test, seed in _to_conformalize(features, *place, runs):
            half = len(test) // 2
            trained = _trained(partial(LrRepurposer, c=1.0), train, seed).conformalize(test[:half])
            for coverage in COVERAGES:
                for score, trained.rank_cost_ in costs.items():
                    sets = trained.predict_set(test[half:], coverage, score.split(",")[0])
                    codes = np.searchsorted(trained.classes_, test[half:].labels)
                    found[(coverage, "size"), score].append(float(sets.sizes.mean()))
                    hits = sets.members[np.arange(len(codes)), codes]
                    found[(coverage, "coverage"), score].append(float(hits.mean()))
        for coverage in COVERAGES:
            cells = [Estimate.of(found[(coverage, what), s]) for s in costs for what in ("size", "coverage")]
            differences = [_signed(found, (coverage, "size"), score, ("aps",)) for score in gains.values()]
            table.row([*place, coverage, *cells, *differences])


def _to_conformalize(
    features: Mapping[str, Features], task: str, n_labels: int, runs: int
) -> Iterator[tuple[Features, Features, int]]:
    """Rows to train on, rows to give to `conformalize` and to test on, and the seed."""
    if task != BOTH:
        yield from ((split.train, split.test, seed) for split, seed in _splits(features, task, n_labels, runs, False))
        return
    pairs = [f"{letter}, {font}" for letter, font in zip(features["letters"].labels, features["fonts"].labels)]
    rows = Features(features["letters"].values, np.array(pairs))
    for seed in range(runs):
        order = np.random.default_rng(seed).permutation(len(rows))
        train, test = rows[order[600:]], rows[order[:600]]
        yield train, test[np.isin(test.labels, train.labels)], seed


def _splits(
    features: Mapping[str, Features], task: str, n_labels: int, runs: int, held_out: bool = True
) -> Iterator[tuple[Split, int]]:
    """The splits of a task with so many labels a class and their seeds; and again without a third of the classes."""
    for seed in range(runs):
        split = split_of(features, task, n_labels, seed)
        yield split, seed
        if held_out:
            yield split.without_classes(seed), seed


def _trained(head: Callable[..., MetaModelRepurposer], rows: Features, seed: int) -> MetaModelRepurposer:
    return head(nn.Identity(), [LAYER], random_state=seed).repurpose(rows)


def _doubt(trained: MetaModelRepurposer, rows: Features) -> np.ndarray:
    return -trained.predict_probability(rows).max(axis=1)


def _aurocs(split: Split, score: Callable[[Features], np.ndarray]) -> Iterator[tuple[str, float]]:
    familiar = score(split.test)
    for name, features in split.unfamiliar.items():
        truth = np.repeat([0, 1], [len(familiar), len(features)])
        yield name, float(roc_auc_score(truth, np.concatenate([familiar, score(features)])))


def _signed(found: Found, what: Any, ours: str, others: Sequence[str]) -> str:
    """Our values less those of the one of the others whose mean is largest."""
    best = max(others, key=lambda other: np.mean(found[what, other]))
    return Estimate.of(np.subtract(found[what, ours], found[what, best])).signed


PARTS: dict[str, Callable[[Mapping[str, Features], Sequence[tuple[str, int]], int], None]] = {
    "auroc": _detectors,
    "p-values": _p_values,
    "heads": _heads,
    "sets": _sets,
}

"""How well C is chosen: the measurement behind the rule of `meta_model/choice_of_c.py`.

For several splits of each task and for layers of few and of many channels: the test log loss with C by cross-validation
without a prior of log C and with priors of several widths, among the values that the search tries, and with the value
that is best for the test data, which nobody can know; less that of C = 1.
"""

from collections.abc import Mapping

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from benchmarks.tasks import LAYER, few_per_class, task_features
from benchmarks.timing import print_table
from repurpose.data.folds import deal_balanced_folds, deal_folds
from repurpose.data.scaling import BlockScaling
from repurpose.meta_model.choice_of_c import GRID, choose_c
from repurpose.meta_model.row_space import rotate_into_row_space

TASKS = ("digits", "drawings", "mnist", "letters", "fonts", "places")
LAYERS = ("_blocks.4", "_blocks.11", LAYER)
N_IMAGES = 1200
WIDTHS = (0.5, 1.0, 2.0)  # of the prior, with balanced folds
NO_PRIOR, UNBALANCED, BEST = "no prior", "no prior, other folds", "best for test"


def run(runs: int = 8) -> None:
    """Print differences of the test log loss to that of C = 1, with standard errors, by task and labels a class."""
    names = [NO_PRIOR, UNBALANCED, *(f"sd {width:g}" for width in WIDTHS), BEST]
    rows = []
    for task in TASKS:
        for layer in LAYERS if task in TASKS[:2] else LAYERS[-1:]:
            for n_per_class in (2, 5, 10):
                found = [_one_split(task, layer, n_per_class, seed) for seed in range(runs)]
                rows.append([task, layer, n_per_class, *(_mean([losses[name] for losses in found]) for name in names)])
    print(f"test log loss less that of C = 1, means of {runs} splits with standard errors")
    print_table(["task", "layer", "labels a class", *names], rows)


def _one_split(task: str, layer: str, n_per_class: int, seed: int) -> dict[str, float]:
    """The test log loss of each rule, less that of C = 1."""
    features = task_features(task, LAYERS, N_IMAGES).select([layer])
    codes = np.unique(features.labels, return_inverse=True)[1]
    train, test = few_per_class(codes, n_per_class, seed)
    scaling = BlockScaling.fit(features.matrix[train], features.indices_per_layer)
    rows, basis = rotate_into_row_space(scaling.transform(features.matrix[train]))
    others = scaling.transform(features.matrix[test])
    others = others if basis is None else others @ basis

    def scores(folds: np.ndarray | None) -> Mapping[float, float]:
        return choose_c(
            rows, codes[train], None, LogisticRegression(tol=1e-5, max_iter=5000), folds, n_jobs=None
        ).scores

    def loss(c: float) -> float:
        model = LogisticRegression(C=c, tol=1e-6, max_iter=5000).fit(rows, codes[train])
        return float(log_loss(codes[test], model.predict_proba(others)))

    balanced = scores(deal_balanced_folds(codes[train], np.random.RandomState(seed)))
    chosen = {
        NO_PRIOR: _least(balanced),
        UNBALANCED: _least(scores(deal_folds(codes[train], np.random.RandomState(seed)))),
    }
    for width in WIDTHS:
        chosen[f"sd {width:g}"] = _least({c: len(train) * balanced[c] + (np.log(c) / width) ** 2 / 2 for c in balanced})
    losses = {c: loss(c) for c in GRID}
    return {name: losses[c] - losses[1.0] for name, c in chosen.items()} | {BEST: min(losses.values()) - losses[1.0]}


def _least(costs: Mapping[float, float]) -> float:
    return min(costs, key=costs.__getitem__)


def _mean(differences: list[float]) -> str:
    error = np.std(differences, ddof=1) / len(differences) ** 0.5
    return f"{np.mean(differences):+.3f} ({error:.3f})"

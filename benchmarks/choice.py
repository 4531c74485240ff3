"""How well C is chosen: the measurement behind the grid of `meta_model/choice_of_c.py`.

For several splits of the digits: test log loss with C by cross-validation over grids that end at 10 and at 100, with
C = 1, and with the value that is best for the test data, which nobody can know.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from benchmarks.tasks import few_per_class, task_features
from benchmarks.timing import print_table
from repurpose.meta_model.choice_of_c import GRID, choose_c
from repurpose.meta_model.row_space import rotate_into_row_space
from repurpose.meta_model.scaling import BlockScaling

WIDE = (*GRID, 31.6, 100.0)


def run(runs: int = 8) -> None:
    """Print mean test log loss by labels a class, and the best values of C."""
    rows = []
    for n_per_class in (2, 5, 10, 30):
        found = [_one_split(n_per_class, seed) for seed in range(runs)]
        losses = np.mean([losses for losses, _ in found], axis=0)
        best = sorted({c for _, c in found})
        rows.append([n_per_class, *(f"{loss:.3f}" for loss in losses), f"{best[0]:g} to {best[-1]:g}"])
    print(f"digits, test log loss, means of {runs} splits")
    print_table(["labels a class", "grid to 10", "grid to 100", "C = 1", "best for test", "best C"], rows)


def _one_split(n_per_class: int, seed: int) -> tuple[list[float], float]:
    features = task_features("digits")
    train, test = few_per_class(features.labels, n_per_class, seed)
    scaling = BlockScaling.fit(features.matrix[train], features.indices_per_layer)
    rows, basis = rotate_into_row_space(scaling.transform(features.matrix[train]))
    others = scaling.transform(features.matrix[test])
    others = others if basis is None else others @ basis
    labels, truth = features.labels[train], features.labels[test]

    def loss(c: float) -> float:
        model = LogisticRegression(C=c, tol=1e-6, max_iter=5000).fit(rows, labels)
        return log_loss(truth, model.predict_proba(others))

    tested = {c: loss(c) for c in WIDE}
    chosen = [
        choose_c(
            rows,
            labels,
            None,
            LogisticRegression(tol=1e-5, max_iter=5000),
            n_jobs=None,
            random_state=np.random.RandomState(seed),
            grid=grid,
        ).c
        for grid in (GRID, WIDE)
    ]
    best = min(tested, key=tested.__getitem__)
    return [tested[chosen[0]], tested[chosen[1]], tested[1.0], tested[best]], best

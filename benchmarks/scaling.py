"""Which scaling of the features logistic regression should get: the measurement behind `meta_model/scaling.py`.

Every scaling chooses C for itself, by 5-fold cross-validated log loss over a wide grid, 1e-4 to 1e3 in half-decades,
and is tested on all images that are not trained on. Differences are paired: same task, same split.
"""

import warnings
from collections.abc import Callable

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler, normalize

from benchmarks.tasks import few_per_class, task_features
from benchmarks.timing import print_table
from repurpose.data.folds import deal_balanced_folds
from repurpose.meta_model.choice_of_c import choose_c
from repurpose.meta_model.row_space import rotate_into_row_space

DEFAULT = "centred, rows of norm 16 on average"
GRID = tuple(10 ** (exponent / 2) for exponent in range(-8, 7))
Scaling = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def run(runs: int = 5) -> None:
    """Print mean test log loss by task and labels a class, and the mean paired difference from the default."""
    cells = [(task, n) for task in ("digits", "mnist") for n in (5, 10, 30)]
    losses = {name: np.array([_losses(scale, *cell, runs) for cell in cells]) for name, scale in SCALINGS.items()}
    rows = []
    for name, table in losses.items():
        difference = (table - losses[DEFAULT]).ravel()
        error = difference.std(ddof=1) / len(difference) ** 0.5
        rows.append([name, *(f"{loss:.3f}" for loss in table.mean(axis=1)), f"{difference.mean():+.3f} ± {error:.3f}"])
    print(f"test log loss, means of {runs} splits; labels a class behind the task's name")
    print_table(["scaling", *(f"{task} {n}" for task, n in cells), "paired difference"], rows)


def _losses(scale: Scaling, task: str, n_per_class: int, runs: int) -> list[float]:
    features = task_features(task)
    found = []
    for seed in range(runs):
        train, test = few_per_class(features.labels, n_per_class, seed)
        rows, others = scale(features.matrix[train].astype(float), features.matrix[test].astype(float))
        rotated, basis = rotate_into_row_space(rows)
        others = others if basis is None else others @ basis
        labels = features.labels[train]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it is the scaling that is judged
            model = LogisticRegression(max_iter=5000)
            folds = deal_balanced_folds(np.unique(labels, return_inverse=True)[1], np.random.RandomState(seed))
            choice = choose_c(rotated, labels, None, model, folds, n_jobs=None, grid=GRID)
            model.set_params(C=choice.c).fit(rotated, labels)
        found.append(log_loss(features.labels[test], model.predict_proba(others)))
    return found


def _raw(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return train, test


def _centred(norm: float) -> Scaling:
    def scale(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = train.mean(axis=0)
        factor = norm / np.sqrt(np.mean(np.sum((train - mean) ** 2, axis=1)))
        return (train - mean) * factor, (test - mean) * factor

    return scale


def _rows_of_norm(norm: float) -> Scaling:
    def scale(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = train.mean(axis=0)
        return normalize(train - mean) * norm, normalize(test - mean) * norm

    return scale


def _standardised(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scaler = StandardScaler().fit(train)
    factor = 16 / train.shape[1] ** 0.5  # the same size of rows as the default
    return scaler.transform(train) * factor, scaler.transform(test) * factor


SCALINGS: dict[str, Scaling] = {
    DEFAULT: _centred(16.0),
    "as they are": _raw,
    "centred, rows of norm 1 on average": _centred(1.0),
    "centred, every row of norm 1": _rows_of_norm(1.0),
    "centred, every row of norm 16": _rows_of_norm(16.0),
    "each column standardised": _standardised,
}

"""The demo's task, 300 digits to learn and 700 to predict, beside scikit-learn's LogisticRegression fitted by hand.

The hand-written side is what a careful user would write on the same features: centre them, divide by one number, and
fit until nothing moves.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split

from benchmarks.tasks import LAYER, task_features
from benchmarks.timing import print_table
from repurpose import LrRepurposer

N_TRAIN, N_TEST = 300, 700


def run(runs: int = 5) -> None:
    """Print accuracy and log loss of both sides for `runs` splits, with C fixed and with C chosen by `c="auto"`."""
    features = task_features("digits")
    rows = []
    for seed in range(runs):
        train, test = train_test_split(
            np.arange(len(features)), train_size=N_TRAIN, test_size=N_TEST, stratify=features.labels, random_state=seed
        )
        for c in (1.0, "auto"):
            ours = LrRepurposer("efficientnet-lite0", [LAYER], c=c, random_state=seed).repurpose(features[train])
            probabilities = ours.predict_probability(features[test])
            by_hand = by_hand_probabilities(features.matrix.astype(float), features.labels, train, test, ours.c_)
            truth = features.labels[test]
            rows.append([seed, f"{c} ({ours.c_:g})", *_figures(truth, probabilities), *_figures(truth, by_hand)])
    header = ["split", "c", "accuracy, ours", "log loss, ours", "accuracy, by hand", "log loss, by hand"]
    print_table(header, rows)


def by_hand_probabilities(
    matrix: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray, c: float
) -> np.ndarray:
    """Probabilities of the test rows by scikit-learn alone."""
    mean = matrix[train].mean(axis=0)
    scale = 16 / np.sqrt(np.mean(np.sum((matrix[train] - mean) ** 2, axis=1)))
    model = LogisticRegression(C=c, tol=1e-8, max_iter=20_000).fit((matrix[train] - mean) * scale, labels[train])
    return model.predict_proba((matrix[test] - mean) * scale)


def _figures(truth: np.ndarray, probabilities: np.ndarray) -> list[str]:
    return [f"{accuracy_score(truth, probabilities.argmax(axis=1)):.4f}", f"{log_loss(truth, probabilities):.4f}"]

"""What a temperature is worth: the measurement behind `uncertainty/calibration.py` and the default of no calibration.

Logistic regression with chosen C on the digits, over several splits: how the test log loss changes by a temperature
fitted to the training rows, each out of its fold, or to 20, 50 and 200 rows held back, with priors of several widths.
"""

import numpy as np
from torch import nn

from benchmarks.tasks import LAYER, few_per_class, task_features
from benchmarks.timing import print_table
from repurpose import LrRepurposer
from repurpose.uncertainty.calibration import fit_calibration
from repurpose.uncertainty.comparisons import out_of_fold_probabilities
from repurpose.uncertainty.metrics import log_losses

WIDTHS = (0.1, 0.2, 0.3, 0.5, 1.0, 1e6)
HELD_BACK = (20, 50, 200)


def run(runs: int = 10) -> None:
    """Print the mean change of the test log loss, paired by split, with its standard error."""
    for n_per_class in (2, 5, 10, 50):
        found = np.array([_one_split(n_per_class, seed) for seed in range(runs)])  # (runs, sources, widths)
        means, errors = found.mean(axis=0), found.std(axis=0, ddof=1) / runs**0.5
        names = ["training rows", *(f"{n} held back" for n in HELD_BACK)]
        rows = [
            [name, *(f"{mean:+.4f} ({error:.4f})" for mean, error in zip(*of_source))]
            for name, *of_source in zip(names, means, errors)
        ]
        print(f"digits, {n_per_class} labels a class: change of the test log loss, {runs} splits (standard error)")
        print_table(["temperature from", *(f"width {width:g}" for width in WIDTHS)], rows)


def _one_split(n_per_class: int, seed: int) -> list[list[float]]:
    features = task_features("digits")
    train, others = few_per_class(features.labels, n_per_class, seed)
    others = np.random.default_rng(seed).permutation(others)
    repurposer = LrRepurposer(nn.Identity(), [LAYER], random_state=seed).repurpose(features[train])
    held_back, test = others[: max(HELD_BACK)], others[max(HELD_BACK) :]
    known, new = repurposer.predict_probability(features[held_back]), repurposer.predict_probability(features[test])
    truth, codes = features.labels[test], features.labels[held_back]
    sources = [out_of_fold_probabilities(repurposer), *((known[:n], codes[:n]) for n in HELD_BACK)]
    before = log_losses(new, truth).mean()
    return [
        [
            float(
                log_losses(fit_calibration(*source, "temperature", prior_width=width).apply(new), truth).mean() - before
            )
            for width in WIDTHS
        ]
        for source in sources
    ]

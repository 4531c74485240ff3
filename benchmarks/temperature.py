"""What a temperature is worth: the measurement behind `uncertainty/calibration.py` and the default of no calibration.

Logistic regression with chosen C on the digits, over several splits: how the test log loss changes by a temperature
fitted to the training rows, each out of its fold, or to 20, 50 and 200 rows held back, with priors of several widths.
Fine-tuned networks, which have no training rows to be judged by: what `calibrate` finds by 50 and 200 rows held back.
"""

import argparse
from collections.abc import Callable, Sequence

import numpy as np
from torch import nn

from benchmarks.pretrained import LAYER as LAST
from benchmarks.pretrained import NETWORK, SIDE, digits_of_network
from benchmarks.tasks import LAYER, few_per_class, task_features
from benchmarks.timing import print_table
from repurpose import LrRepurposer, NeuralNetworkFineTuneRepurposer
from repurpose.uncertainty.calibration import fit_calibration
from repurpose.uncertainty.comparisons import out_of_fold_probabilities
from repurpose.uncertainty.metrics import log_losses

WIDTHS = (0.1, 0.2, 0.3, 0.5, 1.0, 1e6)
HELD_BACK = (20, 50, 200)
N_EPOCHS, OF_NETWORKS, N_TEST = (5, 10, 25), (50, 200), 500


def heads(runs: int) -> None:
    """Print the mean change of the test log loss, paired by split, with its standard error."""
    for n_per_class in (2, 5, 10, 50, 100):
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
    held_out, rows = out_of_fold_probabilities(repurposer.heads_of_folds(), repurposer.training_rows())
    sources = [(held_out, rows.codes), *((known[:n], codes[:n]) for n in HELD_BACK)]
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


def networks(runs: int) -> None:
    """Print temperatures of fine-tuned networks, and the mean change of their test log loss with its standard error."""
    print(f"\n{NETWORK}, fine-tuned by default on digits at {SIDE} pixels, 10 labels a class, {runs} splits")
    rows = []
    for n_epochs in N_EPOCHS:
        found = np.array([_one_network(n_epochs, seed) for seed in range(runs)])  # (runs, 1 + 2 per number of rows)
        means, errors = found.mean(axis=0), found.std(axis=0, ddof=1) / runs**0.5
        cells = [f"{mean:.3f} ({error:.3f})" for mean, error in zip(means, errors)]
        rows.append([n_epochs, *cells])
    columns = [name for n in OF_NETWORKS for name in (f"temperature by {n} rows", "change of the log loss")]
    print_table(["epochs", "log loss", *columns], rows)


def _one_network(n_epochs: int, seed: int) -> list[float]:
    images, labels = digits_of_network()
    train, others = few_per_class(labels, 10, seed)
    others = np.random.default_rng(seed).permutation(others)[: max(OF_NETWORKS) + N_TEST]
    held_back, test = others[: max(OF_NETWORKS)], others[max(OF_NETWORKS) :]
    options = {"num_epochs": n_epochs, "random_state": seed, "verbose": False}
    repurposer = NeuralNetworkFineTuneRepurposer(NETWORK, LAST, **options).repurpose(images[train], labels[train])
    known, new = (repurposer.predict_probability(images[rows]) for rows in (held_back, test))
    found = [float(log_losses(new, labels[test]).mean())]
    for n_rows in OF_NETWORKS:
        calibration = fit_calibration(known[:n_rows], labels[held_back[:n_rows]], "temperature")  # as `calibrate` does
        after = float(log_losses(calibration.apply(new), labels[test]).mean())
        found += [calibration.temperature or 1.0, after - found[0]]
    return found


PARTS: dict[str, tuple[Callable[[int], None], int]] = {"heads": (heads, 10), "networks": (networks, 5)}


def main(arguments: Sequence[str]) -> None:
    """`--parts networks` takes one of the parts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks temperature", description=__doc__)
    parser.add_argument("--runs", type=int, help="on how many splits")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="all of them by default")
    given = parser.parse_args(arguments)
    for name in given.parts:
        part, usual = PARTS[name]
        part(given.runs or usual)

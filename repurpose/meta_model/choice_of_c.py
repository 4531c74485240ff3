"""The strength of regularisation, C, is chosen by cross-validated log loss, with a prior.

Few examples make the choice noisy: 20 losses cannot choose among eleven values. So the folds are balanced
(`repurpose.data.folds`), and log C has a normal prior about 0 with standard deviation 1, which weighs as much as the
losses of some rows and nothing beside those of hundreds.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from model_handler.errors import with_fix
from model_handler.user_warnings import warn_user

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

__all__ = ["GRID", "ChoiceOfC", "choose_c", "gradient_tolerance", "known_classes"]

logger = logging.getLogger(__name__)

# 1e-4, 3.16e-4, ... 10: on rows of norm 16 (`scaling`) the best value for test data is between .01 and 1, larger ones
# for layers of few channels (`benchmarks/choice.py`).
GRID = tuple(float(f"{10 ** (exponent / 2):.3g}") for exponent in range(-8, 3))
_PATIENCE, _CLEARLY = 2, 1.05  # so many values in a row must do so much worse than the best before the search ends
_LOOSER, _LOOSEST = 100.0, 1e-3  # a choice among half-decades needs less accuracy than the model that is kept


@dataclass(frozen=True)
class ChoiceOfC:
    """The chosen `c`, and for each value tried the mean log loss of held-out rows in nats, without the prior."""

    c: float
    scores: dict[float, float]


def choose_c(
    rows: np.ndarray,
    codes: np.ndarray,
    weights: np.ndarray | None,
    model: "LogisticRegression",
    folds: np.ndarray | None,
    *,
    n_jobs: int | None,
    grid: Sequence[float] = GRID,
    why_no_folds: str = "no class has two examples",
) -> ChoiceOfC:
    """Find the C of least summed log loss on held-out rows plus (log C)^2 / 2, which is minus the log of the prior.

    C grows from the strongest regularisation through `grid`, each fit started from the one before, and the search ends
    once two values in a row do 5 % worse than the best: beyond that the fits grow slow and the loss only grows.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features)
    codes : ndarray of shape (n_samples,)
        Classes as 0..n_classes-1, each of them present.
    weights : ndarray of shape (n_samples,) or None
        Weights of the rows, in the fits and in the mean log loss alike.
    model : LogisticRegression
        Unfitted, with the settings to use; copied for each fold.
    folds : ndarray of shape (n_samples,) or None
        The fold that holds each row out, by `deal_balanced_folds`; None, where no row can be held out, gives C = 1
        with a warning.
    n_jobs : int or None
        Threads over the folds.
    grid : sequence of float
        The values to choose among, growing.
    why_no_folds : str
        What the warning says where there are none.
    """
    if folds is None:
        said = f"{why_no_folds}, so that C cannot be chosen and falls back to c=1.0"
        more = "give more examples of a class"
        warn_user(with_fix(UserWarning, said, python=f"{more}, or c as a number", shell=more))
        return ChoiceOfC(1.0, {})
    from sklearn.base import clone
    from sklearn.utils.parallel import Parallel, delayed

    # Each C starts from the coefficients of the one before, which are close to its own.
    models = [clone(model).set_params(warm_start=True) for _ in range(folds.max() + 1)]
    scores: dict[float, float] = {}
    costs: dict[float, float] = {}
    with known_classes(), Parallel(n_jobs=n_jobs, require="sharedmem") as parallel:
        for c in grid:
            losses = parallel(
                delayed(_held_out_loss)(fitted, c, model.tol, rows, codes, weights, folds == fold)
                for fold, fitted in enumerate(models)
            )
            total, weight = np.sum(losses, axis=0)
            scores[c] = float(total / weight) if weight > 0 else 0.0
            costs[c] = float(total) + np.log(c) ** 2 / 2
            if min(list(costs.values())[-_PATIENCE:]) > _CLEARLY * min(costs.values()):
                break
    best = min(costs, key=costs.__getitem__)
    logger.info("c=%g chosen by a cross-validated log loss of %.4f", best, scores[best])
    return ChoiceOfC(best, scores)


@contextmanager
def known_classes() -> Iterator[None]:
    """Silence scikit-learn's doubt whether many classes of few examples are classes: the labels were judged before."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%", UserWarning)
        yield


def gradient_tolerance(tol: float, c: float, total_weight: float) -> float:
    """Return the gradient at which lbfgs may stop for a given C: `tol`, and less where the penalty is weak.

    The objective, a mean loss plus |w|^2 / (2 C n), lies within C n |gradient|^2 / 2 of its minimum. One tolerance for
    every C would stop a weakly regularised fit long before its minimum, and judge a C that was never really tried.
    """
    return tol / max(1.0, c * total_weight) ** 0.5


def _held_out_loss(
    model: "LogisticRegression",
    c: float,
    tol: float,
    rows: np.ndarray,
    codes: np.ndarray,
    weights: np.ndarray | None,
    held_out: np.ndarray,
) -> tuple[float, float]:
    """Fit `model`, in place, without the held-out rows; return their summed log loss and their weight."""
    training = ~held_out
    training_weights = None if weights is None else weights[training]
    loose = max(tol, min(_LOOSER * tol, _LOOSEST))
    model.set_params(C=c, tol=gradient_tolerance(loose, c, _total(training_weights, int(training.sum()))))
    model.fit(rows[training], codes[training], sample_weight=training_weights)
    scores = model.decision_function(rows[held_out])
    if scores.ndim == 1:
        scores = np.stack([np.zeros_like(scores), scores], axis=1)
    log_probabilities = torch.log_softmax(torch.from_numpy(scores), dim=1).numpy()
    losses = -log_probabilities[np.arange(len(scores)), codes[held_out]]
    loss_weights = np.ones(len(losses)) if weights is None else weights[held_out]
    return float(losses @ loss_weights), float(loss_weights.sum())


def _total(weights: np.ndarray | None, n_rows: int) -> float:
    return float(n_rows if weights is None else weights.sum())

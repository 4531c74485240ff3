"""The weights of the two kinds of support vector machine, and with them the sharpness, are chosen on held-out rows.

Machines of one class against the rest do better where classes lie apart, machines of one against one where they
overlap: near the border of two classes the first kind sees both as one among many. Logits are the weighted sum of both,
and the two weights are those of the least log loss of rows that were held out in turn.

Few rows say little about two weights, and what they say comes from machines of still fewer rows. So the weights have a
prior, and one row of *each* class is left out at a time: to leave one out alone would make its class scarcer than the
others (`gp.calibration`).
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from repurpose.data.folds import deal_balanced_folds
from repurpose.meta_model.svm import DualCoefficients, fit_against_rest, fit_pairs

__all__ = ["CURVED", "LINEAR", "Blend", "Prior", "choose_blend", "fit_blended"]

_MIN_WEIGHT = 1e-3  # above 0, so that where the scores say nothing their order of the classes is still kept


@dataclass(frozen=True)
class Prior:
    """The two weights are normal about these, with this deviation."""

    rest: float
    pairs: float
    deviation: float


# Digits and drawings, and some of their classes alone, did well with these or a little more weight against the rest. At
# 2 labels a class twice the deviation cost .01 to .03 of log loss, by noise; .3 cost .01 at 5 and 10 of the drawings.
LINEAR = Prior(2.0, 1.0, 0.5)
# `rbf` fades with distance, so that held-out rows have scores nearer to each other; `poly` and `sigmoid` were no worse.
CURVED = Prior(4.0, 0.5, 1.0)


@dataclass(frozen=True)
class Blend:
    """Logits are `rest` times the scores of one against the rest, plus `pairs` times those of one against one."""

    rest: float
    pairs: float = 0.0

    @property
    def sharpness(self) -> float:
        """The factor of the mean score."""
        return self.rest + self.pairs

    @property
    def share_of_pairs(self) -> float:
        """How much one against one counts in the mean score, between 0 and 1."""
        return self.pairs / self.sharpness


def choose_blend(scores: np.ndarray, codes: np.ndarray, row_weights: np.ndarray | None, prior: Prior) -> Blend:
    """Return the weights of least log loss, drawn towards those of the prior, which they are without rows.

    From scores (n_kinds, n_rows, n_classes) of held-out rows, one against the rest first, and of two classes alone:
    there both kinds are the same machine. A row counts as often as its weight.
    """
    from scipy.optimize import minimize

    rows, usual = np.arange(len(codes)), np.array([prior.rest, prior.pairs][: len(scores)])
    counts = np.ones(len(codes)) if row_weights is None else row_weights

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        log_probabilities = log_softmax(np.tensordot(weights, scores, axes=1), axis=1)
        excess = np.exp(log_probabilities)
        excess[rows, codes] -= 1
        away = (weights - usual) / prior.deviation
        value = 0.5 * away @ away - counts @ log_probabilities[rows, codes]
        return float(value), np.einsum("kij,ij,i->k", scores, excess, counts) + away / prior.deviation

    # A negative weight would turn the order of a machine's scores around.
    bounds = [(_MIN_WEIGHT, None)] * len(scores)
    best = minimize(loss, usual, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-13, "gtol": 1e-8})
    return Blend(*map(float, best.x))


def fit_blended(
    kernel: np.ndarray,
    codes: np.ndarray,
    c: float,
    row_weights: np.ndarray | None,
    prior: Prior,
    random_state: np.random.RandomState,
    groups: np.ndarray | None = None,
) -> tuple[DualCoefficients, Blend]:
    """Return machines whose scores are the weighted mean of both kinds, as dual coefficients, and how they are blended.

    From kernel values (n_samples, n_samples) and classes (n_samples,) as 0..n_classes-1, each of them present; rows of
    one of the `groups` (n_samples,) are held out together.
    """
    n_classes = int(codes.max()) + 1
    kinds = (fit_against_rest, fit_pairs) if n_classes > 2 else (fit_against_rest,)  # of two classes they are the same
    folds = deal_balanced_folds(codes, random_state, groups)
    if folds is None:
        # No class has two rows, or groups: nothing is held out, and the blend is that of the prior.
        folds = np.full(len(codes), -1)
    scores = np.zeros((len(kinds), len(codes), n_classes))
    for fold in range(folds.max() + 1):
        out, kept = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        weights = None if row_weights is None else row_weights[kept]
        for kind, fit in enumerate(kinds):
            found = fit(kernel[np.ix_(kept, kept)], codes[kept], n_classes, c, weights)
            scores[kind, out] = found.scores(kernel[np.ix_(out, kept)])
    judged = folds >= 0
    weights = None if row_weights is None else row_weights[judged]
    blend = choose_blend(scores[:, judged], codes[judged], weights, prior)
    of_all = [fit(kernel, codes, n_classes, c, row_weights) for fit in kinds]
    return of_all[0] if len(of_all) == 1 else of_all[0].blended(of_all[1], blend.share_of_pairs), blend

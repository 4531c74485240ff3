"""Predictive entropy is split into aleatoric and epistemic uncertainty (mutual information).

The entropy of the mean prediction is what is left open in total. Of it, the mean entropy of the single posterior draws
is in the data (aleatoric: more examples would not help), and the rest, the mutual information between the class and
the parameters of the head, is in the head (epistemic: the draws disagree). Depeweg et al. (2018), arXiv:1710.07283.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import entr

__all__ = ["Uncertainty", "decompose", "entropy"]


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """The uncertainty of each row, by its source: arrays of shape (n_samples,), or None for what the head cannot know.

    Attributes
    ----------
    total : ndarray or None
        Entropy of the class probabilities in nats, from 0 to log(n_classes); None without probabilities. Where the head
        has posterior draws, of their mean, so that ``total = aleatoric + epistemic``.
    aleatoric, epistemic : ndarray or None
        Mean entropy of the draws, and the mutual information that is left; None without posterior draws.
    variance : ndarray or None
        The variance of the head's own latent function; None where it has none. Its unit is the head's.
    unfamiliarity : ndarray or None
        How unlike the training features, by the default of `unfamiliarity`; larger is stranger.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import LrRepurposer
    >>> X, y = make_blobs(30, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> uncertainty = LrRepurposer(network, c=1.0).repurpose((X, y)).predict_uncertainty(X)
    >>> uncertainty.total.shape, uncertainty.epistemic  # one set of weights has no draws
    ((30,), None)
    """

    total: np.ndarray | None
    aleatoric: np.ndarray | None
    epistemic: np.ndarray | None
    variance: np.ndarray | None
    unfamiliarity: np.ndarray | None


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Return the entropy in nats over the last axis: (..., n_classes) to (...)."""
    return entr(np.asarray(probabilities, dtype=np.float64)).sum(axis=-1)


def decompose(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return total, aleatoric and epistemic entropy (n_samples,) of probabilities (n_draws, n_samples, n_classes)."""
    total = entropy(np.asarray(draws, dtype=np.float64).mean(axis=0))
    of_each = np.stack([entropy(draw) for draw in draws])  # one by one: their terms would be as large as all draws
    aleatoric = np.minimum(of_each.mean(axis=0), total)  # equal draws may differ by rounding
    return total, aleatoric, total - aleatoric

"""Scores of a trained model on a target without labels, by which methods and parameters may be chosen.

None of them measures accuracy. How often each one's choice is right is for measurements to say, not for its formula.
"""

import numpy as np
from scipy.special import logsumexp

from repurpose.uncertainty.decomposition import entropy

__all__ = ["METHODS", "negative_entropy", "soft_neighbourhood_density", "weighted_accuracy"]

METHODS = ("iwv", "entropy", "snd")
_TEMPERATURE = 0.05  # of the paper
_ROWS_AT_ONCE = 1000


def weighted_accuracy(is_right: np.ndarray, weights: np.ndarray) -> float:
    """Return the share of right answers (n_source,) to source rows that count as often as the target has their like.

    Importance-weighted validation: Sugiyama, Krauledat and Müller (2007), Covariate shift adaptation by importance
    weighted cross validation, JMLR 8.
    """
    return float(np.average(is_right, weights=weights))


def negative_entropy(probabilities: np.ndarray) -> float:
    """Return minus the mean entropy, in nats, of probabilities (n_rows, n_classes): 0 at most.

    Morerio, Cavazza and Murino (2018), Minimal-entropy correlation alignment, ICLR; arXiv:1711.10288.
    """
    return -float(entropy(probabilities).mean())


def soft_neighbourhood_density(probabilities: np.ndarray) -> float:
    """Return the mean entropy, in nats, of how similar each row's answer is to those of all others; large is dense.

    Similarities are cosines of probabilities (n_rows, n_classes) over a temperature of 0.05, a softmax over the others
    makes them a distribution: Saito, Kim, Teterwak, Sclaroff, Darrell and Saenko (2021), Tune it the right way:
    unsupervised validation of domain adaptation via soft neighborhood density, ICCV; arXiv:2108.10860. Raises
    ValueError for fewer than two rows.
    """
    if len(probabilities) < 2:
        raise ValueError('method="snd" compares rows with each other, and there is 1; give two or more')
    directions = probabilities / np.linalg.norm(probabilities, axis=1, keepdims=True)
    entropies = []
    for start in range(0, len(directions), _ROWS_AT_ONCE):
        similarities = directions[start : start + _ROWS_AT_ONCE] @ directions.T / _TEMPERATURE
        rows = np.arange(len(similarities))
        similarities[rows, start + rows] = -np.inf  # a row is no neighbour of its own
        logs = similarities - logsumexp(similarities, axis=1, keepdims=True)
        logs[rows, start + rows] = 0.0  # so that 0 log 0 is 0
        shares = np.exp(logs)
        shares[rows, start + rows] = 0.0
        entropies.append(-(shares * logs).sum(axis=1))
    return float(np.concatenate(entropies).mean())

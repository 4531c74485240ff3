"""A classifier that tells two domains apart: its odds are the ratio of their densities.

Bickel, Brückner and Scheffer (2009), Discriminative learning under covariate shift, JMLR 10.
"""

import warnings

import numpy as np
from torch import nn

from model_handler import Features, Source
from repurpose.meta_model import LrRepurposer
from repurpose.seeding import RandomState

__all__ = ["density_ratios", "effective_sample_size", "warn_of_few"]

_LEAST = 1e-12
_SMALL_SHARE = 0.1  # of the source rows


def density_ratios(
    source: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    source_model: nn.Module | Source | str,
    random_state: RandomState,
) -> np.ndarray:
    """Return how much more often the target has rows like each source row, 1 on average by `weights`: (n_source,).

    It is p/(1 - p), where p is the probability that a row is of the target by an `LrRepurposer` trained on features
    (n_source, n_features) and (n_target, n_features), in which source rows count `weights` (n_source,) times; its C is
    chosen by cross-validation, so that it is not sure of domains that it cannot tell apart.
    """
    rows = Features({"rows": np.concatenate([source, target])})
    is_target = np.repeat([0, 1], [len(source), len(target)])
    counts = np.concatenate([weights, np.ones(len(target))])
    classifier = LrRepurposer(source_model, ["rows"], random_state=random_state)
    classifier.repurpose(rows, is_target, sample_weight=counts)
    of_target = classifier.head_probabilities(source)[:, 1]
    ratios = of_target / np.maximum(1 - of_target, _LEAST)
    return ratios / np.average(ratios, weights=weights)


def effective_sample_size(weights: np.ndarray) -> float:
    """Return (sum w)^2 / sum w^2 of weights (n_rows,): as many rows of equal weight would vary as much (Kish 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def warn_of_few(weights: np.ndarray) -> None:
    """Give a UserWarning where the effective sample size of weighted source rows (n_source,) is below a tenth."""
    if (size := effective_sample_size(weights)) < _SMALL_SHARE * len(weights):
        warnings.warn(
            f"{len(weights)} source rows have an effective sample size of {size:.1f}: a few of them decide, since the "
            "domains hardly overlap. Methods that move rows, such as CoralRepurposer, need no overlap, and "
            'method="entropy" or "snd" scores without it',
            UserWarning,
            stacklevel=3,
        )

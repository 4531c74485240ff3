"""KLIEP: the ratio of two densities as a mixture of kernels, by the likelihood of the target.

Sugiyama, Suzuki, Nakajima, Kashima, von Bünau and Kawanabe (2008), Direct importance estimation for covariate shift
adaptation, Annals of the Institute of Statistical Mathematics 60.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from repurpose.data.folds import deal_folds
from repurpose.domain.distributions.kernels import gaussian_kernel, median_width
from repurpose.domain.distributions.standardization import Standardization
from repurpose.persistence.values.parts import storable
from repurpose.persistence.values.schema import Array, Number, Table

__all__ = ["KernelRatio", "fit_kernel_ratio", "fit_mixture"]

_MOST_CENTRES = 100  # rows of the target, as in the paper
# Times the median distance. With narrower kernels the ratio is large wherever the source has no row, which is not seen
# by the condition that it is 1 on average over these, and rows left out seem likely.
_WIDTHS = (0.5, 0.7, 1.0, 1.4, 2.0, 4.0)
_N_FOLDS = 5
_MOST_STEPS, _ACCURACY = 1000, 1e-4  # of the mean log likelihood
_TINY = 1e-300
_LEAST_MEAN = 0.5  # of the ratio over the source: 1, but for the shares of centres whose kernels are 0 there


@storable
@dataclass(frozen=True, eq=False)
class KernelRatio:
    """The ratio sum_l a_l k(x, c_l) of two densities, of rows whose columns are standardised first.

    Attributes
    ----------
    means, deviations : float64 ndarray of shape (n_features,)
        By which columns are standardised.
    centres : float64 ndarray of shape (n_centres, n_features)
        The c, standardised rows of the target.
    shares : float64 ndarray of shape (n_centres,)
        The a, at least 0.
    width : float
        Of the Gaussian kernel k.
    """

    means: np.ndarray
    deviations: np.ndarray
    centres: np.ndarray
    shares: np.ndarray
    width: float

    _schema: ClassVar[Table] = {
        "means": Array("n_features"),
        "deviations": Array("n_features", least=0),
        "centres": Array("n_centres", "n_features"),
        "shares": Array("n_centres", least=0),
        "width": Number(above=0),
    }

    def at(self, rows: np.ndarray) -> np.ndarray:
        """Return the ratio at rows (n_rows, n_features), 0 far from all centres: (n_rows,)."""
        standardized = Standardization(self.means, self.deviations).apply(rows)
        return gaussian_kernel(standardized, self.centres, self.width) @ self.shares


def fit_kernel_ratio(
    source: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    random_state: np.random.RandomState,
    groups: np.ndarray | None = None,
) -> KernelRatio:
    """Fit the ratio of the densities, target to source, of rows standardised over both domains.

    The ratio is a mixture of Gaussian kernels at up to 100 rows of the target (n_target, n_features), and is 1 on
    average over the source rows, weighted by `weights` (n_source,). The width is that among 0.5 to 4 median distances
    under which rows of the target that were left out of five folds, those of one of the `groups` (n_target,) together,
    are most likely. Memory: 800 bytes a row, three times, beside the standardised rows. Raises ValueError for domains
    so far apart that most kernels are 0.
    """
    pooled = Standardization.of(np.concatenate([source, target]))
    source, target = pooled.apply(source), pooled.apply(target)
    order = random_state.permutation(len(target))
    target, centres = target[order], target[order[:_MOST_CENTRES]]
    folds = np.arange(len(target)) % min(_N_FOLDS, len(target))
    if groups is not None:
        dealt = deal_folds(np.zeros(len(target), dtype=np.int64), random_state, groups[order])
        folds = folds if dealt is None else dealt
    unit = median_width(np.concatenate([source, target]))
    scores = {}
    for width in (factor * unit for factor in _WIDTHS):
        of_target, of_source = (gaussian_kernel(rows, centres, width) for rows in (target, source))
        means = np.average(of_source, axis=0, weights=weights)
        left_out = [
            np.log(np.maximum(of_target[folds == fold] @ fit_mixture(of_target[folds != fold], means), _TINY))
            for fold in range(folds.max() + 1)
        ]
        scores[width] = np.concatenate(left_out).mean()
    width = max(scores, key=scores.__getitem__)
    of_target, of_source = (gaussian_kernel(rows, centres, width) for rows in (target, source))
    shares = fit_mixture(of_target, np.average(of_source, axis=0, weights=weights))
    if not np.average(of_source @ shares, weights=weights) > _LEAST_MEAN:
        raise ValueError(
            "KLIEP finds no ratio of domains so far apart: kernels at most rows of the target are 0 at all of the "
            'source. Use method="classifier", or CoralRepurposer and its like, which move rows'
        )
    return KernelRatio(pooled.means, pooled.deviations, centres, shares, width)


def fit_mixture(of_target: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Return the a >= 0 (n_centres,) with `means`'a = 1 that makes sum_j log(sum_l a_l k(z_j, c_l)) largest.

    `of_target` are the k(z_j, c_l), (n_target, n_centres), and `means` (n_centres,) the averages of the kernels over
    the source. As shares b_l = a_l means_l of a mixture the problem is that of EM for known components, which never
    goes down and ends at the one maximum: no step size is to be chosen.
    """
    means = np.maximum(means, _TINY)  # a centre where there is no source at all
    components = of_target / means
    shares = np.full(len(means), 1 / len(means))
    for _ in range(_MOST_STEPS):
        densities = np.maximum(components @ shares, _TINY)
        factors = (components / densities[:, None]).mean(axis=0)
        # The largest factor bounds how much the mean log likelihood can still rise.
        if factors.max() < 1 + _ACCURACY:
            break
        shares = shares * factors
    return shares / shares.sum() / means

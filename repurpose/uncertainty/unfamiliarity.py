"""Scores of unfamiliarity, for out-of-distribution (OOD) detection, say how unlike the training rows a row is.

Larger is less familiar.

Detectors are fitted to training rows:

- Mahalanobis distance to the nearest class mean, under one covariance of all classes, shrunk by Ledoit and Wolf (2004),
  without which it could not be inverted for fewer rows than features. Lee et al. (2018), arXiv:1807.03888.
- Relative Mahalanobis distance: the same, less the distance to the mean of all rows under the covariance of all rows,
  which takes out directions in which anything varies. Ren et al. (2021), arXiv:2106.09022.
- Mixed: between the two by how many rows there are a class, of rows brought to norm 1. Müller and Hein (2025),
  arXiv:2505.18032, found norm 1 better for the other two.
- Distance to the nearest training row, all rows of norm 1. Sun et al. (2022), arXiv:2204.06507.

Means, covariances and their shrinkage count a row of weight w as w rows; the nearest row is the nearest at any weight.

Energy asks the head instead of the features, and is no better than the head: where logits are linear in the features,
inputs of another kind may have them far apart. Scores of the training rows themselves say nothing: with more features
than rows they are far too small.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from repurpose.uncertainty.gaussian import Gaussian

__all__ = [
    "DETECTORS",
    "Detector",
    "Mahalanobis",
    "MixedMahalanobis",
    "NearestRows",
    "RelativeMahalanobis",
    "energy",
]

_SMALLEST = float(np.finfo(np.float64).tiny)  # in place of a probability of 0
# Of `MixedMahalanobis`, by `python -m benchmarks unfamiliar`.
_MANY_FEATURES = 16  # of more, directions alone count for more than the rows as they are
_MAX_OVERALL_WEIGHT = 0.95  # with 1, directions in which the known classes agree and far inputs differ would not count


class Detector(Protocol):
    """A detector is fitted to training rows and gives other rows a score."""

    def score(self, rows: np.ndarray) -> np.ndarray:
        """Return how strange each row is: (n_samples, n_features) to float64 (n_samples,)."""
        ...


@dataclass(frozen=True, eq=False)
class Mahalanobis:
    """Squared distance to the nearest class mean, after each layer was divided by its spread within the classes.

    Attributes
    ----------
    center, factors : float64 ndarray of shape (n_features,)
        Rows become (x - `center`) * `factors`.
    gaussian : Gaussian
        The covariance within the classes.
    white_means : float64 ndarray of shape (n_classes, m)
        The means of the classes, whitened.
    """

    center: np.ndarray
    factors: np.ndarray
    gaussian: Gaussian
    white_means: np.ndarray

    @classmethod
    def fit(
        cls,
        rows: np.ndarray,
        codes: np.ndarray,
        indices_per_layer: Mapping[str, np.ndarray],
        weights: np.ndarray | None = None,
    ) -> "Mahalanobis":
        """Fit to rows (n_samples, n_features) of classes `codes` (n_samples,), which may have `weights` (n_samples,).

        With one example of each class, nothing varies within classes: the spread around the mean of all must do.
        """
        center = rows.mean(axis=0, dtype=np.float64) if weights is None else np.average(rows, axis=0, weights=weights)
        centred = rows - center
        present, members = np.unique(codes, return_inverse=True)
        weighted = centred if weights is None else centred * weights[:, None]
        means = _sums(weighted, members) / np.bincount(members, weights)[:, None]
        # Of one row a class nothing would be left after its mean is taken away.
        within = centred if len(present) == len(rows) else centred - means[members]
        factors = _balance(within, center, indices_per_layer, weights)
        gaussian = Gaussian.fit(within * factors, weights)
        return cls(center, factors, gaussian, gaussian.whiten(means * factors))

    def score(self, rows: np.ndarray) -> np.ndarray:
        """Return the squared distance of each row to the nearest class mean: (n_samples,)."""
        return self.distances(self.whiten(rows))

    def whiten(self, rows: np.ndarray) -> np.ndarray:
        """Return rows centred, balanced and whitened: (n_samples, m)."""
        return self.gaussian.whiten((rows - self.center) * self.factors)

    def distances(self, white: np.ndarray) -> np.ndarray:
        """Return the squared distance of whitened rows (n_samples, m) to the nearest class mean: (n_samples,)."""
        from sklearn.metrics.pairwise import euclidean_distances

        return euclidean_distances(white, self.white_means, squared=True).min(axis=1)


@dataclass(frozen=True, eq=False)
class RelativeMahalanobis:
    """The distance of `Mahalanobis`, less the squared distance to the mean of all rows by the covariance of all rows.

    The latter is the covariance within the classes, shrunk as it is, plus that of the class means. Two covariances
    shrunk apart would leave, in directions in which no training row varies, a difference that means nothing.

    Attributes
    ----------
    within : Mahalanobis
    directions : float64 ndarray of shape (n_directions, m)
        Orthonormal, those in which the whitened class means vary, which count by the roots of their shares of the rows.
    explained : float64 ndarray of shape (n_directions,)
        Of the squared distance in each, the part that is taken out: s^2 / (1 + s^2) for a deviation s of the means.
    overall_weight : float
        How much of the distance to the mean of all rows is subtracted: 1 for all of it, 0 for none.
    """

    within: Mahalanobis
    directions: np.ndarray
    explained: np.ndarray
    overall_weight: float = 1.0

    @classmethod
    def fit(
        cls,
        rows: np.ndarray,
        codes: np.ndarray,
        indices_per_layer: Mapping[str, np.ndarray],
        weights: np.ndarray | None = None,
        overall_weight: float = 1.0,
    ) -> "RelativeMahalanobis":
        """Fit to rows as `Mahalanobis.fit` does."""
        within = Mahalanobis.fit(rows, codes, indices_per_layer, weights)
        counts = np.bincount(np.unique(codes, return_inverse=True)[1], weights)
        # In whitened space the covariance within is I, so that of all rows is I + M^T M for these weighted means M.
        means = within.white_means * np.sqrt(counts / counts.sum())[:, None]
        _, deviations, directions = np.linalg.svd(means, full_matrices=False)
        with np.errstate(divide="ignore"):  # a deviation of 0 explains nothing
            explained = 1 / (1 + deviations**-2.0)
        return cls(within, directions, explained, overall_weight)

    def score(self, rows: np.ndarray) -> np.ndarray:
        """Return how strange each row is, of either sign: (n_samples,)."""
        white = self.within.whiten(rows)
        along = white @ self.directions.T
        to_all = (white**2).sum(axis=1) - along**2 @ self.explained  # Woodbury, in the directions of the means
        return self.within.distances(white) - self.overall_weight * to_all


@dataclass(frozen=True, eq=False)
class MixedMahalanobis:
    """Partly relative Mahalanobis distance of rows whose layers have norm 1, and some of that of the rows as they are.

    Relative distances look at the directions in which the classes differ, which finds other classes of the same kind
    best, once enough rows tell these directions; in all others, where inputs of another kind differ, they are nearly
    blind. So 1 - 2 C / n of the distance to the mean of all is taken off, for n rows of C classes: nothing at two rows
    a class, and never all. Norm 1 takes out what differs between images of a class, as contrast does.

    Of d features, the rows as they are have a weight of 16 / d. Few features are more like normal variables, of which
    norm 1 loses much, and there `Mahalanobis` decides; among a thousand, it finds rows that are far too long or short.

    Attributes
    ----------
    of_directions : RelativeMahalanobis
    of_rows : Mahalanobis
    indices_per_layer : mapping of str to int ndarray
    """

    of_directions: RelativeMahalanobis
    of_rows: Mahalanobis
    indices_per_layer: Mapping[str, np.ndarray]

    @classmethod
    def fit(
        cls,
        rows: np.ndarray,
        codes: np.ndarray,
        indices_per_layer: Mapping[str, np.ndarray],
        weights: np.ndarray | None = None,
    ) -> "MixedMahalanobis":
        """Fit to rows as `Mahalanobis.fit` does; a row of weight w counts as w rows of its class."""
        n_rows = len(rows) if weights is None else float(weights.sum())
        overall_weight = float(np.clip(1 - 2 * len(np.unique(codes)) / n_rows, 0, _MAX_OVERALL_WEIGHT))
        directions = _with_norm_one(rows, indices_per_layer)
        return cls(
            RelativeMahalanobis.fit(directions, codes, indices_per_layer, weights, overall_weight),
            Mahalanobis.fit(rows, codes, indices_per_layer, weights),
            indices_per_layer,
        )

    def score(self, rows: np.ndarray) -> np.ndarray:
        """Return how strange each row is, of either sign: (n_samples,)."""
        directions = _with_norm_one(rows, self.indices_per_layer)
        return self.of_directions.score(directions) + self.weight_of_rows * self.of_rows.score(rows)

    @property
    def weight_of_rows(self) -> float:
        """How much the distance of the rows as they are counts."""
        return _MANY_FEATURES / len(self.of_rows.center)


@dataclass(frozen=True, eq=False)
class NearestRows:
    """Distance to the nearest of the training rows, each layer of norm 1 in every row.

    Sun et al. take the 50th of 50,000 rows. Of 30 to 300 rows, the nearest told held-out digits apart better than the
    3rd, 5th or 10th did.
    """

    rows: np.ndarray
    indices_per_layer: Mapping[str, np.ndarray]

    @classmethod
    def fit(
        cls,
        rows: np.ndarray,
        codes: np.ndarray,
        indices_per_layer: Mapping[str, np.ndarray],
        weights: np.ndarray | None = None,
    ) -> "NearestRows":
        """Keep rows (n_samples, n_features); codes and weights are not needed."""
        return cls(_with_norm_one(rows, indices_per_layer), indices_per_layer)

    def score(self, rows: np.ndarray) -> np.ndarray:
        """Return the distance of each row, from 0 to 2 times the root of the number of layers: (n_samples,)."""
        from sklearn.metrics import pairwise_distances_argmin_min

        _, distances = pairwise_distances_argmin_min(_with_norm_one(rows, self.indices_per_layer), self.rows)
        return distances.astype(np.float64)


DETECTORS: dict[str, type[Mahalanobis | RelativeMahalanobis | MixedMahalanobis | NearestRows]] = {
    "mixed_mahalanobis": MixedMahalanobis,
    "mahalanobis": Mahalanobis,
    "relative_mahalanobis": RelativeMahalanobis,
    "knn": NearestRows,
}


def energy(probabilities: np.ndarray) -> np.ndarray:
    """Compute -log sum exp(logit): (n_samples, n_classes) to (n_samples,). Liu et al. (2020), arXiv:2010.03759.

    Probabilities tell logits only up to a number for each row. With logits that have mean 0 in each row, as those of
    scikit-learn's logistic regression have, the energy is the mean of log p over the classes. It needs logits that fall
    off away from the training rows, as those of a Gaussian process do. Those of `LrRepurposer` and `SvmRepurposer` do
    not: on digits the area under the ROC curve for other images was .3 and .2, and below .4 with the raw scores.
    """
    return np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST)).mean(axis=1)


def _sums(rows: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return the sum of the rows of each group: (n_groups, n_features)."""
    by_group = np.argsort(members, kind="stable")
    starts = np.flatnonzero(np.diff(members[by_group], prepend=-1))
    return np.add.reduceat(rows[by_group], starts, axis=0)


def _balance(
    within: np.ndarray, center: np.ndarray, indices_per_layer: Mapping[str, np.ndarray], weights: np.ndarray | None
) -> np.ndarray:
    """Return one number a layer, by which its rows get a mean squared norm of 1; by its size where it never varies."""
    spread = (within**2).mean(axis=0) if weights is None else np.average(within**2, axis=0, weights=weights)
    factors = np.ones(within.shape[1])
    for columns in indices_per_layer.values():
        size = spread[columns].sum() or (center[columns] ** 2).sum()
        factors[columns] = 1 / np.sqrt(size) if size > 0 else 1.0
    return factors


def _with_norm_one(rows: np.ndarray, indices_per_layer: Mapping[str, np.ndarray]) -> np.ndarray:
    """Divide each layer of each row by its norm, as float32; what is 0 stays 0."""
    scaled = np.empty(rows.shape, dtype=np.float32)
    for columns in indices_per_layer.values():
        layer = rows[:, columns].astype(np.float64)
        norms = np.linalg.norm(layer, axis=1, keepdims=True)
        scaled[:, columns] = layer / np.where(norms > 0, norms, 1)
    return scaled

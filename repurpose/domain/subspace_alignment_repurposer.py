"""`SubspaceAlignmentRepurposer`: the principal axes of the source are turned into those of the target, in closed form.

Fernando, Habrard, Sebban and Tuytelaars (2013), Unsupervised visual domain adaptation using subspace alignment, ICCV.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from torch import nn

from model_handler import Source
from repurpose.domain.distributions.standardization import Standardization, covariance
from repurpose.domain.domain_repurposer import DomainRepurposer
from repurpose.domain.domains import Domains
from repurpose.parameters import is_whole
from repurpose.persistence.values.schema import Array, Maybe, Table

__all__ = ["SubspaceAlignmentRepurposer", "principal_axes"]

_SHARE_KEPT = 0.9  # of the variance of the target


class SubspaceAlignmentRepurposer(DomainRepurposer):
    """A head trained in the principal subspace of the target, into which that of the source is turned.

    Features are standardised within each domain. With the first k principal axes P_S and P_T of the domains
    (n_features, k), source rows x become P_T' P_S P_S' x and rows of the target P_T' x. Labels of the target are not
    used for it; those that there are train the head too. Where classes are not equally frequent in both domains, it
    aligns what should differ.

    Parameters
    ----------
    source_model, feature_layer_names, head
        As in `DomainRepurposer`.
    n_components : int or None, default=None
        The k. None takes as few as hold 90 % of the variance of the standardised target, and at most one less than the
        rows of the smaller domain.
    **kwargs
        The parameters of `DomainRepurposer`, `MetaModelRepurposer` and `Repurposer`.

    Attributes
    ----------
    target_means_, target_deviations_ : float64 ndarray of shape (n_features,)
        By which rows of the target are standardised.
    target_axes_ : float64 ndarray of shape (n_features, k)
        The P_T.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose.domain import SubspaceAlignmentRepurposer
    >>> X, y = make_blobs(90, random_state=8)
    >>> target, network = 3 * X[45:] + 20, nn.Sequential(nn.Identity())
    >>> repurposer = SubspaceAlignmentRepurposer(network, ["0"], n_components=2)
    >>> repurposer.repurpose(target, source_data=(X[:45], y[:45])).score(target, y[45:])
    1.0
    """

    _schema: ClassVar[Table] = {
        "target_means_": Maybe(Array("n_features")),
        "target_deviations_": Maybe(Array("n_features", least=0)),
        "target_axes_": Maybe(Array("n_features", "n_adapted")),
    }

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        feature_layer_names: Sequence[str] | str | None = None,
        *,
        n_components: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(source_model, feature_layer_names, **kwargs)
        self.n_components = n_components

    def _adapt_source(self, domains: Domains) -> tuple[np.ndarray, np.ndarray]:
        weights = domains.source_weights
        target = Standardization.of(domains.target)
        self.target_means_, self.target_deviations_ = target.means, target.deviations
        source = Standardization.of(domains.source, weights).apply(domains.source)
        variances, axes = principal_axes(covariance(target.apply(domains.target)))
        most = min(len(domains.source) - 1, len(domains.target) - 1, axes.shape[1])
        k = _n_components(variances, most) if self.n_components is None else self._checked_n_components(most)
        of_source = principal_axes(covariance(source, weights))[1][:, :k]
        self.target_axes_ = axes[:, :k]
        return (source @ of_source @ (of_source.T @ self.target_axes_)).astype(np.float32), weights

    def _adapt_rows(self, matrix: np.ndarray) -> np.ndarray:
        standardized = Standardization(self.target_means_, self.target_deviations_).apply(matrix)
        return (standardized @ self.target_axes_).astype(np.float32)

    def _checked_n_components(self, most: int) -> int:
        if self.n_components is None or self.n_components > most:
            raise ValueError(
                f"n_components={self.n_components!r} is more than these rows and features have; give at most {most}"
            )
        return self.n_components

    def _parameter_mistakes(self) -> list[str]:
        mistakes = super()._parameter_mistakes()
        if self.n_components is not None and not is_whole(self.n_components, 1):
            mistakes.append(f"n_components must be a whole number of at least 1, or None, got {self.n_components!r}")
        return mistakes


def principal_axes(symmetric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the variances (n_features,) along the principal axes (n_features, n_features), the largest first."""
    values, vectors = np.linalg.eigh(symmetric)
    return values[::-1], vectors[:, ::-1]


def _n_components(variances: np.ndarray, most: int) -> int:
    shares = np.cumsum(np.maximum(variances, 0)) / np.maximum(variances, 0).sum()
    return min(most, 1 + int(np.searchsorted(shares, _SHARE_KEPT)))

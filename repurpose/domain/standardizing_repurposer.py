"""`StandardizingRepurposer` is the base of methods that bring both domains into units of their own first."""

from typing import ClassVar

import numpy as np
from torch import nn

from repurpose.domain.distributions.standardization import Standardization
from repurpose.domain.domain_repurposer import DomainRepurposer
from repurpose.domain.domains import Domains
from repurpose.domain.onnx_rows import StandardizedRows
from repurpose.persistence.values.schema import Array, Maybe, Table

__all__ = ["StandardizingRepurposer"]


class StandardizingRepurposer(DomainRepurposer):
    """Base of methods that standardise the features within each domain, and go on from there with the hook `_move`.

    That corrects means and scales, and takes a difference in how frequent classes are for one of the inputs.

    Attributes
    ----------
    target_means_, target_deviations_ : float64 ndarray of shape (n_features,)
        By which rows of the target are standardised.
    """

    target_means_: np.ndarray
    target_deviations_: np.ndarray

    _schema: ClassVar[Table] = {
        "target_means_": Maybe(Array("n_features")),
        "target_deviations_": Maybe(Array("n_features", least=0)),
    }

    def _adapt_source(self, domains: Domains) -> tuple[np.ndarray, np.ndarray]:
        moved = self._move(*self._standardized(domains), domains.source_weights)
        return moved.astype(np.float32), domains.source_weights

    def _adapt_rows(self, matrix: np.ndarray) -> np.ndarray:
        return self._in_units_of_target(matrix).astype(np.float32)

    def _onnx_rows(self) -> nn.Module | None:
        if type(self)._adapt_rows is not StandardizingRepurposer._adapt_rows:
            return super()._onnx_rows()
        return StandardizedRows(self.target_means_, self.target_deviations_)

    def _standardized(self, domains: Domains) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of source and target, float64, each domain in its own units; those of the target are kept."""
        target = Standardization.of(domains.target)
        self.target_means_, self.target_deviations_ = target.means, target.deviations
        source = Standardization.of(domains.source, domains.source_weights)
        return source.apply(domains.source), target.apply(domains.target)

    def _adapt_later_source(self, source: np.ndarray, weights: np.ndarray, target: np.ndarray) -> np.ndarray:
        standardized = Standardization.of(source, weights).apply(source)
        return self._move(standardized, self._in_units_of_target(target), weights).astype(np.float32)

    def _move(self, source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Hook: source rows as the head shall see them, (n_source, n_adapted); both domains come in their own units."""
        return source

    def _in_units_of_target(self, matrix: np.ndarray) -> np.ndarray:
        return Standardization(self.target_means_, self.target_deviations_).apply(matrix)

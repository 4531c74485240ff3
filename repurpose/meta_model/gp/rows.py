"""Inputs of the kernel are the features of each layer, centred, and brought to unit norm row by row.

What centring leaves is a direction and a length. The kernel looks at directions only (`unit_norm`), or at both, with
one number a layer for the scale; in either case features of any size come to rows of about norm 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from repurpose.data.scaling import center_and_variance
from repurpose.persistence.values.parts import storable
from repurpose.persistence.values.schema import Array, Table, Truth

__all__ = ["LayerRows"]

_NOTHING = 1e-10  # a row this small beside the others is the rounding error of a row at the centre


@storable
@dataclass(frozen=True, eq=False)
class LayerRows:
    """Turns the columns of each layer, less `center`, into rows of norm 1, or divides them by the layer's typical norm.

    Attributes
    ----------
    center : ndarray of shape (n_features,)
    widths : int64 ndarray of shape (n_layers,)
        How many columns each layer has, side by side.
    norms : ndarray of shape (n_layers,)
        The root-mean-square norm of the centred training rows; 0 for a layer whose features never vary, whose rows are
        zero here, in training and ever after.
    unit_norm : bool
    """

    center: np.ndarray
    widths: np.ndarray
    norms: np.ndarray
    unit_norm: bool

    _schema: ClassVar[Table] = {
        "center": Array("n_features"),
        "widths": Array("n_layers", dtypes="int64", least=0),
        "norms": Array("n_layers", least=0),
        "unit_norm": Truth(),
    }

    @classmethod
    def fit(
        cls,
        features: np.ndarray,
        indices_per_layer: Mapping[str, np.ndarray],
        weights: np.ndarray | None = None,
        *,
        unit_norm: bool,
    ) -> "LayerRows":
        """Fit to training features (n_samples, n_features), whose layers stand side by side; rows may have weights."""
        return cls.of_moments(*center_and_variance(features, weights), indices_per_layer, unit_norm)

    @classmethod
    def of_moments(
        cls, center: np.ndarray, variances: np.ndarray, indices_per_layer: Mapping[str, np.ndarray], unit_norm: bool
    ) -> "LayerRows":
        """Fit to rows whose columns have this mean and variance, each (n_features,)."""
        widths = np.array([len(columns) for columns in indices_per_layer.values()], dtype=np.int64)
        norms = np.array([variances[columns].sum() for columns in indices_per_layer.values()]) ** 0.5
        return cls(center, widths, norms, unit_norm)

    def transform(self, features: np.ndarray) -> list[Tensor]:
        """Return the rows of raw features: a float64 tensor (n_samples, width) for each layer."""
        rows, start = [], 0
        for width, typical in zip(self.widths.tolist(), self.norms.tolist()):
            columns = slice(start, start + width)
            start += width
            if typical == 0:
                rows.append(torch.zeros(len(features), width, dtype=torch.float64))
                continue
            layer = features[:, columns] - self.center[columns]
            layer /= typical
            if self.unit_norm:
                norms = np.linalg.norm(layer, axis=1, keepdims=True)
                # Divided by infinity, a row at the centre becomes zero: it has no direction.
                layer /= np.where(norms > _NOTHING, norms, np.inf)
            rows.append(torch.from_numpy(layer))
        return rows

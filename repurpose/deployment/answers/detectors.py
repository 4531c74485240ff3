"""The detectors of `repurpose.uncertainty.unfamiliarity` as modules, from features to scores: larger is stranger."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from repurpose.deployment.answers.tensors import double
from repurpose.uncertainty import unfamiliarity
from repurpose.uncertainty.unfamiliarity import Detector

__all__ = ["Energy", "detector_module"]

_SMALLEST = float(np.finfo(np.float64).tiny)  # as in `unfamiliarity.energy`


class Whitening(nn.Module):
    """Rows centred, balanced and whitened: float64 (n_rows, n_features) to (n_rows, m)."""

    center: Tensor
    factors: Tensor
    directions: Tensor
    deviations: Tensor
    rest: Tensor

    def __init__(self, fitted: unfamiliarity.Mahalanobis) -> None:
        super().__init__()
        gaussian = fitted.gaussian
        self.is_whole = gaussian.directions.shape[0] == gaussian.directions.shape[1]
        self.register_buffer("center", double(fitted.center))
        self.register_buffer("factors", double(fitted.factors))
        self.register_buffer("directions", double(gaussian.directions))
        self.register_buffer("deviations", double(np.sqrt(gaussian.variances)))
        self.register_buffer("rest", double(np.sqrt(gaussian.rest)))

    def forward(self, rows: Tensor) -> Tensor:
        """Whiten float64 rows."""
        balanced = (rows - self.center) * self.factors
        along = balanced @ self.directions
        white = along / self.deviations
        if self.is_whole:
            return white
        inside = (self.directions @ along.T).T  # so that the matrix is in the file once
        return torch.cat([white, (balanced - inside) / self.rest], dim=1)


class Mahalanobis(nn.Module):
    """Squared distance to the nearest class mean: float64 rows (n_rows, n_features) to (n_rows,)."""

    white_means: Tensor
    squares: Tensor

    def __init__(self, fitted: unfamiliarity.Mahalanobis) -> None:
        super().__init__()
        self.whiten = Whitening(fitted)
        self.register_buffer("white_means", double(fitted.white_means.T))
        self.register_buffer("squares", double(np.square(fitted.white_means).sum(axis=1)))

    def forward(self, rows: Tensor) -> Tensor:
        """Score float64 rows."""
        return self.distances(self.whiten(rows))

    def distances(self, white: Tensor) -> Tensor:
        """Return the squared distance of whitened rows (n_rows, m) to the nearest class mean: (n_rows,)."""
        own = white.square().sum(dim=1, keepdim=True)
        return (own - 2 * (white @ self.white_means) + self.squares).amin(dim=1).clamp(min=0)


class RelativeMahalanobis(nn.Module):
    """The same, less a share of the distance to the mean of all rows."""

    directions: Tensor
    explained: Tensor
    overall_weight: Tensor

    def __init__(self, fitted: unfamiliarity.RelativeMahalanobis) -> None:
        super().__init__()
        self.within = Mahalanobis(fitted.within)
        self.register_buffer("directions", double(fitted.directions.T))
        self.register_buffer("explained", double(fitted.explained))
        self.register_buffer("overall_weight", double(fitted.overall_weight))

    def forward(self, rows: Tensor) -> Tensor:
        """Score float64 rows."""
        white = self.within.whiten(rows)
        along = white @ self.directions
        to_all = white.square().sum(dim=1) - along.square() @ self.explained
        return self.within.distances(white) - self.overall_weight * to_all


class NormOne(nn.Module):
    """Each layer of each row divided by its norm and rounded to float32, as the detectors were fitted."""

    def __init__(self, indices_per_layer: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.widths = [len(columns) for columns in indices_per_layer.values()]

    def forward(self, rows: Tensor) -> Tensor:
        """Return float64 rows whose numbers are those of float32."""
        scaled = []
        for layer in rows.split(self.widths, dim=1):
            norms = layer.square().sum(dim=1, keepdim=True).sqrt()
            scaled.append(layer / torch.where(norms > 0, norms, torch.ones_like(norms)))
        return torch.cat(scaled, dim=1).float().double()


class MixedMahalanobis(nn.Module):
    """Relative Mahalanobis distance of rows whose layers have norm 1, and some of that of the rows as they are."""

    weight_of_rows: Tensor

    def __init__(self, fitted: unfamiliarity.MixedMahalanobis) -> None:
        super().__init__()
        self.with_norm_one = NormOne(fitted.indices_per_layer)
        self.of_directions = RelativeMahalanobis(fitted.of_directions)
        self.of_rows = Mahalanobis(fitted.of_rows)
        self.register_buffer("weight_of_rows", double(fitted.weight_of_rows))

    def forward(self, rows: Tensor) -> Tensor:
        """Score float64 rows."""
        return self.of_directions(self.with_norm_one(rows)) + self.weight_of_rows * self.of_rows(rows)


class NearestRows(nn.Module):
    """Distance to the nearest training row, each layer of norm 1 in every row."""

    rows: Tensor
    squares: Tensor

    def __init__(self, fitted: unfamiliarity.NearestRows) -> None:
        super().__init__()
        self.with_norm_one = NormOne(fitted.indices_per_layer)
        self.register_buffer("rows", torch.from_numpy(fitted.rows))  # float32, as they were kept
        self.register_buffer("squares", double(np.square(fitted.rows, dtype=np.float64).sum(axis=1)))

    def forward(self, rows: Tensor) -> Tensor:
        """Score float64 rows."""
        scaled = self.with_norm_one(rows)
        nearest = (self.squares - 2 * (scaled @ self.rows.double().T)).argmin(dim=1)
        # From the two rows themselves: the difference of squares would lose small distances.
        return (scaled - self.rows.index_select(0, nearest).double()).square().sum(dim=1).sqrt()


class Energy(nn.Module):
    """The mean logarithm of the head's probabilities: (n_rows, n_classes), before calibration, to (n_rows,)."""

    smallest: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("smallest", double(_SMALLEST))

    def forward(self, probabilities: Tensor) -> Tensor:
        """Score rows by their probabilities."""
        return torch.log(torch.maximum(probabilities.double(), self.smallest)).mean(dim=1)


_MODULES = {
    unfamiliarity.MixedMahalanobis: MixedMahalanobis,
    unfamiliarity.RelativeMahalanobis: RelativeMahalanobis,
    unfamiliarity.Mahalanobis: Mahalanobis,
    unfamiliarity.NearestRows: NearestRows,
}


class InDouble(nn.Module):
    """Features as float64."""

    def forward(self, rows: Tensor) -> Tensor:
        """Convert features of any type."""
        return rows.double()


def detector_module(fitted: Detector) -> nn.Module:
    """Return the module of a detector, which takes features (n_rows, n_features).

    Raises NotImplementedError for a detector that is not of this library.
    """
    for kind, module in _MODULES.items():
        if isinstance(fitted, kind):
            return nn.Sequential(InDouble(), module(fitted))
    raise NotImplementedError(f"a detector of the class {type(fitted).__name__} cannot be exported")

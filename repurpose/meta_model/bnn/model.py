"""The fitted Bayesian network is kept as arrays, and predicts by the mean over networks drawn from its guide."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from repurpose.meta_model.bnn.rows import PrincipalRows
from repurpose.persistence.values.parts import storable
from repurpose.persistence.values.schema import Array, Items, Object, Table, Whole

__all__ = ["MOST_DRAWS", "BnnModel", "with_one"]

_MAX_ELEMENTS = 2**22  # of drawn weights, or of a batch's outputs: 32 MB
MOST_DRAWS = 10_000  # the error of a mean of as many probabilities is below 0.005
_MIN_PROBABILITY = 1e-15  # a probability that no finite number of draws can tell from 0


@storable
@dataclass(frozen=True, eq=False)
class BnnModel:
    """Networks of independent normal weights, for raw features.

    Attributes
    ----------
    rows : PrincipalRows
    means, deviations : list of ndarray (n_inputs, n_outputs)
        The means and deviations of the weights of each map: the skip, the hidden layers, the last layer.
    intercepts : ndarray of shape (n_classes,)
    n_draws, seed : int
        How many networks are averaged for probabilities, and what they are drawn from.
    """

    rows: PrincipalRows
    means: list[np.ndarray]
    deviations: list[np.ndarray]
    intercepts: np.ndarray
    n_draws: int
    seed: int

    _schema: ClassVar[Table] = {
        "rows": Object(PrincipalRows),
        # `check_maps` knows how their shapes follow from each other.
        "means": Items(Array("n_inputs", "n_outputs"), n="n_maps", apart=True),
        "deviations": Items(Array("n_inputs", "n_outputs", least=0), n="n_maps", apart=True),
        "intercepts": Array("n_classes"),
        "n_draws": Whole(1, MOST_DRAWS),
        "seed": Whole(0, 2**32 - 1),
    }

    def check_maps(self, n_layers: int, width: int) -> None:
        """Raise ValueError unless the maps fit each other, with so many hidden layers of that width."""
        n_inputs, n_classes = self.rows.components.shape[1], len(self.intercepts)
        widths = [n_inputs, *[width] * n_layers]
        expected = [(n_inputs, n_classes), *((a + 1, b) for a, b in pairwise(widths)), (width, n_classes)]
        for name, maps in (("means", self.means), ("deviations", self.deviations)):
            if (found := [each.shape for each in maps]) != expected:
                raise ValueError(
                    f"the {name} of its target_model_ have the shapes {found}, where {expected} were expected"
                )

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the mean probabilities of raw rows over the networks drawn: (n_rows, n_classes), float64, all above 0.

        Rows sum to 1; the same draws serve every row.
        """
        total = np.zeros((len(features), len(self.intercepts)))
        for _, rows, draws in self._parts(features, self.n_draws, np.random.RandomState(self.seed)):
            total[rows] += draws.sum(axis=0)
        return _above_zero(total / self.n_draws)

    def draws(self, features: np.ndarray, n_draws: int, random_state: np.random.RandomState) -> np.ndarray:
        """Return the probabilities of raw rows by each of so many networks: (n_draws, n_rows, n_classes)."""
        found = np.empty((n_draws, len(features), len(self.intercepts)))
        for which, rows, draws in self._parts(features, n_draws, random_state):
            found[which, rows] = _above_zero(draws)
        return found

    def drawn_weights(self) -> list[Tensor]:
        """Draw the weights by which `probabilities` averages: (n_draws, n_inputs, n_outputs) for each map."""
        return self._weights(self.n_draws, np.random.RandomState(self.seed))

    def _parts(
        self, features: np.ndarray, n_draws: int, rng: np.random.RandomState
    ) -> Iterator[tuple[slice, slice, np.ndarray]]:
        """Yield some draws for some rows at a time, with their places among all."""
        rows = torch.from_numpy(self.rows.transform(features))
        max_draws = max(1, _MAX_ELEMENTS // sum(mean.size for mean in self.means))
        for first in range(0, n_draws, max_draws):
            weights = self._weights(min(max_draws, n_draws - first), rng)
            size = max(1, _MAX_ELEMENTS // (len(weights[0]) * sum(mean.shape[1] for mean in self.means)))
            for start in range(0, len(rows), size):
                places = slice(first, first + len(weights[0])), slice(start, start + size)
                yield *places, self._outputs(rows[places[1]], weights)

    def _weights(self, n_draws: int, rng: np.random.RandomState) -> list[Tensor]:
        """Draw the weights of so many networks, one after the other: (n_draws, n_inputs, n_outputs) for each map."""
        normal = rng.standard_normal((n_draws, sum(mean.size for mean in self.means)))
        parts = np.split(normal, np.cumsum([mean.size for mean in self.means])[:-1], axis=1)
        shaped = (part.reshape(n_draws, *mean.shape) for part, mean in zip(parts, self.means))
        return [torch.from_numpy(m + d * part) for part, m, d in zip(shaped, self.means, self.deviations)]

    def _outputs(self, rows: Tensor, weights: list[Tensor]) -> np.ndarray:
        """Compute probabilities by each network, by one batched product a map: (n_draws, n_rows, n_classes)."""
        skip, *hidden_maps, last = weights
        hidden = rows
        for hidden_map in hidden_maps:
            hidden = torch.relu(with_one(hidden) @ hidden_map)
        logits = rows @ skip + hidden @ last + torch.from_numpy(self.intercepts)
        return torch.softmax(logits, dim=-1).numpy()


def with_one(rows: Tensor) -> Tensor:
    """Return a 1 beside each row (..., n_inputs), for the intercepts of a hidden layer."""
    return torch.cat([rows, rows.new_ones(*rows.shape[:-1], 1)], dim=-1)


def _above_zero(probabilities: np.ndarray) -> np.ndarray:
    raised = np.maximum(probabilities, _MIN_PROBABILITY)
    return raised / raised.sum(axis=-1, keepdims=True)

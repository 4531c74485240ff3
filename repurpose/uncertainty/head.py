"""`Head` is what the questions about uncertainty need of a Repurposer; `HeadMixin` answers for it by default."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from torch import nn

from model_handler import Features
from repurpose.seeding import RandomState, draw_seed, rng_at_prediction
from repurpose.uncertainty.calibration import Calibration

__all__ = ["Head", "HeadMixin"]

_MAX_ELEMENTS = 2**24  # of posterior draws in memory, 128 MB


class Head(Protocol):
    """A trained classifier of rows of features, a matrix (n_samples, n_features) of which its methods take."""

    def head_probabilities(self, matrix: np.ndarray) -> np.ndarray:
        """Return probabilities before any calibration: (n_samples, n_classes)."""
        ...

    def head_variances(self, matrix: np.ndarray) -> np.ndarray:
        """Return the variance of the latent function: (n_samples,)."""
        ...

    def _onnx_head(self) -> nn.Module | None:
        """Return a module that maps rows to what `head_probabilities` gives, or None."""
        ...

    def _onnx_variance(self) -> nn.Module | None:
        """Return a module that maps rows to what `head_variances` gives, or None."""
        ...

    def learn_from(self, rows: np.ndarray) -> dict[str, Any]:
        """Train a head of the same parameters on the training rows numbered `rows` (n_kept,): what it learned."""
        ...

    def with_learned(self, learned: Mapping[str, Any]) -> Self:
        """Return a head of the same parameters and classes that has learned what `learn_from` gave."""
        ...


class HeadMixin:
    """How a Repurposer answers for its head; subclasses say what their heads know by overriding these methods."""

    classes_: np.ndarray
    calibration_: Calibration
    random_state: RandomState

    _method_to_export: ClassVar[str] = "auto"  # of unfamiliarity

    def head_probabilities(self, matrix: np.ndarray) -> np.ndarray:
        """Return the head's probabilities for rows of features, before calibration.

        (n_samples, n_features) to (n_samples, n_classes).
        """
        raise NotImplementedError

    def head_samples(self, matrix: np.ndarray, n_draws: int, random_state: np.random.RandomState) -> np.ndarray:
        """Draw from the head's posterior for rows of features, before calibration: (n_draws, n_samples, n_classes)."""
        raise NotImplementedError

    def head_variances(self, matrix: np.ndarray) -> np.ndarray:
        """Return the variance of the head's latent function at rows of features: (n_samples,)."""
        raise NotImplementedError

    def _onnx_head(self) -> nn.Module | None:
        """Hook: features (n_rows, n_features) to what `head_probabilities` gives, as a module; None: not exportable."""
        return None

    def _onnx_variance(self) -> nn.Module | None:
        """Hook: features (n_rows, n_features) to what `head_variances` gives, as a module; None: not exportable."""
        return None

    def _onnx_rows(self) -> nn.Module | None:
        """Hook: the features of the network to those that the head takes, as a module; None where they are the same."""
        return None

    def _features_for_head(self, data: object) -> Features:
        raise NotImplementedError(f"{type(self).__name__} cannot predict; use a method such as LrRepurposer")

    def _features_and_draws(self, data: object, n_draws: int) -> tuple[Features, Iterator[np.ndarray] | None]:
        """Return the features of data, and calibrated draws (n_draws, some rows, n_classes) in their order, or None."""
        features = self._features_for_head(data)
        has_draws = self._defines("_predict_samples_from_features")
        return features, self._draws(features.matrix, n_draws) if has_draws else None

    def _n_distinct_draws(self, wanted: int) -> int:
        """Return how many draws tell all there is to know of at most `wanted`, as of an ensemble with few members."""
        return wanted

    def _draws(self, matrix: np.ndarray, n_draws: int) -> Iterator[np.ndarray]:
        """Yield calibrated draws (n_draws, n_rows, n_classes), some rows after the others, the same draws for each."""
        seed = draw_seed(rng_at_prediction(self))
        n_rows = max(1, _MAX_ELEMENTS // (n_draws * len(self.classes_)))
        for start in range(0, len(matrix), n_rows):
            rng = np.random.RandomState(seed)  # in the same state for each part: the draws are of parameters
            yield self._calibrated(self.head_samples(matrix[start : start + n_rows], n_draws, rng))

    def _calibrated(self, probabilities: np.ndarray) -> np.ndarray:
        """Return probabilities of shape (..., n_classes) as `calibrate` has them, or as they are."""
        return self.calibration_.apply(probabilities) if hasattr(self, "calibration_") else probabilities

    def _defines(self, hook: str) -> bool:
        """Return whether the head answers what the hook of this name asks."""
        return False

    def _check_defines(self, hook: str, what: str) -> None:
        if not self._defines(hook):
            example = ", as GpRepurposer and LaplaceRepurposer do" if what == "latent variance" else ""
            raise NotImplementedError(f"{type(self).__name__} has no {what}: it must define {hook}{example}")

    def _without_draws(self, data: object) -> str:
        """Return why there are no posterior draws for these data, and what to do."""
        return (
            f"{type(self).__name__} has no posterior draws: it must define _predict_samples_from_features, "
            "as GpRepurposer, LaplaceRepurposer and BnnRepurposer do"
        )

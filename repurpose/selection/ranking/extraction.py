"""One extraction for each candidate: all its layers in all poolings, and what it took."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_handler import Features, ModelHandler
from model_handler.default_layer import default_layer
from model_handler.extraction.pooling import Pooling
from repurpose.data.feature_rows import check_rows
from repurpose.selection.ranking.candidates import Candidate
from repurpose.selection.ranking.given_data import GivenData

__all__ = ["Extraction", "Layers", "extract", "layers_of", "pooling_name"]

Layers = str | Sequence[str] | Mapping[str, Sequence[str]] | None
AUTO = "auto"


@dataclass(frozen=True, eq=False)
class Extraction:
    """The features of a candidate.

    Attributes
    ----------
    features : dict of str to Features
        By pooling.
    labels : ndarray of shape (n_rows,) or None
        As they came with the rows.
    seconds : float
        Of the extraction alone; NaN for features that were given.
    megabytes : float
        What the features take, over all layers and poolings.
    n_parameters : int or None
        Of the network.
    """

    features: dict[str, Features]
    labels: np.ndarray | None
    seconds: float
    megabytes: float
    n_parameters: int | None


def extract(
    candidate: Candidate,
    given: GivenData,
    layers: Layers,
    poolings: Sequence[Pooling],
    cache: Mapping[str, Any],
    **options: Any,
) -> Extraction:
    """Run a candidate once over the rows to judge by; `options` are those of `ModelHandler`, `cache` of its `extract`.

    Raises what loading it, finding its layers or running it raises.
    """
    if isinstance(candidate.source, Features):
        return _given_features(candidate.source, given, layers_of(candidate, layers))
    handler = ModelHandler(candidate.source, **options)
    read = given.read_for(handler)
    names = _layer_names(handler, layers_of(candidate, layers), read)
    started = time.perf_counter()
    pooled = handler.extract_poolings(read, names, poolings, **cache)
    seconds = time.perf_counter() - started
    features = {pooling_name(pooling): of_pooling for pooling, of_pooling in pooled.items()}
    n_parameters = sum(parameter.numel() for parameter in handler.network.parameters())
    return _checked(features, seconds, n_parameters)


def layers_of(candidate: Candidate, layers: Layers) -> str | Sequence[str] | None:
    """Return the layers that were asked for of a candidate."""
    return layers.get(candidate.name, AUTO) if isinstance(layers, Mapping) else layers


def pooling_name(pooling: Pooling) -> str:
    """Return the name of a pooling in tables: of a callable, that of the function or class."""
    return pooling if isinstance(pooling, str) else getattr(pooling, "__name__", type(pooling).__name__)


def _layer_names(handler: ModelHandler, layers: str | Sequence[str] | None, data: object) -> list[str]:
    if layers is None:
        return [default_layer(handler)]
    return handler.candidate_layers(data=data) if isinstance(layers, str) else list(layers)


def _given_features(features: Features, given: GivenData, layers: str | Sequence[str] | None) -> Extraction:
    if given.labels is not None and len(features) != len(given.labels):
        raise ValueError(f"these features have {len(features)} rows, and there are {len(given.labels)} labels")
    if layers is None:
        features = features.select(features.layer_names[-1:])
    elif not isinstance(layers, str):
        features = features.select(layers)
    return _checked({"": features if given.rows is None else features[given.rows]}, float("nan"), None)


def _checked(features: dict[str, Features], seconds: float, n_parameters: int | None) -> Extraction:
    for of_pooling in features.values():
        check_rows(of_pooling)
    labels = next(iter(features.values())).labels
    megabytes = sum(array.nbytes for each in features.values() for array in each.values.values()) / 1e6
    return Extraction(features, labels, seconds, megabytes, n_parameters)

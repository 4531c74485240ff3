"""The features of all trials, from one pass of the network: every layer and pooling that the space names, at once.

Where the space names what the features are computed with, such as `precision` or `batch_size`, each of its values is an
extraction of its own, made when a trial first needs it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_handler import Features
from model_handler.user_warnings import warn_user
from repurpose.data.column_names import column_names
from repurpose.data.kinds import is_features
from repurpose.data.row_shapes import SeenShapes
from repurpose.meta_model.meta_model_repurposer import MetaModelRepurposer
from repurpose.selection.tuning.space import Drawn, Space, with_parameters

__all__ = ["Extractions"]

_MAKE_FEATURES = ("source_model", "transform", "precision", "device", "batch_size", "num_workers")
_ONE_DRAW = "every trial learns from a single draw of each row. Give the data with the transform of prediction"


@dataclass(frozen=True, eq=False)
class _Extracted:
    """Features by pooling, the layers that each choice of layers stands for, and what training notes of the rows."""

    by_pooling: Mapping[Any, Features]
    layers: Mapping[int, list[str]]  # by the place of the choice
    noted: Mapping[str, Any]


class Extractions:
    """Features of labelled data for the trials of a space.

    Raises what extraction raises, and ValueError where the space asks Features for what only the network could give.
    """

    def __init__(self, repurposer: MetaModelRepurposer, data: object, space: Space) -> None:
        self._repurposer, self._data, self._space = repurposer, data, space
        self._apart = [name for name in _MAKE_FEATURES if name in space]
        self._done: dict[tuple[Any, ...], _Extracted] = {}
        if is_features(data):
            if fixed := [name for name in (*self._apart, "pooling") if name in space]:
                raise ValueError(f"{', '.join(fixed)} cannot be tuned on Features, which are computed; give the data")
        elif self._apart:
            warn_user(f"{', '.join(self._apart)} in the space: the network runs over the data once for each value")
        repurposer._warn_of_random_rows(data, _ONE_DRAW)
        first = self._extracted({name: _first(space, name) for name in self._apart})
        self.labels = next(iter(first.by_pooling.values())).labels

    def features(self, drawn: Drawn) -> Features:
        """Return the features that a trial of these parameters learns from."""
        found = self._extracted(drawn)
        names = self._options("feature_layer_names")
        chosen = self._space.parameters(drawn)
        layers = found.layers[_place(chosen.get("feature_layer_names", names[0]), names)]
        pooling = chosen.get("pooling", self._repurposer.pooling)
        return next(value for key, value in found.by_pooling.items() if key is pooling or key == pooling).select(layers)

    def noted(self, drawn: Drawn) -> Mapping[str, Any]:
        """Return what `repurpose` would learn of the raw rows beside their features, by attribute."""
        return self._extracted(drawn).noted

    def _options(self, name: str) -> list[Any]:
        return self._space.options(name, getattr(self._repurposer, name))

    def _extracted(self, drawn: Drawn) -> _Extracted:
        key = tuple(drawn[name] for name in self._apart)
        if key not in self._done:
            parameters = self._space.parameters({name: drawn[name] for name in self._apart})
            self._done[key] = self._extract(with_parameters(self._repurposer, parameters))
        return self._done[key]

    def _extract(self, repurposer: MetaModelRepurposer) -> _Extracted:
        layers = {
            place: with_parameters(repurposer, {"feature_layer_names": names})._layers_to_extract(self._data)
            for place, names in enumerate(self._options("feature_layer_names"))
        }
        everything = list(dict.fromkeys(name for names in layers.values() for name in names))
        poolings = self._options("pooling")
        if is_features(self._data):
            return _Extracted({poolings[0]: self._data.select(everything)}, layers, {})
        seen = SeenShapes()
        handler = repurposer.source_model_handler
        by_pooling = handler.extract_poolings(handler.batches(self._data).judged(seen.note), everything, poolings)
        noted = {"row_shape_": seen.shapes, "feature_names_in_": column_names(self._data)}
        return _Extracted(by_pooling, layers, {name: value for name, value in noted.items() if value is not None})


def _first(space: Space, name: str) -> Any:
    """Return one value of a parameter, as it is drawn."""
    return next(iter(space.choices[name])) if name in space.choices else getattr(space.distributions[name], "low")


def _place(value: object, options: list[Any]) -> int:
    """Return where a choice stands among the options, the same object first: lists and arrays compare in other ways."""
    same = [place for place, option in enumerate(options) if option is value]
    return same[0] if same else next(p for p, option in enumerate(options) if np.array_equal(option, value))

"""The features of all trials, from one pass of the network: every layer and pooling that the space names, at once.

Where the space names what the features are computed with, such as `precision` or `batch_size`, each of its values is an
extraction of its own, made when a trial first needs it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model_handler import Features
from model_handler.user_warnings import warn_user
from repurpose.data.class_names import class_names
from repurpose.data.column_names import column_names
from repurpose.data.kinds import is_features
from repurpose.data.row_shapes import SeenShapes, Shapes
from repurpose.meta_model.meta_model_repurposer import MetaModelRepurposer
from repurpose.selection.tuning.space import Drawn, Space, with_parameters

__all__ = ["Extractions"]

_MAKE_FEATURES = ("source_model", "transform", "precision", "device", "batch_size", "num_workers")
_ONE_DRAW = "every trial learns from a single draw of each row. Give the data with the transform of prediction"


@dataclass(frozen=True, eq=False)
class _Extracted:
    """Features by the label of a pooling, layers by the label of a choice of layers, and the shapes of the rows."""

    by_pooling: Mapping[Any, Features]
    layers: Mapping[Any, list[str]]
    shapes: Shapes | None


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
        return found.by_pooling[drawn.get("pooling")].select(found.layers[drawn.get("feature_layer_names")])

    def note_rows(self, repurposer: MetaModelRepurposer, drawn: Drawn) -> None:
        """Let a Repurposer that was trained on all features know of the rows what it would have learned of them."""
        if (shapes := self._extracted(drawn).shapes) is not None:
            repurposer.row_shape_ = shapes
        if (names := column_names(self._data)) is not None:
            repurposer.feature_names_in_ = names
        repurposer.class_names_ = class_names(self._data, repurposer.classes_)

    def _options(self, name: str) -> Mapping[Any, Any]:
        """Return the choices for a parameter by their labels; its own value, by None, where the space has none."""
        return self._space.choices.get(name, {None: getattr(self._repurposer, name)})

    def _extracted(self, drawn: Drawn) -> _Extracted:
        key = tuple(drawn[name] for name in self._apart)
        if key not in self._done:
            parameters = self._space.parameters({name: drawn[name] for name in self._apart})
            self._done[key] = self._extract(with_parameters(self._repurposer, parameters))
        return self._done[key]

    def _extract(self, repurposer: MetaModelRepurposer) -> _Extracted:
        layers = {
            label: with_parameters(repurposer, {"feature_layer_names": names})._layers_to_extract(self._data)
            for label, names in self._options("feature_layer_names").items()
        }
        everything = list(dict.fromkeys(name for names in layers.values() for name in names))
        poolings = self._options("pooling")
        if is_features(self._data):
            return _Extracted(dict.fromkeys(poolings, self._data.select(everything)), layers, None)
        seen = SeenShapes()
        by_pooling = repurposer.source_model_handler.extract_poolings(
            self._data,
            everything,
            list(poolings.values()),
            cache_dir=repurposer.cache_dir,
            cache_key=repurposer.cache_key,
            judge=seen.note,
        )
        return _Extracted({label: by_pooling[value] for label, value in poolings.items()}, layers, seen.shapes)


def _first(space: Space, name: str) -> Any:
    """Return one value of a parameter, as it is drawn."""
    return next(iter(space.choices[name])) if name in space.choices else vars(space.distributions[name])["low"]

"""`FeatureRepurposer` learns from what its source network computes at some layers.

Which layers, and how their outputs become rows, is decided here; what is learned from the rows is left to subclasses.
"""

from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter
from os import PathLike
from typing import Any, ClassVar

from torch import nn

from model_handler import Features, ModelHandler, ShardedFeatures, Source
from model_handler.data import check_order, reading_options
from model_handler.default_layer import default_layer
from model_handler.extraction.pooling import Pooling, check_pooling
from model_handler.feature_cache.caching import check_cache
from model_handler.feature_shards.extracting_to import ROWS_PER_SHARD
from model_handler.network.precision import check_precision
from repurpose.data.feature_rows import check_rows
from repurpose.data.inputs import Inputs
from repurpose.data.kinds import is_features, is_sharded
from repurpose.data.row_names import naming_rows
from repurpose.data.row_shapes import check_learned_shapes, check_row_shapes
from repurpose.meta_model.checks import check_widths, layer_name_mistakes, width_of_layers
from repurpose.parameters import constructor_parameters, mistakes_found
from repurpose.persistence.values.schema import By, Dict, Items, Maybe, Sizes, Table, Text, Whole
from repurpose.repurposer import Repurposer

__all__ = ["FeatureRepurposer"]

_OF_THE_CACHE = ("cache_dir", "cache_key")
_IN_SHARDS = (
    "features in shards are read at once here, and may not fit in memory: give some of their rows, features[:1000], or "
    "all, features[:]; or ask block by block, [... for block in features.blocks(10_000)]. repurpose reads them in parts"
)
_MAKE_THE_FEATURES = ("source_model", "transform", "pooling", "precision")


class FeatureRepurposer(Repurposer):
    """Base of `MetaModelRepurposer`, which documents the parameters: the features of data, in training and after it."""

    _of_the_handler = (*Repurposer._of_the_handler, "precision")

    _schema: ClassVar[Table] = {
        "feature_layer_names_": Items(Text(), n="n_layers"),
        "n_features_per_layer_": Dict(Text(), Whole()),
        "n_features_in_": Maybe(Whole("n_features", "n_features")),
        "row_shape_": Maybe(By(check_learned_shapes)),
    }

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        feature_layer_names: Sequence[str] | str | None = None,
        *,
        pooling: Pooling = "auto",
        precision: str = "float32",
        cache_dir: str | PathLike[str] | None = None,
        cache_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(source_model, **kwargs)
        self.feature_layer_names = feature_layer_names
        self.pooling = pooling
        self.precision = precision
        self.cache_dir = cache_dir
        self.cache_key = cache_key

    def get_features_from_source_model(self, data: object) -> Features:
        """Extract the features of the data at `feature_layer_names`, with the labels where the data have them.

        With ``"auto"`` they are those of all candidates, also after training; with None, after training, those of the
        layers that the head was trained on. One extraction serves any number of fits: every method takes the result in
        place of data. A loader without labels is judged as at prediction: shuffling gives a UserWarning,
        ``drop_last=True`` a ValueError. Raises ValueError where None stands for no layer of this network.

        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import SvmRepurposer
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> repurposer = SvmRepurposer(network, ["0", "1"])
        >>> features = repurposer.get_features_from_source_model(make_blobs(30, random_state=8))
        >>> features, repurposer.repurpose(features).score(features)
        (Features(30 rows; 0: 8, 1: 8; with labels), 1.0)
        """
        features = self._extract(data, self._layers_wanted(data))
        if features.labels is None:  # these are for prediction
            check_order(data)
        return features

    def extract_to(
        self, path: str | PathLike[str], data: object, *, rows_per_shard: int = ROWS_PER_SHARD
    ) -> ShardedFeatures | None:
        """Extract what `get_features_from_source_model` would into a directory of shards, for data of any size.

        After a break the same call goes on, and several processes share the work: see `ModelHandler.extract_to`, whose
        `key` is the `cache_key` here.

        >>> from sklearn.datasets import make_blobs
        >>> from torch import nn
        >>> from repurpose import LrRepurposer
        >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
        >>> LrRepurposer(network, ["1"]).extract_to("blobs", make_blobs(30, random_state=8), rows_per_shard=10)
        ShardedFeatures('blobs': 30 rows in 3 shards; 1: 8; with labels)
        """
        options: dict[str, Any] = {"pooling": self.pooling, "rows_per_shard": rows_per_shard, "key": self.cache_key}
        return self.source_model_handler.extract_to(path, data, self._layers_wanted(data), **options)

    def features_to_judge(self, data: object) -> Features:
        self._refuse_other_features()
        features = self._extract(data, self.feature_layer_names_, self._judge_inputs)
        self._check_widths(features)
        return features

    def _check_widths(self, features: Features) -> None:
        """Raise ValueError for features of other widths than those of training."""
        check_widths(features, self.n_features_per_layer_, type(self).__name__)

    def _features_for_head(self, data: object) -> Features:
        """Return the features of data to predict, as wide as those of training, without NaN or infinite values."""
        features = self.features_to_judge(data)
        check_rows(features, name_of=naming_rows(data))
        return features

    def _network_for_file(self, example_inputs: object) -> nn.Module:
        from model_handler.onnx_export.exportable_network import LayerFeatures

        self._refuse_other_features()
        handler = self.source_model_handler
        if handler.device.type != "cpu":
            handler = ModelHandler(self._open_source(), transform=self.transform, device="cpu")
        return LayerFeatures(handler, self.feature_layer_names_, self.pooling, example_inputs)

    def _reading(self) -> dict[str, Any]:
        handler = self.source_model_handler
        return reading_options(handler.transform, handler.batch_size, handler.num_workers, handler.device)

    def _sizes_of(self, learned: Mapping[str, Any]) -> Sizes:
        names, widths = learned.get("feature_layer_names_"), learned.get("n_features_per_layer_")
        n_features = width_of_layers(widths)
        if not isinstance(names, list) or list(learned["n_features_per_layer_"]) != names:
            raise ValueError("its feature_layer_names_ and n_features_per_layer_ do not go together")
        return {**super()._sizes_of(learned), "n_features": n_features, "n_layers": len(names)}

    def _check_restored(self) -> None:
        super()._check_restored()
        check_pooling(self.pooling)
        check_precision(self.precision)

    def _note_training(self) -> None:
        self._features_made_with = {name: getattr(self, name) for name in _MAKE_THE_FEATURES}

    def _refuse_other_features(self) -> None:
        """Raise ValueError if parameters that make the features were changed after training."""
        made_with = vars(self).get("_features_made_with", {})
        if changed := [name for name, value in made_with.items() if not _is_same_parameter(getattr(self, name), value)]:
            raise ValueError(
                f"{', '.join(changed)} changed after training, so the features would not be those that the head knows; "
                "call repurpose again, or set the old value"
            )

    @property
    def _chooses_layers(self) -> bool:
        return isinstance(self.feature_layer_names, str)  # any other text was refused

    def _layers_wanted(self, data: object) -> list[str]:
        """Return the layers of which features are wanted. Raises ValueError where they cannot be."""
        if mistakes := self._layer_mistakes():
            raise ValueError("\n".join(mistakes))
        known = self.feature_layer_names is None and self._knows_its_layers()
        return self.feature_layer_names_ if known else self._layers_to_extract(data)

    def _layers_to_extract(self, data: object) -> list[str]:
        if self.feature_layer_names is not None and not self._chooses_layers:
            return list(self.feature_layer_names)
        if is_features(data) or is_sharded(data):
            return data.layer_names
        handler = self.source_model_handler
        return handler.candidate_layers(data=data) if self._chooses_layers else [default_layer(handler)]

    def _knows_its_layers(self) -> bool:
        """Return whether layers were settled by training with the network that is the source now."""
        made_with = vars(self).get("_features_made_with", {})
        return hasattr(self, "feature_layer_names_") and _is_same_parameter(
            made_with.get("source_model"), self.source_model
        )

    def _extract(self, data: object, layer_names: list[str], judge: Callable[[Any], None] | None = None) -> Features:
        """Extract the features at some layers; `judge` sees the inputs of each batch before the network does."""
        if is_features(data):
            return data.select(layer_names)
        if is_sharded(data):
            raise TypeError(_IN_SHARDS)
        handler = self.source_model_handler
        return handler.extract(
            data,
            layer_names,
            pooling=self.pooling,
            cache_dir=self.cache_dir,
            cache_key=self.cache_key,
            judge=judge,
        )

    def _parameters_for_file(self) -> dict[str, Any]:
        """Return what a file holds of them: where features are kept is a matter of this machine and this data."""
        return {name: value for name, value in super()._parameters_for_file().items() if name not in _OF_THE_CACHE}

    def _judge_inputs(self, inputs: Inputs) -> None:
        """Raise ValueError for rows unlike those of training, where these are known: not by older files or Features."""
        check_row_shapes(inputs, vars(self).get("row_shape_"), type(self).__name__)

    def _layer_mistakes(self) -> list[str]:
        parameter = constructor_parameters(type(self)).get("feature_layer_names")
        required = parameter is not None and parameter.default is Parameter.empty
        return layer_name_mistakes(self.feature_layer_names, self.pooling, required=required)

    def _parameter_mistakes(self) -> list[str]:
        values = mistakes_found(
            lambda: check_pooling(self.pooling),
            lambda: check_precision(self.precision),
            lambda: check_cache(self.cache_dir, self.cache_key),
        )
        return self._layer_mistakes() + super()._parameter_mistakes() + values


def _is_same_parameter(value: object, other: object) -> bool:
    """Return whether a parameter is what it was: the same object, or equal text."""
    return value is other or (isinstance(value, str) and value == other)

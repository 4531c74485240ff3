"""`FeatureExtractor`: the features of a network's layers as a transformer in the pipelines of scikit-learn."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from os import PathLike
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from model_handler.data import Batch, Batches
from model_handler.default_layer import default_layer
from model_handler.extraction.pooling import Pooling
from model_handler.feature_shards.extracting_to import ROWS_PER_SHARD
from model_handler.features import Features, ShardedFeatures
from model_handler.handler import ModelHandler
from model_handler.sharing import clone_sharing, kept_handler
from model_handler.sources import Source, load_source

__all__ = ["FeatureExtractor"]

_OF_THE_HANDLER = ("device", "batch_size", "num_workers", "precision", "verbose")


class FeatureExtractor(TransformerMixin, BaseEstimator):
    """Turns images, paths of images, arrays and all else that a network reads into a matrix of its features.

    `fit` learns which layers are meant and how many features they give, from the first batch; nothing is trained, so no
    fold of a cross-validation tells another one anything. Clones share the network, which is never changed.

    Parameters
    ----------
    source : nn.Module, Source or str
        The network, or its name, such as "torchvision/resnet50", as `ModelHandler` takes it.
    layers : list of str, optional
        The layers whose features stand side by side in this order; by default the one that the last linear layer of
        the network reads.
    pooling : str or callable, default="auto"
        How an output of more than two axes becomes a row, as in `ModelHandler.extract`.
    cache_dir : str or path, optional
        A directory that keeps features for the next time, in this process or another: see `ModelHandler.extract`.
    cache_key : str, optional
        What to know the data, the preprocessing and the pooling by in that directory, where nothing else tells.
    preprocessing : callable, optional
        From an image to a tensor, what `ModelHandler` calls `transform`, which is a method here; by default the
        source's own.
    device, batch_size, num_workers, precision, verbose : optional
        As `ModelHandler` has them: where and how features are computed, and whether progress is shown.

    Attributes
    ----------
    layer_names_ : list of str
        The layers.
    n_features_per_layer_ : dict of str to int
        How many features each of them gives.

    Raises
    ------
    NotFittedError
        By `transform` and `get_feature_names_out`, before `fit`.
    ValueError
        By `fit`, where no layer is named and the network does not end in a linear one; by `transform`, for features of
        another width than in `fit`.
    TypeError, ModelError, UnknownLayerError
        As by `ModelHandler`, for a source, data or layers that are none.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from torch import nn
    >>> from model_handler import FeatureExtractor
    >>> X, y = make_blobs(30, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> cross_val_score(make_pipeline(FeatureExtractor(network), StandardScaler(), LogisticRegression()), X, y, cv=3)
    array([1., 1., 1.])
    """

    def __init__(
        self,
        source: nn.Module | Source | str,
        layers: Sequence[str] | None = None,
        *,
        pooling: Pooling = "auto",
        cache_dir: str | PathLike[str] | None = None,
        cache_key: str | None = None,
        preprocessing: Callable[[Any], Tensor] | None = None,
        device: str | torch.device = "auto",
        batch_size: int = 32,
        num_workers: int = 0,
        precision: str = "float32",
        verbose: bool | None = None,
    ) -> None:
        self.source = source
        self.layers = layers
        self.pooling = pooling
        self.cache_dir = cache_dir
        self.cache_key = cache_key
        self.preprocessing = preprocessing
        self.device = device
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.precision = precision
        self.verbose = verbose

    @property
    def handler(self) -> ModelHandler:
        """The `ModelHandler` of the network, made when first needed and again when its parameters change."""
        wanted = tuple(getattr(self, name) for name in ("source", "preprocessing", *_OF_THE_HANDLER))
        return kept_handler(self._shared_with_clones(), wanted, self._make_handler)

    def fit(self, X: object, y: object = None) -> Self:
        """Learn which layers there are and how wide, from the first batch of X; `y` is ignored.

        >>> import torch
        >>> from torch import nn
        >>> from model_handler import FeatureExtractor
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        >>> FeatureExtractor(network, ["0"]).fit(torch.rand(2, 3, 8, 8)).get_feature_names_out()
        array(['0_0', '0_1', '0_2', '0_3'], dtype=object)
        """
        with closing(self._batches(X)) as batches:
            first = next(batches)
        first = replace(first, places=None)  # which are those among all rows, of texts sorted by length
        alone = Batches(lambda share: share.take([first]), first.n_rows, "the first batch")
        self._note(self.handler.extract(alone, self._layers(), pooling=self.pooling))
        return self

    def fit_transform(self, X: object, y: object = None, **fit_params: object) -> Any:
        """Return what `transform` gives after `fit`, in one pass through the network; `y` is ignored.

        >>> import torch
        >>> from torch import nn
        >>> from model_handler import FeatureExtractor
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        >>> FeatureExtractor(network, ["1"]).fit_transform(torch.rand(2, 3, 8, 8)).shape
        (2, 4)
        """
        features = self._extract(X, self._layers())
        self._note(features)
        return features.matrix

    def transform(self, X: object) -> Any:
        """Return the features of X, float32 of shape (n_rows, n_features), rows in its order.

        After ``set_output(transform="pandas")`` they are a DataFrame with the columns of `get_feature_names_out`.

        >>> import torch
        >>> from torch import nn
        >>> from model_handler import FeatureExtractor
        >>> extractor = FeatureExtractor(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), ["0", "1"])
        >>> extractor.fit(torch.rand(2, 3, 8, 8)).transform(torch.rand(5, 3, 8, 8)).shape
        (5, 8)
        """
        check_is_fitted(self)
        features = self._extract(X, self.layer_names_)
        widths = _widths(features)
        if widths != self.n_features_per_layer_:
            raise ValueError(
                f"the layers give {widths} features, and gave {self.n_features_per_layer_} in fit: inputs, network and "
                "pooling must be as they were then, or fit again"
            )
        return features.matrix

    def extract_to(
        self, path: str | PathLike[str], X: object, *, rows_per_shard: int = ROWS_PER_SHARD
    ) -> ShardedFeatures | None:
        """Extract the features of X into a directory of shards, which the same call goes on with after a break.

        As `ModelHandler.extract_to`, whose `key` is the `cache_key` here; nothing is fitted.

        >>> import torch
        >>> from torch import nn
        >>> from model_handler import FeatureExtractor
        >>> extractor = FeatureExtractor(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), ["1"])
        >>> extractor.extract_to("extracted", torch.rand(5, 3, 8, 8), rows_per_shard=2)
        ShardedFeatures('extracted': 5 rows in 3 shards; 1: 4; no labels)
        """
        options: dict[str, Any] = {"pooling": self.pooling, "rows_per_shard": rows_per_shard, "key": self.cache_key}
        return self.handler.extract_to(path, X, self._layers(), **options)

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Return the name of each column, the layer and the number of the feature; `input_features` is ignored.

        >>> import torch
        >>> from torch import nn
        >>> from model_handler import FeatureExtractor
        >>> extractor = FeatureExtractor(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))).fit(torch.rand(2, 3))
        >>> extractor.get_feature_names_out()
        array(['0_0', '0_1'], dtype=object)
        """
        check_is_fitted(self)
        widths = self.n_features_per_layer_.items()
        return np.array([f"{name}_{number}" for name, width in widths for number in range(width)], dtype=object)

    def _extract(self, X: object, layer_names: Sequence[str]) -> Features:
        return self.handler.extract(
            X, layer_names, pooling=self.pooling, cache_dir=self.cache_dir, cache_key=self.cache_key
        )

    def _batches(self, X: object) -> Generator[Batch, None, None]:
        yield from self.handler.batches(X)

    def _layers(self) -> Sequence[str]:
        return [default_layer(self.handler, "layers")] if self.layers is None else self.layers

    def _note(self, features: Features) -> None:
        self.layer_names_, self.n_features_per_layer_ = features.layer_names, _widths(features)

    def _make_handler(self) -> ModelHandler:
        source = self._loaded_once(self.source) if isinstance(self.source, str) else self.source
        options = {name: getattr(self, name) for name in _OF_THE_HANDLER}
        return ModelHandler(source, transform=self.preprocessing, **options)

    def _loaded_once(self, name: str) -> Source:
        """Load a source by name, once for this extractor and all its clones."""
        loaded = self._shared_with_clones().setdefault("loaded", {})
        if name not in loaded:
            loaded[name] = load_source(name)
        return loaded[name]

    def _shared_with_clones(self) -> dict[str, Any]:
        """Return what the extractor, its clones and theirs have in common, so that a search traces the network once."""
        if not hasattr(self, "_shared"):
            self._shared: dict[str, Any] = {}
        return self._shared

    def __sklearn_clone__(self) -> Self:
        """Make an unfitted copy that shares the network, its preprocessing and, while they fit, the traced handler."""
        self._shared_with_clones()
        return clone_sharing(self, ("source", "preprocessing"), ["_shared"])

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "layer_names_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = tags.input_tags.dict = tags.input_tags.string = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_shared"}


def _widths(features: Features) -> dict[str, int]:
    return {name: array.shape[1] for name, array in features.values.items()}

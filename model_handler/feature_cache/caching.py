"""Cached extraction: what is kept of an extraction is read, and what is not is computed and kept.

Features are known by the network (weights, settings, code, layers, precision, device, batch size), the pooling, the
preprocessing and the content of the data. Labels are read from the data each time, but for data that only a key tells
of.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import nn

from model_handler.data import ImageFolderData, labels_beside_inputs, named_classes, random_part
from model_handler.extraction.pooling import Pooling
from model_handler.feature_cache.content import ContentIdentity
from model_handler.feature_cache.identity import Identity, UnknownIdentity
from model_handler.feature_cache.network_identity import NetworkIdentity
from model_handler.feature_cache.sampled_rows import identity_of_sample
from model_handler.feature_cache.shapes import NotedShapes, without_numbers
from model_handler.feature_cache.store import Entry, FeatureStore
from model_handler.features import Features

__all__ = [
    "FeatureCache",
    "Request",
    "check_cache",
    "identity_of_callable",
    "identity_of_network",
    "identity_of_transform",
    "library_versions",
]

_LOG = logging.getLogger(__name__)
_FORMAT = "1"  # goes up where a new version of this library computes other features
_LIBRARIES = ("torch", "numpy", "pillow", "torchvision")  # which compute features, or read images
_said: set[str] = set()


def check_cache(cache_dir: object, cache_key: object) -> None:
    """Raise ValueError for a directory that is no path, and a key that is no text."""
    if cache_dir is not None and not isinstance(cache_dir, (str, PathLike)):
        raise ValueError(f"cache_dir must be the path of a directory or None, got {cache_dir!r}")
    if cache_key is not None and not isinstance(cache_key, str):
        raise ValueError(f"cache_key must be text that names the data, such as 'photos of May', got {cache_key!r}")


@dataclass(frozen=True, eq=False)
class Request:
    """All that features depend on but the pooling; `options` are settings that have a text, such as the batch size."""

    data: Any
    network: nn.Module
    layer_names: list[str]
    transform: Callable[[Any], Any] | None
    options: tuple[str, ...]


class FeatureCache:
    """What is kept in a directory for one request; `judge` sees the inputs of each batch, or others of their shapes.

    Where data, preprocessing or pooling have no identity, `cache_key` stands for them; without one nothing is kept,
    which is said in the log. Nothing is kept of a network that has none.
    """

    def __init__(
        self,
        folder: str | PathLike[str],
        cache_key: str | None,
        request: Request,
        judge: Callable[[Any], None] | None = None,
    ) -> None:
        self._store, self._cache_key, self._request, self._judge = FeatureStore(folder), cache_key, request, judge
        self.judge = NotedShapes(judge)
        self._n_rows = self._count_images()
        content = self._digest(self._of_data)
        self._knows_data = content is not None
        self._inputs = [content, self._digest(self._of_transform)]
        self._network: str | None = None
        if cache_key is None and None in self._inputs:
            return  # nothing is kept, and no weight is hashed for it
        if not self._knows_data:
            self._inputs[0] = identity_of_sample(request.data)
        try:
            self._network = self._of_network()
        except UnknownIdentity as unknown:  # for which no key can stand: it may learn
            self._say(f"nothing identifies {unknown}, which is in the network")

    def features(
        self,
        poolings: Sequence[Pooling],
        compute: Callable[[list[Pooling]], list[Features]],
        agree: Callable[[list[int]], list[int]],
    ) -> list[Features]:
        """Return the features in each pooling: those that are kept, and all others by one call of `compute`.

        `agree` takes the places of those that are missing here, and gives those that are to be computed.
        """
        found = [self.read(pooling) for pooling in poolings]
        missing = agree([place for place, features in enumerate(found) if features is None])
        if missing:
            wanted = [poolings[place] for place in missing]
            for place, pooling, features in zip(missing, wanted, compute(wanted), strict=True):
                self.write(pooling, features)
                found[place] = features
        return [features for features in found if features is not None]

    def read(self, pooling: Pooling) -> Features | None:
        """Return the features that are kept in this pooling, None where there are none."""
        if (key := self._key(pooling)) is None:
            return None
        names = self._request.layer_names
        if (entry := self._store.read(key, len(names))) is None:
            return None
        if self._judge is not None:
            for inputs in without_numbers(entry.shapes):
                self._judge(inputs)
        labels = labels_beside_inputs(self._request.data) if self._knows_data else entry.labels
        columns = np.split(entry.matrix, np.cumsum(entry.widths)[:-1], axis=1)  # views, as extraction gives them
        return Features(dict(zip(names, columns, strict=True)), labels, named_classes(self._request.data))

    def write(self, pooling: Pooling, features: Features) -> None:
        """Keep features that were computed, where they could be found again."""
        if (key := self._key(pooling)) is None:
            return
        if self._digest(self._of_network) != self._network:
            self._say("the network changes itself when it runs, and is not found again")
        elif self._count_images() == self._n_rows:  # or rows are left out that its key counts
            widths = [array.shape[1] for array in features.values.values()]
            labels = None if self._knows_data else features.labels
            self._store.write(key, Entry(features.matrix, widths, self.judge.found, labels))

    def _key(self, pooling: Pooling) -> str | None:
        parts = [self._network, *self._inputs, self._digest(lambda: self._of_pooling(pooling))]
        if self._network is None or (self._cache_key is None and None in parts):
            return None
        identity = Identity()
        identity.take((self._cache_key, parts))
        return identity.digest

    def _digest(self, identify: Callable[[], str]) -> str | None:
        """Return an identity; None for what has none, which is then said."""
        try:
            return identify()
        except UnknownIdentity as unknown:
            if self._cache_key is None:
                self._say(f"nothing identifies {unknown}; cache_key=... can stand for it")
            return None

    def _of_network(self) -> str:
        return identity_of_network(self._request)

    def _of_data(self) -> str:
        identity = ContentIdentity()
        identity.take_data(self._request.data)
        return identity.digest

    def _of_transform(self) -> str:
        return identity_of_transform(self._request)

    def _of_pooling(self, pooling: Pooling) -> str:
        return identity_of_callable(pooling)

    def _count_images(self) -> int:
        """Count the images of a folder, without those that turned out to be unreadable."""
        return len(self._request.data) if isinstance(self._request.data, ImageFolderData) else 0

    def _say(self, reason: str) -> None:
        if reason not in _said:
            _said.add(reason)
            _LOG.warning("features are not kept in %s: %s", self._store.folder, reason)


def library_versions() -> dict[str, str]:
    """Return the version of each library that computes features, or reads images, and of this one's own way."""
    return {"features": _FORMAT, **{library: _version(library) for library in _LIBRARIES}}


def identity_of_network(request: Request) -> str:
    """Return what the layers, settings and network of a request are known by. Raises UnknownIdentity."""
    identity = NetworkIdentity()
    identity.say(*library_versions().values())
    identity.take((request.layer_names, request.options, str(torch.get_default_dtype())))
    identity.take(request.network)
    return identity.digest


def identity_of_transform(request: Request) -> str:
    """Return what the preprocessing of a request is known by. Raises UnknownIdentity, of a random one too."""
    own = request.data.transform if isinstance(request.data, ImageFolderData) else None
    transform = own or request.transform
    if name := random_part(transform):
        raise UnknownIdentity(f"what the random transform {name} draws")
    return identity_of_callable(transform)


def identity_of_callable(value: Any) -> str:
    """Return what a transform or a pooling is known by. Raises UnknownIdentity for one of no installed package."""
    identity = NetworkIdentity(own_code=False)  # a transform may be a module
    identity.take(value)
    return identity.digest


@cache
def _version(package: str) -> str:
    """Return the version of a package, imported yet or not; empty where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""

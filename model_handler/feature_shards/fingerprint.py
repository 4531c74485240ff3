"""The fingerprint of an extraction: everything that its features depend on, each by a text or a hash.

Unlike a cache of features, which reads every file for its hash, a directory of shards knows files by their names, sizes
and times: there may be a hundred million of them, and every process looks at all.
"""

import os
from os import fspath
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import IterableDataset

from model_handler.data import ImageFolderData, labels_beside_inputs
from model_handler.data.tar.tar_shards import TarShards
from model_handler.errors import with_fix
from model_handler.extraction.pooling import Pooling
from model_handler.feature_cache.caching import (
    Request,
    identity_of_callable,
    identity_of_transform,
    library_versions,
)
from model_handler.feature_cache.content import ContentIdentity
from model_handler.feature_cache.identity import UnknownIdentity
from model_handler.feature_cache.network_identity import NetworkIdentity
from model_handler.feature_cache.sampled_rows import identity_of_first_row, identity_of_sample
from model_handler.files.array_files import array_digest
from model_handler.files.canonical_json import JsonValue

__all__ = ["differences", "fingerprint"]

_SHOWN = 100  # characters of a value


def fingerprint(request: Request, pooling: Pooling, key: str | None) -> dict[str, JsonValue]:
    """Return what the features of a request depend on; `key` stands for what nothing else tells.

    Raises ValueError for a network, a preprocessing or a pooling that cannot be known, without a key.
    """
    labels = labels_beside_inputs(request.data)
    return {
        "data": _known(_of_data, request.data),
        "labels": None if labels is None else array_digest(labels.astype(str)),
        "network": _known_or_key("the network", key, lambda: _of_network(request)),
        "layers": request.layer_names,
        "pooling": pooling
        if isinstance(pooling, str)
        else _known_or_key("the pooling", key, lambda: identity_of_callable(pooling)),
        "preprocessing": _known_or_key("the preprocessing", key, lambda: identity_of_transform(request)),
        "settings": [*request.options, str(torch.get_default_dtype())],
        "versions": library_versions(),
        "key": key,
    }


def differences(there: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Say in what two fingerprints differ, such as "the layers (['a'] there, ['b'] now)"."""
    names = [name for name in {**there, **now} if there.get(name) != now.get(name)]
    return [f"the {name} ({_shown(there.get(name))} there, {_shown(now.get(name))} now)" for name in names]


def _shown(value: object) -> str:
    text = "none" if value is None else value if isinstance(value, str) else repr(value)
    return f"{text[:12]}..." if len(text) == 64 and " " not in text else text[:_SHOWN]


def _known_or_key(what: str, key: str | None, identify: Any) -> str | None:
    try:
        return identify()
    except UnknownIdentity as unknown:
        if key is not None:
            return None
        raise with_fix(
            ValueError,
            f"nothing identifies {unknown}, which is in {what}, so that a later call could not know whether it goes on "
            "with the same",
            python="give key='any text', which you change when it changes",
        ) from unknown


def _of_network(request: Request) -> str:
    identity = NetworkIdentity()
    identity.take(request.network)
    return identity.digest


def _known(identify: Any, data: Any) -> str:
    """Return what data is known by; of data that has to be asked for its rows, a few of them, the first of a stream."""
    try:
        return identify(data)
    except UnknownIdentity:
        return f"{type(data).__name__} {identity_of_sample(data) or identity_of_first_row(data)}"


def _of_data(data: Any) -> str:
    identity = _ListedContent()
    identity.take_data(data)
    return identity.digest


class _ListedContent(ContentIdentity):
    """The identity of inputs, where files are known by their names, sizes and times, and not by their bytes."""

    def take_data(self, data: Any) -> None:
        if isinstance(data, TarShards):
            self.say("tar shards", *map(str, data.members))
            self._stat(data.files, data.files[0].parent)
        elif isinstance(data, ImageFolderData):
            self.say("folder", data.on_error)
            self._stat(data.paths, data.path)
        elif hasattr(data, "known_by"):  # rows of a Hugging Face dataset
            self.say("dataset", data.known_by)
            if isinstance(data, IterableDataset):  # whose own names are those of many streams
                self.say(identity_of_first_row(data))
        else:
            super().take_data(data)

    def _files(self, paths: list[Any]) -> None:
        self._stat(paths, Path())

    def _stat(self, paths: list[Any], folder: Path) -> None:
        self.say("files", str(len(paths)))
        beginning = os.path.join(folder, "")
        for path in paths:
            try:
                found = os.stat(path)
            except OSError as error:
                raise UnknownIdentity(f"the file {str(path)!r}, which cannot be read ({error})") from error
            self.say(fspath(path).removeprefix(beginning), str(found.st_size), str(found.st_mtime_ns))

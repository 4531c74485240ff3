"""Data that has to be asked for its rows is told apart by how many there are and by a few of them."""

from collections.abc import Callable
from functools import partial
from operator import getitem
from typing import Any

import torch
from torch.utils.data import DataLoader

from model_handler.data.loaders import split_labels
from model_handler.feature_cache.content import ContentIdentity
from model_handler.feature_cache.identity import Identity

__all__ = ["identity_of_first_row", "identity_of_sample"]


def identity_of_sample(data: Any) -> str:
    """Return what the length of a Dataset or DataLoader, its first, middle and last row tell; "" for a stream.

    Each of the three is read twice, and one that comes out differently, as a random transform makes it, tells nothing.
    """
    rows: Any = data.dataset if isinstance(data, DataLoader) else data
    try:
        n_rows = len(rows)
    except TypeError:  # rows that come one after another
        return ""
    identity = Identity()
    identity.say(str(n_rows))
    for number in sorted({0, n_rows // 2, n_rows - 1}):
        if found := _identity_of_row(partial(getitem, rows, number)):
            identity.say(str(number), found)
    return identity.digest


def identity_of_first_row(stream: Any) -> str:
    """Return what the first row of an iterable dataset tells, or of the one behind a DataLoader.

    It is begun twice, and a row that comes out differently tells nothing: "" is returned then.
    """
    rows: Any = stream.dataset if isinstance(stream, DataLoader) else stream
    return _identity_of_row(lambda: next(iter(rows)))


def _identity_of_row(read: Callable[[], Any]) -> str:
    """Return the identity of the inputs of a row; "" for one that is another one when it is read again."""
    with torch.random.fork_rng(devices=[]):
        first, second = _identity_of_inputs(read), _identity_of_inputs(read)
    return first if first == second else ""


def _identity_of_inputs(read: Callable[[], Any]) -> str:
    """Return the identity of the inputs of a row; "" for one that cannot be had so, which extraction may tell of."""
    identity = ContentIdentity()
    try:
        row = read()
        identity.take_data(split_labels(row, "a row")[0] if isinstance(row, (tuple, dict)) else row)
    except Exception:  # of a user's code, if it is not our own UnknownIdentity
        return ""
    return identity.digest

"""Rows of three classes, a head that was trained on some of them, and streams."""

from functools import cache

import numpy as np
from sklearn.datasets import make_blobs
from torch import nn

from model_handler import Features
from repurpose import LrRepurposer

X, Y = make_blobs(1200, n_features=6, centers=3, cluster_std=3.0, random_state=8)
X = X.astype(np.float32)
N_TRAINING, N_KNOWN = 150, 100
STREAM = np.arange(N_TRAINING + N_KNOWN, len(X))


def rows(which: np.ndarray | slice, offset: float = 0.0) -> Features:
    """Some of the rows, moved by so much in each feature."""
    return Features({"0": X[which] + np.float32(offset)}, Y[which])


def untrained() -> LrRepurposer:
    return LrRepurposer(nn.Sequential(nn.Identity()), ["0"], c=1.0, random_state=0)


@cache
def trained() -> LrRepurposer:
    """Trained on 150 rows, without rows for `conformalize`; to be left as it is."""
    return untrained().repurpose(rows(slice(N_TRAINING)))


@cache
def conformalized() -> LrRepurposer:
    """Trained on 150 rows, beside 100 others; to be left as it is."""
    return untrained().repurpose(rows(slice(N_TRAINING))).conformalize(rows(slice(N_TRAINING, N_TRAINING + N_KNOWN)))

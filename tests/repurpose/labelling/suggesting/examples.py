"""A small Gaussian process over three classes, its pool, and its posterior written out densely."""

from functools import cache

import numpy as np
import torch
from sklearn.datasets import make_blobs
from torch import Tensor, nn

from repurpose import GpRepurposer
from repurpose.meta_model.gp.targets import DirichletTargets

X, Y = make_blobs(60, n_features=4, centers=3, cluster_std=6.0, random_state=8)
X = X.astype(np.float32)
N_LABELLED = 15
POOL = X[N_LABELLED:]


@cache
def trained() -> GpRepurposer:
    """Trained on 15 of 60 rows, whose features are the rows themselves."""
    network = nn.Sequential(nn.Identity())
    return GpRepurposer(network, ["0"], random_state=0).repurpose((X[:N_LABELLED], Y[:N_LABELLED]))


def targets() -> DirichletTargets:
    return DirichletTargets.of(trained().alpha_eps_)


def kernel(rows: np.ndarray, others: np.ndarray) -> Tensor:
    model = trained().target_model_
    return model.kernel.between(model.rows.transform(rows), model.rows.transform(others))


def noise(labels: np.ndarray, c: int | None) -> Tensor:
    """The variances of the noise in the process of class `c`, or of a class without rows: (n_rows,)."""
    return torch.from_numpy(np.where(labels == c, targets().own_noise, targets().other_noise))


def posterior(rows: np.ndarray, labels: np.ndarray, at: np.ndarray, c: int | None) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the latent function of class `c` at some rows, given all labels: (n,) and (n, n)."""
    cross = kernel(at, rows)
    gains = cross @ torch.linalg.inv(kernel(rows, rows) + torch.diag(noise(labels, c)))
    values = torch.from_numpy(np.where(labels == c, targets().own, targets().other))
    mean = trained().prior_mean_
    return mean + gains @ (values - mean), kernel(at, at) - gains @ cross.T

"""The Laplace approximation of one fitted logistic regression, ours and laplace-torch's, from the same rows."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from repurpose import LaplaceRepurposer
from repurpose.meta_model.laplace import LaplacePosterior, approximate_posterior

__all__ = ["fitted", "posterior_of", "sides"]

N_NEW = 200  # more and wider ones fill the memory with laplace-torch's Jacobians


def fitted(features: np.ndarray, codes: np.ndarray) -> LaplaceRepurposer:
    """Logistic regression with c=1 on rows (n_samples, n_features)."""
    return LaplaceRepurposer(nn.Sequential(nn.Identity()), ["0"], c=1.0, random_state=0).repurpose(features, codes)


def posterior_of(repurposer: LaplaceRepurposer, features: np.ndarray, codes: np.ndarray) -> Callable[[], object]:
    """What comes after the logistic regression is fitted: the posterior, from scaled and rotated rows."""
    fit = repurposer._fit(features, codes, {"0": np.arange(features.shape[1])})

    def posterior() -> LaplacePosterior:
        probabilities = fit.model.predict_proba(fit.rows)
        return approximate_posterior(fit.rows, fit.basis, fit.scaling, probabilities, fit.weights, 1.0)

    return posterior


def sides(features: np.ndarray, codes: np.ndarray, new: np.ndarray) -> Mapping[str, Callable[[], object]]:
    """Posterior, and the variance of each new row's logits, in both ways; the prior precision is given."""
    repurposer = fitted(features, codes)
    posterior = posterior_of(repurposer, features, codes)
    return {
        "ours": lambda: posterior().variances(new),
        "laplace-torch": _laplace_torch(repurposer, features, codes, new),
    }


def _laplace_torch(
    repurposer: LaplaceRepurposer, features: np.ndarray, codes: np.ndarray, new: np.ndarray
) -> Callable[[], object]:
    from laplace import Laplace

    head = nn.Linear(features.shape[1], len(repurposer.classes_))
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(repurposer.target_model_.coef_))
        head.bias.copy_(torch.from_numpy(repurposer.target_model_.intercept_))
    network = nn.Sequential(nn.Identity(), head).eval()
    rows, strange = torch.from_numpy(features), torch.from_numpy(new)
    loader = DataLoader(TensorDataset(rows, torch.from_numpy(codes)), batch_size=len(rows))

    def evaluate() -> object:
        approximation = Laplace(
            network, "classification", subset_of_weights="last_layer", hessian_structure="kron", prior_precision=1.0
        )
        approximation.fit(loader)
        _, covariances = approximation._glm_predictive_distribution(strange)
        return covariances.diagonal(dim1=1, dim2=2).mean(1)

    return evaluate

"""`LinearHead`: logistic regression on raw features."""

import numpy as np
import torch
from torch import Tensor, nn

from repurpose.meta_model.onnx_heads.numbers import double

__all__ = ["LinearHead"]


class LinearHead(nn.Module):
    """Maps features to the softmax of ``features @ coefficients.T + intercepts``.

    Parameters
    ----------
    coefficients : ndarray of shape (n_classes, n_features)
        Of two classes one row may stand for both, as in scikit-learn: it is the logit of the second.
    intercepts : ndarray of shape (n_classes,)
    """

    coefficients: Tensor
    intercepts: Tensor

    def __init__(self, coefficients: np.ndarray, intercepts: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("coefficients", double(coefficients.T))
        self.register_buffer("intercepts", double(intercepts))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (n_rows, n_features) to probabilities (n_rows, n_classes), float64."""
        logits = features.double() @ self.coefficients + self.intercepts
        if logits.shape[1] > 1:
            return torch.softmax(logits, dim=1)
        # As scikit-learn has it: the probability of the first class is 0 where that of the second rounds to 1.
        second = 1 / (1 + torch.exp(-logits))
        return torch.cat([1 - second, second], dim=1)

"""`DeepCoralRepurposer`: the covariances of the domains are brought together inside the network (Deep CORAL).

Sun and Saenko (2016), Deep CORAL: correlation alignment for deep domain adaptation, ECCV workshops; arXiv:1607.01719.
"""

from torch import Tensor

from repurpose.domain.distributions.covariance_distance import covariance_distance
from repurpose.domain.networks.domain_adaptation_repurposer import DomainAdaptationRepurposer

__all__ = ["DeepCoralRepurposer"]


class DeepCoralRepurposer(DomainAdaptationRepurposer):
    """A network in which the rows of both domains get one covariance (Deep CORAL).

    |C_S - C_T|_F^2 / (4 d^2) of the rows in a batch, d numbers wide, is added to the cross-entropy. The paper compares
    the logits, ``adaptation_layer_names=["head"]``, and weighs so that in the end both losses are about as large; it is
    small where the numbers are, so that `adaptation_weight` may have to be far above 1. Means are not compared.

    Parameters
    ----------
    source_model, transfer_layer_name, target_class_count
        As in `DomainNetworkRepurposer`.
    **kwargs
        The parameters of `DomainAdaptationRepurposer`: `adaptation_weight` is lambda, 1 by default, and
        `adaptation_layer_names` are the layers, by default what the new layer reads.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose.domain import DeepCoralRepurposer
    >>> X, y = make_blobs(60, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> repurposer = DeepCoralRepurposer(network, num_epochs=3).repurpose(3 * X[30:], source_data=(X[:30], y[:30]))
    >>> repurposer.predict_label(3 * X[30:]).shape
    (30,)
    """

    def _domain_loss(self, source_rows: Tensor, target_rows: Tensor) -> Tensor:
        return covariance_distance(source_rows, target_rows)

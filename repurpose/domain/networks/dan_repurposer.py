"""`DanRepurposer`: the maximum mean discrepancy of the domains is made small inside the network (DAN).

Long, Cao, Wang and Jordan (2015), Learning transferable features with deep adaptation networks, ICML;
arXiv:1502.02791.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from model_handler import Source
from repurpose.domain.distributions.mmd import linear_time_mmd, unbiased_mmd
from repurpose.domain.networks.domain_adaptation_repurposer import DomainAdaptationRepurposer
from repurpose.parameters import is_one_of, is_whole

__all__ = ["DanRepurposer"]

_ESTIMATORS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {"full": unbiased_mmd, "linear": linear_time_mmd}


class DanRepurposer(DomainAdaptationRepurposer):
    """A network in which the rows of both domains get one distribution, as far as several kernels see it (DAN).

    The squared maximum mean discrepancy of each layer named is added to the cross-entropy. Kernels are Gaussian, of
    widths by powers of two around the median squared distance of the rows in a batch. The paper compares the last three
    layers of AlexNet (fc6 to fc8), chooses the weights of its kernels by a test, and estimates in linear time; here all
    kernels weigh the same, and the full estimate is the default, which tells more of a batch of some tens of rows.

    Parameters
    ----------
    source_model, transfer_layer_name, target_class_count
        As in `DomainNetworkRepurposer`.
    n_kernels : int, default=5
        How many widths there are.
    estimator : "full" or "linear", default="full"
        Whether all pairs of rows in a batch are compared, or neighbours alone.
    adaptation_weight, adaptation_layer_names
        As in `DomainAdaptationRepurposer`: lambda, 1 by default, and the layers, by default what the new layer reads.
    **kwargs
        The parameters of `DomainNetworkRepurposer`.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose.domain import DanRepurposer
    >>> X, y = make_blobs(60, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> repurposer = DanRepurposer(network, num_epochs=3).repurpose(X[30:] + 0.5, source_data=(X[:30], y[:30]))
    >>> repurposer.predict_label(X[30:] + 0.5).shape
    (30,)
    """

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        transfer_layer_name: str | None = None,
        target_class_count: int | None = None,
        *,
        n_kernels: int = 5,
        estimator: str = "full",
        adaptation_weight: float = 1.0,
        adaptation_layer_names: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            source_model,
            transfer_layer_name,
            target_class_count,
            adaptation_weight=adaptation_weight,
            adaptation_layer_names=adaptation_layer_names,
            **kwargs,
        )
        self.n_kernels = n_kernels
        self.estimator = estimator

    def _domain_loss(self, source_rows: Tensor, target_rows: Tensor) -> Tensor:
        return _ESTIMATORS[self.estimator](source_rows, target_rows, self.n_kernels)

    def _parameter_mistakes(self) -> list[str]:
        mistakes = super()._parameter_mistakes()
        if not is_whole(self.n_kernels, 1):
            mistakes.append(f"n_kernels must be a whole number of at least 1, got {self.n_kernels!r}")
        if not is_one_of(self.estimator, tuple(_ESTIMATORS)):
            mistakes.append(f'estimator must be "full" or "linear", got {self.estimator!r}')
        return mistakes

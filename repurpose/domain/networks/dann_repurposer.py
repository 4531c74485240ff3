"""`DannRepurposer`: a classifier of domains learns inside the network, which learns to give it nothing to tell (DANN).

Ganin, Ustinova, Ajakan, Germain, Larochelle, Laviolette, Marchand and Lempitsky (2016), Domain-adversarial training of
neural networks, JMLR 17; arXiv:1505.07818.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import softplus

from model_handler import Source
from repurpose.domain.networks.domain_adaptation_repurposer import DomainAdaptationRepurposer
from repurpose.domain.networks.gradient_reversal import GradientReversal
from repurpose.parameters import is_whole

__all__ = ["DannRepurposer"]


class DannRepurposer(DomainAdaptationRepurposer):
    """A network whose rows a classifier of domains cannot tell apart, as it learns against that (DANN).

    The classifier stands behind a gradient reversal layer: it learns to tell the domains, and what comes before it
    learns by minus lambda times its gradient. Its mean losses over source rows and over target rows are added up
    (equation 18 of the paper). The default is the paper's classifier for SVHN and Office; for MNIST it has ``(100,)``.

    Parameters
    ----------
    source_model, transfer_layer_name, target_class_count
        As in `DomainNetworkRepurposer`.
    hidden_widths : sequence of int, default=(1024, 1024)
        The widths of the hidden layers of the classifier, each followed by ReLU; ``()`` is a linear one.
    adaptation_weight, adaptation_layer_names
        As in `DomainAdaptationRepurposer`: lambda, 1 by default, and the layers, by default what the new layer reads;
        each has a classifier of its own.
    **kwargs
        The parameters of `DomainNetworkRepurposer`. In `learning_rates`, the classifier is of the group ``"new"``.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose.domain import DannRepurposer
    >>> X, y = make_blobs(60, random_state=8)
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> repurposer = DannRepurposer(network, hidden_widths=(16,), num_epochs=3)
    >>> repurposer.repurpose(X[30:] + 0.5, source_data=(X[:30], y[:30])).predict_label(X[30:] + 0.5).shape
    (30,)
    """

    def __init__(
        self,
        source_model: nn.Module | Source | str,
        transfer_layer_name: str | None = None,
        target_class_count: int | None = None,
        *,
        hidden_widths: Sequence[int] = (1024, 1024),
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
        self.hidden_widths = hidden_widths

    def _domain_module(self, width: int) -> nn.Module:
        widths = [width, *self.hidden_widths]
        hidden = [layer for sizes in pairwise(widths) for layer in (nn.Linear(*sizes), nn.ReLU())]
        return nn.Sequential(GradientReversal(), *hidden, nn.Linear(widths[-1], 1))

    def _domain_loss(self, source_rows: Tensor, target_rows: Tensor) -> Tensor:
        # log(1 + exp(-logit)) is the cross-entropy of a row of the source, whose logit the classifier makes large
        return softplus(-source_rows).mean() + softplus(target_rows).mean()

    def _parameter_mistakes(self) -> list[str]:
        mistakes, widths = super()._parameter_mistakes(), self.hidden_widths
        if (
            isinstance(widths, str)
            or not isinstance(widths, Sequence)
            or not all(is_whole(width, 1) for width in widths)
        ):
            mistakes.append(f"hidden_widths must be a sequence of whole numbers of at least 1, got {widths!r}")
        return mistakes

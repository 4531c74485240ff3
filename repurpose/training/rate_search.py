"""The result of a search for a learning rate, and its plot."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from repurpose.axes import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RateSearch", "plot_rate_search"]


@dataclass(frozen=True, eq=False)
class RateSearch:
    """The result of a search for a learning rate.

    Attributes
    ----------
    rates, losses : ndarray of shape (n_steps,)
        The rate of the fastest group in each step, rising, and the loss before that step.
    smoothed : ndarray of shape (n_steps,)
        The losses averaged with those of the steps before and after.
    suggestion : float or None
        The rate at which the smoothed loss falls most steeply over the logarithm of the rate; None where it never
        falls. It is a place to begin, not an optimum: other groups, longer training and schedules move the best one.
    shares : dict of str to float
        The rate of each group beside that of the fastest.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import NeuralNetworkFineTuneRepurposer
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> search = NeuralNetworkFineTuneRepurposer(network, "1").find_learning_rate(make_blobs(30), n_steps=20)
    >>> search.shares
    {'transferred': 0.1, 'new': 1.0}
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float | None
    shares: dict[str, float]

    @property
    def learning_rates(self) -> dict[str, float]:
        """The suggested rate of each group; empty without a suggestion."""
        return {} if self.suggestion is None else {name: self.suggestion * share for name, share in self.shares.items()}

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Plot the loss by learning rate; see `repurpose.plots.plot_rate_search`."""
        return plot_rate_search(self, ax=ax)

    def __repr__(self) -> str:
        found = "no rate at which the loss falls" if self.suggestion is None else f"suggestion {self.suggestion:.2g}"
        return f"RateSearch({found}; {len(self.rates)} steps from {self.rates[0]:.2g} to {self.rates[-1]:.2g})"


def plot_rate_search(search: RateSearch, *, ax: "Axes | None" = None) -> "Axes":
    """Plot the loss at each learning rate that a `RateSearch` tried, on a logarithmic axis.

    A dotted line marks the suggestion, where the smoothed loss falls most steeply.

    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import NeuralNetworkFineTuneRepurposer
    >>> from repurpose.plots import plot_rate_search
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> search = NeuralNetworkFineTuneRepurposer(network, "1").find_learning_rate(make_blobs(30), n_steps=20)
    >>> plot_rate_search(search).get_xscale()
    'log'
    """
    ax = axes_or_new(ax)
    ax.plot(search.rates, search.losses, ".", color="0.7", label="loss of a step")
    ax.plot(search.rates, search.smoothed, label="smoothed")
    if search.suggestion is not None:
        ax.axvline(search.suggestion, linestyle=":", color="0.5", label=f"suggestion: {search.suggestion:.2g}")
    low, high = search.smoothed.min(), search.smoothed[0]
    ax.set_ylim(low - 0.2 * (high - low) - 1e-3, high + 0.5 * (high - low) + 1e-3)
    ax.set(xlabel="learning rate of the fastest group", ylabel="loss", xscale="log")
    ax.legend()
    return ax

"""The history of a training records what was measured after each epoch, and how it ended."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from repurpose.axes import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["History", "plot_history"]


@dataclass(eq=False)
class History:
    """A record, a dict, for each epoch: ``history[-1]["loss"]``, ``history.values("validation_loss")``.

    Attributes
    ----------
    records : list of dict
        ``epoch`` (from 0), ``loss`` (mean training loss), ``accuracy`` (of the training batches as they were seen, not
        after the epoch), ``learning_rates`` (by group, in the last step), ``seconds``, and with validation
        ``validation_loss`` and ``validation_accuracy``, or what a method's own evaluation measures; of two domains
        ``validation_domain`` says whose rows these are.
    best_epoch : int or None
        With early stopping, the epoch whose weights were kept.
    ending : str
        Why training ended.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import NeuralNetworkFineTuneRepurposer
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> history = NeuralNetworkFineTuneRepurposer(network, "1", num_epochs=3).repurpose(make_blobs(30)).history_
    >>> history, history.values("epoch")
    (History(3 epochs; the last: loss ..., accuracy ...), [0, 1, 2])
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int | None = None
    ending: str = ""

    def __getitem__(self, epoch: int) -> dict[str, Any]:
        return self.records[epoch]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def values(self, name: str) -> list[Any]:
        """Return one quantity over the epochs that have it."""
        return [record[name] for record in self.records if name in record]

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Plot the learning curve; see `repurpose.plots.plot_history`."""
        return plot_history(self, ax=ax)

    def __repr__(self) -> str:
        if not self.records:
            return "History(no epoch)"
        last = self.records[-1]
        known = {name: value for name, value in last.items() if name not in _NOT_SHOWN and value is not None}
        shown = ", ".join(
            f"{name} {value if isinstance(value, str) else f'{value:.4g}'}" for name, value in known.items()
        )
        return f"History({len(self)} epochs; the last: {shown})"


def plot_history(history: History, *, ax: "Axes | None" = None) -> "Axes":
    """Plot the learning curve of a `History`: training and validation loss after each epoch, counted from 1.

    A dotted line marks the epoch whose weights early stopping kept.

    >>> from repurpose.plots import plot_history
    >>> from repurpose.training import History
    >>> ax = plot_history(History([{"epoch": 0, "loss": 1.2}, {"epoch": 1, "loss": 0.7}]))
    >>> ax.lines[0].get_ydata().tolist()
    [1.2, 0.7]
    """
    if not len(history):
        raise ValueError("the history has no epoch")
    ax = axes_or_new(ax)
    domain = history[0].get("validation_domain")
    validation = f"validation on the {domain}" if domain else "validation"
    for name, label in (("loss", "training"), ("validation_loss", validation)):
        records = [record for record in history if record.get(name) is not None]
        if records:
            ax.plot(
                [record["epoch"] + 1 for record in records], [record[name] for record in records], ".-", label=label
            )
    if history.best_epoch is not None:
        ax.axvline(history.best_epoch + 1, linestyle=":", color="0.5", label="kept")
    ax.set(xlabel="epoch", ylabel="loss")
    ax.locator_params(axis="x", integer=True)
    ax.legend()
    return ax


_NOT_SHOWN = ("epoch", "learning_rates", "seconds")

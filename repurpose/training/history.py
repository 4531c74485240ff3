"""The history of a training: what was measured after each epoch, and how it ended."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["History"]


@dataclass(eq=False)
class History:
    """A record, a dict, for each epoch: ``history[-1]["loss"]``, ``history.values("validation_loss")``.

    Attributes
    ----------
    records : list of dict
        ``epoch`` (from 0), ``loss`` (mean training loss), ``accuracy`` (of the training batches as they were seen, not
        after the epoch), ``learning_rates`` (by group, in the last step), ``seconds``, and with validation
        ``validation_loss`` and ``validation_accuracy``.
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
        """One quantity over the epochs that have it."""
        return [record[name] for record in self.records if name in record]

    def plot(self, ax: Any = None) -> Any:
        """The learning curve; see `repurpose.plots.plot_history`."""
        from repurpose.plots import plot_history

        return plot_history(self, ax=ax)

    def __repr__(self) -> str:
        if not self.records:
            return "History(no epoch)"
        last = self.records[-1]
        shown = ", ".join(f"{name} {last[name]:.4g}" for name in _SHOWN if last.get(name) is not None)
        return f"History({len(self)} epochs; the last: {shown})"


_SHOWN = ("loss", "accuracy", "validation_loss", "validation_accuracy")

"""Groups of parameters that learn at one rate, and the table of all groups of a network."""

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["GroupTable", "ParameterGroup"]


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters, by name, that learn at one rate from one epoch on; `name` is the pattern that they match.

    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import NeuralNetworkFineTuneRepurposer
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> repurposer = NeuralNetworkFineTuneRepurposer(network, "1", learning_rates={"new": 1e-2, "0": 1e-4})
    >>> first, *_ = repurposer.parameter_groups(make_blobs(30))
    >>> first.name, first.learning_rate, first.parameters
    ('0', 0.0001, ('0.weight',))
    """

    name: str
    learning_rate: float
    weight_decay: float
    from_epoch: int
    parameters: tuple[str, ...]
    n_elements: int


@dataclass(frozen=True)
class GroupTable:
    """The groups, and the names of the parameters that do not learn; `print` it, or let a notebook show it.

    `held` are the paths of normalisation that keeps the statistics of the source, whether its weights learn or not.

    >>> from sklearn.datasets import make_blobs
    >>> from torch import nn
    >>> from repurpose import NeuralNetworkFineTuneRepurposer
    >>> network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
    >>> table = NeuralNetworkFineTuneRepurposer(network, "1").parameter_groups(make_blobs(30))
    >>> [(group.name, *group.parameters) for group in table]
    [('transferred', '0.weight'), ('transferred', '0.bias'), ('new', 'head.weight'), ('new', 'head.bias')]
    """

    groups: tuple[ParameterGroup, ...]
    frozen: tuple[str, ...]
    n_frozen: int
    held: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[ParameterGroup]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    def __str__(self) -> str:
        rows = [("group", "learning rate", "weight decay", "from epoch", "parameters", "numbers", "first")]
        rows += [
            (
                group.name,
                f"{group.learning_rate:.3g}",
                f"{group.weight_decay:.3g}",
                str(group.from_epoch),
                str(len(group.parameters)),
                f"{group.n_elements:,}",
                group.parameters[0],
            )
            for group in self.groups
        ]
        if self.frozen:
            rows.append(("(frozen)", "", "", "", str(len(self.frozen)), f"{self.n_frozen:,}", self.frozen[0]))
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
        if self.held:
            lines.append(f"(normalised by the statistics of the source: {len(self.held)} layers, first {self.held[0]})")
        return "\n".join(lines)

    __repr__ = __str__

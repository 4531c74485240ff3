"""Learning rates per group of layers: every parameter that learns is in exactly one group.

A pattern is the path of a layer or of a container (matched on dot boundaries), a type of layers, "new", "transferred"
or "*". The most specific one decides: the longest path, then a type (of the layer itself before that of a container
around it), then "new" and "transferred", then "*". Layer-wise decay: Howard and Ruder (2018), arXiv:1801.06146, with
the depths of `depths`.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from model_handler.errors import ModelError, nearest
from model_handler.network.layer_types import is_of_type
from repurpose.training.plan.depths import depths_from_top
from repurpose.training.plan.norm_statistics import learned_statistics
from repurpose.training.plan.optimizers import base_learning_rate, base_weight_decay
from repurpose.training.plan.plan import TrainingPlan

__all__ = ["GroupTable", "ParameterGroup", "make_groups"]

SLOWER = 0.1  # how fast transferred layers learn beside new ones, where nothing else is said


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
    n_numbers: int


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
                f"{group.n_numbers:,}",
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


def make_groups(module: nn.Module, plan: TrainingPlan, new: Collection[str]) -> GroupTable:
    """The groups of the parameters of `module` that require a gradient; those given a rate of 0 count as frozen.

    `new` names the parameters that begin anew. Raises ModelError listing every pattern that matches nothing, with the
    nearest names, and if nothing is left that learns.
    """
    names = _Names(module, new)
    rates = plan.learning_rates or _default_rates(plan)
    starts = plan.epochs_of_start
    if mistakes := [*names.mistakes(plan.learning_rates or {}), *names.mistakes(plan.unfreeze or {})]:
        raise ModelError("\n".join(mistakes))
    units = depths_from_top(module, new) if plan.layer_decay is not None else {}
    found: dict[tuple[Any, ...], list[str]] = {}
    frozen = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
    homeless, learning = [], set()
    for name in names.learning:
        pattern = names.best(rates, name)
        if pattern is None:
            homeless.append(name)
            continue
        start = names.best(starts, name)
        depth = units.get(name, 0)
        rate = float(rates[pattern]) * (plan.layer_decay or 1.0) ** depth
        if rate == 0:
            frozen.append(name)
            continue
        learning.add(name)
        key = (pattern, depth, rate, names.weight_decay(name, plan), 0 if start is None else int(starts[start]))
        found.setdefault(key, []).append(name)
    if homeless:
        some = ", ".join(homeless[:3]) + (", ..." if len(homeless) > 3 else "")
        raise ModelError(
            f'learning_rates says nothing about {len(homeless)} parameters ({some}): add "*" for all others, or name '
            "them; a rate of 0 freezes"
        )
    if never := [pattern for pattern in plan.unfreeze or {} if not any(names.match(pattern, n) for n in learning)]:
        listed = ", ".join(repr(_label(pattern)) for pattern in never)
        raise ModelError(f"unfreeze names {listed}, which learn at a rate of 0, and so never: give them one above 0")
    if not found:
        raise ModelError(
            f"all {len(frozen)} parameters are frozen, so nothing would learn: freeze fewer layers (fixed_layers), or "
            "give some a learning rate above 0"
        )
    sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
    groups = [
        ParameterGroup(
            _label(pattern) + (f" (depth {depth})" if plan.layer_decay is not None else ""),
            rate,
            decay,
            start,
            tuple(members),
            sum(sizes[name] for name in members),
        )
        for (pattern, depth, rate, decay, start), members in found.items()
    ]
    if len(groups) and all(group.from_epoch > 0 for group in groups):
        raise ModelError("nothing would learn in the first epoch (0): every layer is to begin later; see unfreeze")
    held = learned_statistics(module, new) if plan.norm_statistics == "source" else ()
    return GroupTable(tuple(groups), tuple(frozen), sum(sizes[name] for name in frozen), held)


def _default_rates(plan: TrainingPlan) -> dict[Any, float]:
    """With layer-wise decay all begin at one rate; else what is new learns faster, as Xfer had it."""
    rate = base_learning_rate(plan)
    return {"*": rate} if plan.layer_decay is not None else {"new": rate, "transferred": SLOWER * rate}


class _Names:
    """The parameters of a module that learn, and which patterns match them."""

    def __init__(self, module: nn.Module, new: Collection[str]) -> None:
        self.new = set(new)
        self.modules = dict(module.named_modules(remove_duplicate=False))
        aliases: dict[int, list[str]] = {}
        for name, parameter in module.named_parameters(remove_duplicate=False):
            aliases.setdefault(id(parameter), []).append(name)
        own = dict(module.named_parameters())
        self.aliases = {name: aliases[id(parameter)] for name, parameter in own.items()}
        self.learning = [name for name, parameter in own.items() if parameter.requires_grad]
        self.n_axes = {name: parameter.ndim for name, parameter in own.items()}

    def best(self, patterns: Mapping[Any, Any], name: str) -> Any:
        """The most specific of the patterns that match a parameter; None if none does."""
        ranked = [(self._rank(pattern, name), pattern) for pattern in patterns]
        matching = [(rank, pattern) for rank, pattern in ranked if rank is not None]
        return max(matching, key=lambda pair: pair[0])[1] if matching else None

    def match(self, pattern: Any, name: str) -> bool:
        """Whether a pattern matches a parameter."""
        return self._rank(pattern, name) is not None

    def mistakes(self, patterns: Mapping[Any, Any]) -> list[str]:
        """A sentence for each pattern that matches no parameter that learns; "new" and the like may match nothing."""
        return [
            self._no_match(pattern)
            for pattern in patterns
            if pattern not in ("*", "new", "transferred")
            and not any(self.match(pattern, name) for name in self.learning)
        ]

    def weight_decay(self, name: str, plan: TrainingPlan) -> float:
        """None for biases and the weights of normalisation, unless the plan says for all."""
        owner = self.modules[name.rpartition(".")[0]]
        spared = self.n_axes[name] <= 1 or is_of_type(owner, "normalization")
        return 0.0 if spared and not plan.decay_all else base_weight_decay(plan)

    def _rank(self, pattern: Any, name: str) -> tuple[int, int] | None:
        """How specific a match is, or None: paths (3) by length, types (2) by nearness, new and transferred, "*"."""
        if pattern == "*":
            return (0, 0)
        if pattern in ("new", "transferred"):
            return (1, 0) if (name in self.new) == (pattern == "new") else None
        if isinstance(pattern, str) and any(
            alias == pattern or alias.startswith(f"{pattern}.") for alias in self.aliases[name]
        ):
            return (3, len(pattern))
        ancestors = [name.rpartition(".")[0]]
        while ancestors[-1]:
            ancestors.append(ancestors[-1].rpartition(".")[0])
        for distance, path in enumerate(ancestors):
            if is_of_type(self.modules[path], pattern):
                return (2, -distance)
        return None

    def _no_match(self, pattern: Any) -> str:
        every = [path for path in (*self.modules, *self.aliases) if path]
        types = sorted({type(module).__name__ for module in self.modules.values()})
        if any(path == pattern or path.startswith(f"{pattern}.") for path in every):
            return f"{_label(pattern)!r} matches no parameter that learns: it has none, or they are frozen"
        known = ["new", "transferred", *(path for path in self.modules if path), *types]
        near = nearest(_label(pattern), known)
        return f"no layer, container or type of layers is called {_label(pattern)!r}; nearest: {', '.join(near)}"


def _label(pattern: Any) -> str:
    return pattern if isinstance(pattern, str) else pattern.__name__

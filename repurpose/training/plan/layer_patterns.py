"""Patterns name parameters by their layers; where several match, the most specific one decides.

A pattern is the path of a layer or of a container (matched on dot boundaries), a type of layers, "new", "transferred"
or "*". In this order: the longest path, then a type (of the layer itself before that of a container
around it), then "new" and "transferred", then "*".
"""

from collections.abc import Collection, Iterable
from typing import TypeAlias

from torch import nn

from model_handler.errors import nearest
from model_handler.network.layer_types import is_of_type

__all__ = ["LayerPatterns", "Pattern", "label_of"]

Pattern: TypeAlias = str | type


class LayerPatterns:
    """The parameters of a module that learn, and which patterns match them; `new` names those reinitialised."""

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

    def best(self, patterns: Iterable[Pattern], name: str) -> Pattern | None:
        """Find the most specific of the patterns that match a parameter; None if none does."""
        ranked = [(self._rank(pattern, name), pattern) for pattern in patterns]
        matching = [(rank, pattern) for rank, pattern in ranked if rank is not None]
        return max(matching, key=lambda pair: pair[0])[1] if matching else None

    def match(self, pattern: Pattern, name: str) -> bool:
        """Tell whether a pattern matches a parameter."""
        return self._rank(pattern, name) is not None

    def mistakes(self, patterns: Iterable[Pattern]) -> list[str]:
        """Write a sentence for each pattern but "new", "transferred" and "*" that matches no parameter that learns."""
        return [
            self._no_match(pattern)
            for pattern in patterns
            if pattern not in ("*", "new", "transferred")
            and not any(self.match(pattern, name) for name in self.learning)
        ]

    def has_decay_by_default(self, name: str) -> bool:
        """Tell whether a parameter is decayed: biases and the weights of normalisation are not."""
        return self.n_axes[name] > 1 and not is_of_type(self.modules[name.rpartition(".")[0]], "normalization")

    def _rank(self, pattern: Pattern, name: str) -> tuple[int, int] | None:
        """Rank how specific a match is, None for none: paths (3) by length, types (2) by nearness, new (1), "*" (0)."""
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

    def _no_match(self, pattern: Pattern) -> str:
        every = [path for path in (*self.modules, *self.aliases) if path]
        types = sorted({type(module).__name__ for module in self.modules.values()})
        if any(path == pattern or path.startswith(f"{pattern}.") for path in every):
            return f"{label_of(pattern)!r} matches no parameter that learns: it has none, or they are frozen"
        known = ["new", "transferred", *(path for path in self.modules if path), *types]
        near = nearest(label_of(pattern), known)
        return f"no layer, container or type of layers is called {label_of(pattern)!r}; nearest: {', '.join(near)}"


def label_of(pattern: Pattern) -> str:
    """Write a pattern as it is shown: a path as it is, a class by its name."""
    return pattern if isinstance(pattern, str) else pattern.__name__
